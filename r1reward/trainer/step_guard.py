"""Keeps a loss or gradient that is not finite away from the weights: the step is skipped, counted, and saved for inspection.

    forward, backward        `saw_loss`, `saw_gradients`: what the step was computed from, by reference
    on_pre_optimizer_step    all processes agree; gradients are dropped, so that no weight, no moment and no weight decay acts
    on_log                   the metrics of the step are written; then, after too many in a row, the run stops

The gradients are looked at before they are clipped: a norm that is not finite turns every one of them into NaN or 0, and nobody
could tell any more where it came from. A gradient of 1.8e19 or more counts as not finite: its square overflows float32, and
with it Adam's second moment. The learning-rate schedule goes on over a skipped step.

With fp16 the gradient scaler skips steps whose scaled gradients overflow, which is its normal working; here only the loss is
looked at then. With FSDP each process looks at its shards. DeepSpeed keeps its gradients to itself and steps inside the
backward pass, so that no step can be skipped: a loss that is not finite ends the run before that pass, and gradients are
DeepSpeed's to check (it does with fp16, and with bf16 where its config sets `check_grad_overflow`).
"""

import logging
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from r1reward.trainer.collapse import Collapse
from r1reward.trainer.step_diagnosis import TENSORS, Diagnosis, MicroBatch, diagnose, merge, save_diagnosis, save_tensors

logger = logging.getLogger(__name__)

LARGEST_NORM = torch.finfo(torch.float32).max ** 0.5  # 1.8e19, of a gradient whose squares fit into float32
MOST_SAVED = 10  # skipped steps of a run that are saved; the others are only counted


class NumericalTrouble(RuntimeError):
    """Too many optimiser steps in a row had a loss or gradient that is not finite; the message is the diagnosis."""


class StepGuard(TrainerCallback):
    """Skips optimiser steps whose loss or gradient is not finite. `StableReinforceTrainer(step_guard=...)` sets it to work.

    Args:
        folder: The run folder; files go to its `debug/`.
        on_collapse: After too many steps in a row, `stop` raises `NumericalTrouble` on all processes alike, `record` ends the
            training and notes a `Collapse`, which is then the run's result.
        max_skipped_steps: So many in a row are too many.

    Attributes:
        trainer: Set by the trainer that it guards.
        skipped: Steps skipped so far.
        in_a_row: Steps skipped since the last sound one.
        collapse: Where and why training ended, with `record`.
    """

    def __init__(self, folder: str | Path, on_collapse: Literal["stop", "record"] = "stop", max_skipped_steps: int = 3):
        self.folder = Path(folder)
        self.on_collapse = on_collapse
        self.max_skipped_steps = max_skipped_steps
        self.trainer = None
        self.skipped = 0
        self.in_a_row = 0
        self.collapse: Collapse | None = None
        self._first: int | None = None  # step of those in a row
        self._micro_batches: list[MicroBatch] = []  # of the present step
        self._names: list[str] = []  # of the parameters that have gradients
        self._norms: torch.Tensor | None = None  # of their gradients
        self._message: str | None = None  # of the error that is raised once the step is logged

    # ---- what the step is computed from --------------------------------------------------------------------------------

    def saw_loss(self, inputs: dict, log_probs: torch.Tensor, loss: torch.Tensor):
        """Called after the forward pass of each micro-batch.

        Args:
            inputs: The micro-batch.
            log_probs: (B, T) of its completions under the present policy, before Pre-CLIP.
            loss: 0-d.
        """
        tensors = {name: inputs[name] for name in TENSORS if inputs.get(name) is not None}
        self._micro_batches.append(MicroBatch(tensors | {"log_probs": log_probs}, loss.detach(), self.trainer.rollout_ids))
        if self.trainer.is_deepspeed_enabled and self._any_process(~loss.detach().isfinite()):
            raise NumericalTrouble(self._stop_message(*self._skip(self.trainer.state.global_step + 1)))

    def saw_gradients(self):
        """Called after the last backward pass of an optimiser step, before gradients are clipped."""
        self._names, self._norms = [], None
        if self.trainer.accelerator.scaler is not None:
            return
        found = [(name, p.grad) for name, p in self.trainer.model.named_parameters() if p.grad is not None]
        if found:
            self._names = [name for name, _ in found]
            local = (getattr(grad, "_local_tensor", grad) for _, grad in found)  # a shard, with FSDP
            device = self.trainer.accelerator.device
            self._norms = torch.stack(
                [
                    torch.linalg.vector_norm(grad, dtype=torch.promote_types(grad.dtype, torch.float32)).to(device)
                    for grad in local
                ]
            )

    # ---- decision ------------------------------------------------------------------------------------------------------

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        bad = ~torch.stack([x.loss for x in self._micro_batches]).isfinite().all()
        if self._norms is not None:
            bad = bad | ~(torch.linalg.vector_norm(self._norms) < LARGEST_NORM)
        if self._any_process(bad):
            diagnosis, saved = self._skip(state.global_step + 1)
            for parameter in self.trainer.model.parameters():
                parameter.grad = None  # a parameter without one is left out of the optimiser's step, weight decay included
            if self.in_a_row >= self.max_skipped_steps:
                self._give_up(diagnosis, saved, control)
        else:
            self.in_a_row, self._first = 0, None
        self.trainer._metrics["train"]["skipped_steps"] = [self.skipped]
        self._micro_batches, self._names, self._norms = [], [], None

    def _any_process(self, flag: torch.Tensor) -> bool:
        accelerator = self.trainer.accelerator
        return accelerator.reduce(flag.float().to(accelerator.device), reduction="sum").item() > 0

    def _skip(self, step: int) -> tuple[Diagnosis, str]:
        """Count, diagnose and save: the diagnosis, the same on all processes, and where it was saved."""
        self.skipped += 1
        self.in_a_row += 1
        self._first = self._first or step
        trainer, rank = self.trainer, self.trainer.accelerator.process_index
        log_bounds = None
        if trainer.args.pre_clip:
            bounds = torch.tensor([trainer.args.delta_min, trainer.args.delta_max])
            log_bounds = tuple(bounds.log().tolist())
        broken = [] if self._norms is None else (~(self._norms < LARGEST_NORM)).tolist()
        mine = diagnose(
            step,
            self._micro_batches,
            [name for name, bad in zip(self._names, broken, strict=True) if bad],
            trainer._get_learning_rate(),
            getattr(trainer.processing_class, "tokenizer", trainer.processing_class).decode,
            rank=rank,
            log_bounds=log_bounds,
            sequence_level=trainer.args.importance_sampling_level == "sequence",
        )
        diagnosis = merge(gather_object([mine]))
        saved = self._save(diagnosis, mine, rank)
        if trainer.accelerator.is_main_process:
            logger.warning("optimiser step %d was skipped:\n%s", step, diagnosis.describe(saved))
        return diagnosis, saved

    def _save(self, diagnosis: Diagnosis, mine: Diagnosis, rank: int) -> str:
        """Write the debug files of this process; says where, or why not."""
        if self.skipped > MOST_SAVED:
            return f"not saved: those of {MOST_SAVED} skipped steps are there already"
        name = f"step_{diagnosis.step}"
        error = None
        if rank == 0:
            error = save_diagnosis(diagnosis, self.folder / "debug" / f"{name}.json")
        if rank == 0 or mine.broken_rows:
            file = f"{name}.safetensors" if rank == 0 else f"{name}-rank{rank}.safetensors"
            error = save_tensors(self._micro_batches, self.folder / "debug" / file) or error
        return f"not saved: {error}" if error else str(self.folder / "debug" / f"{name}.safetensors")

    # ---- the end -------------------------------------------------------------------------------------------------------

    def _give_up(self, diagnosis: Diagnosis, saved: str, control):
        if self.on_collapse == "stop":
            self._message = self._stop_message(diagnosis, saved)
        else:
            steps = f"{self.in_a_row} steps in a row" if self.in_a_row > 1 else "a step"
            reason = f"{steps} without a finite loss and gradient (first bad: {diagnosis.what})"
            self.collapse = Collapse(True, self._first, reason, self.skipped)
            control.should_training_stop = True

    def _stop_message(self, diagnosis: Diagnosis, saved: str) -> str:
        span = f"steps {self._first} to {diagnosis.step}" if self.in_a_row > 1 else f"step {diagnosis.step}"
        return (
            f"{span}: the loss or a gradient is not finite, {self.in_a_row} in a row ({self.skipped} skipped in all); "
            f"none of them changed the weights. Step {diagnosis.step}:\n{diagnosis.describe(saved)}\n"
            f"Remedy: {diagnosis.remedy()}. Where a collapse is a result: trainer.on_collapse=record."
        )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            # The trainer empties its sum of losses by subtracting it from itself, and NaN - NaN is NaN for ever after.
            self.trainer._tr_loss.nan_to_num_(nan=0.0)
        if self._message is not None:
            raise NumericalTrouble(self._message)

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= self._message is not None

    # ---- restart -------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether a collapse was recorded: a run that is taken up after it trains no further."""
        return self.collapse is not None

    def state_dict(self) -> dict:
        collapse = None if self.collapse is None else vars(self.collapse)
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "first": self._first, "collapse": collapse}

    def load_state_dict(self, state: dict):
        self.skipped, self.in_a_row, self._first = state["skipped"], state["in_a_row"], state["first"]
        self.collapse = None if state["collapse"] is None else Collapse(**state["collapse"])
