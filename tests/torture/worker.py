"""What the torture tests start in place of `python -m r1reward.train`: the same command, which also writes down what it does.

    python -m tests.torture.worker LOG HOLD ARGUMENTS...

LOG gets one JSON line whenever another phase begins, with the CPU time until then; a phase lasts until the next one. HOLD is
JSON: null, or {"phase": ..., "step": ..., "signals": n}. The worker does not leave that phase before it has handled so many
signals (0: ever), so whoever sends one at a random moment cannot miss it. A step of null holds the phase where it first occurs.

The named methods run as they are; only what comes before and after each is written down.
"""

import functools
import json
import math
import os
import sys
import time

from r1reward import train
from r1reward.tracking.run_folder import RunFolder
from r1reward.trainer.checkpoints import Checkpoints
from r1reward.trainer.job import Job
from r1reward.trainer.signals import StopSignals
from r1reward.trainer.stable_reinforce import StableReinforceTrainer

EVALUATIONS = {"accuracy before training": "evaluation before", "accuracy after training": "evaluation after"}


class Progress:
    """Writes the log and holds the phase that is to be held."""

    def __init__(self, log: str, hold: dict | None):
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._hold = hold
        self._phase: str | None = None
        self._step: int | None = None
        self._signals = 0  # handled so far
        self.trainer: StableReinforceTrainer | None = None

    def enter(self, phase: str):
        """From now on it is this phase, at the trainer's present step."""
        step = epoch = None
        if self.trainer is not None:
            step = self.trainer.state.global_step
            epoch = None if self.trainer._sampler is None else self.trainer._sampler.epoch
        if (phase, step) == (self._phase, self._step):
            return
        self._stay()
        self._phase, self._step = phase, step
        self._write({"phase": phase, "step": step, "epoch": epoch, "cpu": time.process_time()})

    def resumed(self, step: int):
        self._write({"resumed": step})

    def signalled(self):
        self._signals += 1
        self._write({"signals": self._signals})

    def _stay(self):
        hold = self._hold
        if hold is None or self._phase != hold["phase"] or hold["step"] not in (None, self._step):
            return
        self._hold, needed = None, hold["signals"] or math.inf
        if self._signals < needed:
            self._write({"held": True})
        while self._signals < needed:
            time.sleep(0.005)

    def _write(self, entry: dict):
        os.write(self._log, (json.dumps(entry) + "\n").encode())


def watch(progress: Progress):
    """Let the methods in which a run spends its time say so."""

    def during(owner, name: str, phase, after: str | None = "between"):
        """`phase` begins when the method is called; `after` where it returns (None: the phase goes on)."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def watched(self, *args, **kwargs):
            progress.enter(phase(*args) if callable(phase) else phase)
            returned = method(self, *args, **kwargs)
            if after is not None:
                progress.enter(after)
            return returned

        setattr(owner, name, watched)

    def before(owner, name: str, action):
        method = getattr(owner, name)

        @functools.wraps(method)
        def watched(self, *args, **kwargs):
            action(self, *args, **kwargs)
            return method(self, *args, **kwargs)

        setattr(owner, name, watched)

    prepare = Job.prepare

    def preparing(*args):
        progress.enter("preparing")
        return prepare(*args)

    def restoring(trainer, checkpoint, *_):
        progress.enter("restoring")
        progress.resumed(int(os.path.basename(checkpoint).rpartition("-")[2]))

    def take(trainer, *_, **__):
        progress.trainer = trainer

    Job.prepare = preparing
    during(Job, "run", "loading", after=None)
    during(Job, "_evaluate", lambda model, processor, title: EVALUATIONS.get(title, "evaluation"))
    during(Job, "_save_model", "final model")
    during(RunFolder, "write_summary", "summary")
    before(StableReinforceTrainer, "train", take)
    before(StableReinforceTrainer, "_load_from_checkpoint", restoring)
    during(StableReinforceTrainer, "_generate_and_score_completions", "rollout")
    during(StableReinforceTrainer, "compute_loss", "update", after=None)  # goes on through backward and optimiser
    during(StableReinforceTrainer, "_maybe_log_save_evaluate", "recording")
    during(StableReinforceTrainer, "_save_checkpoint", "checkpoint")
    during(Checkpoints, "finish", "sealing")
    before(StopSignals, "_handle", lambda *_: progress.signalled())


if __name__ == "__main__":
    log, hold, *arguments = sys.argv[1:]
    watch(Progress(log, json.loads(hold)))
    sys.argv = [train.__file__, *arguments]
    train.main()
