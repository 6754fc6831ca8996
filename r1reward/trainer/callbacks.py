"""What listens to the trainer: the record of metrics, the progress bar, and the guard against a broken step."""

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from r1reward.tracking.run_folder import RunFolder
from r1reward.tracking.trackers import Tracker
from r1reward.trainer.collapse import Collapse


class MetricsRecorder(TrainerCallback):
    """Writes the metrics of every optimiser step to the run folder and the tracker."""

    def __init__(self, run: RunFolder, tracker: Tracker):
        self.run = run
        self.tracker = tracker

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and "loss" in logs:
            self.run.write_metrics(state.global_step, logs)
            self.tracker.log(logs, step=state.global_step)


class ProgressBar(TrainerCallback):
    """One line: optimiser steps with an estimate, the reward, and the share of right and of well-formed verdicts."""

    def __init__(self):
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and logs and "reward" in logs:
            shown = {"reward": logs["reward"]}
            for label, name in (("right", "rewards/result/mean"), ("format", "rewards/format/mean")):
                if logs.get(name) is not None:
                    shown[label] = logs[name]
            self.bar.set_postfix({key: f"{value:.2f}" for key, value in shown.items()}, refresh=False)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()


class CollapseGuard(TrainerCallback):
    """Keeps a gradient that is not finite away from the weights, and ends the run there.

    The run's record is still finished: for a baseline that collapses, the collapse is the result.
    """

    def __init__(self):
        self.collapse: Collapse | None = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parameters = [p for p in model.parameters() if p.grad is not None]
        if not parameters:  # an optimiser that keeps the gradients to itself, such as DeepSpeed's, checks them itself
            return control
        norms = torch.stack([p.grad.norm() for p in parameters])
        if not norms.isfinite().all():
            for parameter in parameters:
                parameter.grad = None
            self.collapse = Collapse(True, state.global_step + 1, "a gradient is not finite")
            control.should_training_stop = True
        return control
