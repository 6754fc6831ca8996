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
    """One line: optimiser steps with an estimate, the mean reward, and of one task its first term (of verdicts, the share of
    right ones) and format, of several tasks the first terms."""

    def __init__(self):
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and logs and "reward" in logs:
            shown = {"reward": logs["reward"]} | shown_terms(logs)
            known = {key: f"{value:.2f}" for key, value in shown.items() if value is not None}
            self.bar.set_postfix(known, refresh=False)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()


def shown_terms(logs: dict) -> dict[str, float | None]:
    """The terms of the reward that a narrow line has room for, by their labels (see `ProgressBar`)."""
    tasks: dict[str, dict[str, float | None]] = {}  # by task, which is "" where terms are not named by it
    for name, value in logs.items():
        kind, *task, term, statistic = name.split("/") if name.count("/") > 1 else ("", "", "")
        if kind == "rewards" and statistic == "mean" and (task or term != "total"):
            tasks.setdefault("/".join(task), {})[term] = value
    if len(tasks) != 1:
        return {task: next(iter(terms.values())) for task, terms in tasks.items()}
    ((first, value), *others) = next(iter(tasks.values())).items()
    shown = {"right" if first == "result" else first: value}
    return shown | {term: value for term, value in others if term == "format"}


class HeldOutAccuracy(TrainerCallback):
    """Measures accuracy every `every` optimiser steps, into the metrics of the step and as the score of its checkpoint.

    Args:
        trainer: The trainer.
        every: Optimiser steps.
        evaluate: Called with a title; gives a summary by split (`r1reward.benchmarks.accuracy.measure`).
    """

    def __init__(self, trainer: ResumableTrainer, every: int, evaluate: Callable[[str], dict]):
        self.trainer, self.every, self.evaluate = trainer, every, evaluate

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.score = None
        if state.global_step % self.every:
            return
        for split, summary in self.evaluate(f"accuracy at step {state.global_step}").items():
            tasks = summary.get("by_task", {})
            measured = {split: summary} | ({f"{split}/{task}": tasks[task] for task in tasks} if len(tasks) > 1 else {})
            for name, of in measured.items():
                if of["accuracy"] is not None:  # none of its rows could be scored
                    self.trainer._metrics["train"][f"evaluation/{name}/accuracy"].append(of["accuracy"]["mean"])
            if split == "held_out" and summary["accuracy"] is not None:
                self.trainer.score = summary["accuracy"]["mean"]


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
