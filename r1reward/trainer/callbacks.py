"""What listens to the trainer: the record of metrics and the progress bar."""

from collections.abc import Callable
from signal import Signals

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from r1reward.tracking.run_folder import RunFolder
from r1reward.tracking.trackers import Tracker
from r1reward.trainer.resumable import ResumableTrainer
from r1reward.trainer.signals import StopSignals


class MetricsRecorder(TrainerCallback):
    """Writes the metrics of every optimiser step to the run folder and the tracker."""

    def __init__(self, run: RunFolder, tracker: Tracker):
        self.run = run
        self.tracker = tracker

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and "loss" in logs:
            self.run.write_metrics(state.global_step, logs)
            self.tracker.log(logs, step=state.global_step)
        state.log_history.clear()  # every checkpoint would hold it, and the run folder has it


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


class HeldOutAccuracy(TrainerCallback):
    """Measures accuracy every `every` optimiser steps, into the metrics of the step and as the score of its checkpoint.

    Args:
        trainer: The trainer.
        every: Optimiser steps.
        evaluate: Called with a title; gives a summary by split (`BothOrders.summary`).
    """

    def __init__(self, trainer: ResumableTrainer, every: int, evaluate: Callable[[str], dict]):
        self.trainer, self.every, self.evaluate = trainer, every, evaluate

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.score = None
        if state.global_step % self.every:
            return
        for split, summary in self.evaluate(f"accuracy at step {state.global_step}").items():
            accuracy = summary["accuracy"]["mean"]
            self.trainer._metrics["train"][f"evaluation/{split}/accuracy"].append(accuracy)
            if split == "held_out":
                self.trainer.score = accuracy


class StopOnSignal(TrainerCallback):
    """Once a signal came on any process: all finish the present micro-step, write a checkpoint together, and stop."""

    def __init__(self, signals: StopSignals):
        self.signals = signals

    def on_substep_end(self, args, state, control, **kwargs):
        number = torch.tensor(int(self.signals.received or 0), device=args.device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        if number:
            self.signals.received = self.signals.received or Signals(number.item())
            control.should_save = control.should_training_stop = True
        return control

    on_step_end = on_substep_end
