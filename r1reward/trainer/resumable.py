"""A trainer that goes on where it was stopped, as if it had not been: the layer that saves and restores.

Stock TRL saves weights, optimiser, schedule and random states, restores Qwen2.5-VL to its base weights, draws new rollouts in
the middle of a rollout batch, and begins every epoch's order of rows anew. What each hook adds:

- `_run_epoch`, `_get_train_sampler`: the order of rows follows from the seed and the number of the epoch;
- `_prepare_inputs`: notes where the present optimiser step began, and serves the rollout batch that was restored;
- `_save_checkpoint`: writes whole checkpoints (`r1reward.trainer.checkpoints`), with the rollout batch and all states;
- `_load_from_checkpoint`: really restores the weights, and the reference model's where it moves;
- `_load_optimizer_and_scheduler`: goes on with the learning rate of the present schedule;
- `_load_rng_state`: restores all states, at the moment at which the trainer wants its random generators.

A checkpoint may be written in the middle of an optimiser step (a signal came): the weights are still those of the step's
beginning, so what is saved is that beginning, with the rollout batch if one was sampled since.
"""

import os
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerState
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput
from trl.trainer.utils import RepeatSampler

from r1reward.trainer.checkpoints import Checkpoints
from r1reward.trainer.randomness import random_states, set_random_states
from r1reward.trainer.shared_prefix import SharedPrefixTrainer
from r1reward.trainer.tree import load_tree, save_tree

# With several processes on a CPU, transformers 5.17 restores optimisers to "cpu:0", a place that torch 2.13 does not know.
torch.serialization.register_package(
    30, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)

REFERENCE = "reference"  # folder of the reference model inside a checkpoint


class Stateful(Protocol):
    """Something with a state that a checkpoint keeps, as plain JSON values. A true attribute `ended` ends the training."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class EpochSampler(RepeatSampler):
    """TRL's sampler with an order of rows that depends on the seed and the epoch alone; it is TRL's order, in every epoch."""

    epoch = 0

    def __iter__(self):
        if self.shuffle and self.seed is not None:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        return super().__iter__()


class ResumableTrainer(SharedPrefixTrainer):
    """`SharedPrefixTrainer` whose checkpoints restore everything.

    Attributes:
        checkpoints: The checkpoints in `args.output_dir`.
        stateful: By name, what else has a state that checkpoints keep.
        score: Of the present weights, where they were evaluated in this step; what `args.keep_best` compares.
    """

    def __init__(self, *args, stateful: dict[str, Stateful] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.checkpoints = Checkpoints(Path(self.args.output_dir), self.args.keep_last, self.args.keep_best)
        self.stateful = dict(stateful or {})
        self.score: float | None = None
        self.rollout_ids: list[str] = []  # ids of the rows of the present rollout batch
        self._sampler: EpochSampler | None = None
        self._beginning: dict | None = None  # of the present optimiser step
        self._beginning_of: int | None = None  # the global step at which it was noted
        self._restored: dict | None = None  # a checkpoint's state that waits for its moment
        self._saving_to: Path | None = None

    # ---- order of rows -------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset=None):
        stock = super()._get_train_sampler(dataset)
        self._sampler = EpochSampler(
            stock.data_source, stock.mini_repeat_count, stock.batch_size, stock.repeat_count, stock.shuffle, stock.seed
        )
        return self._sampler

    def _run_epoch(self, *args, epoch, **kwargs):
        if self._sampler is not None:
            self._sampler.epoch = epoch
        return super()._run_epoch(*args, epoch=epoch, **kwargs)

    # ---- where a step began --------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch):
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self._restored is not None:  # the checkpoint was written after this rollout batch was sampled
            set_random_states(self._restored["random"])
            self._restored = None
            inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        else:
            inputs = super()._prepare_inputs(generation_batch)
        if self._beginning_of != self.state.global_step:
            self._beginning, self._beginning_of = self._moment(within_step=True), self.state.global_step
        return inputs

    def _moment(self, within_step: bool) -> dict[str, Any]:
        """What a restart needs besides weights, optimiser and rollouts, of what changes from one micro-step to the next."""
        return {
            "within_step": within_step,
            "micro_step": self._step,
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            "random": random_states(),
        }

    # ---- saving --------------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial):
        return super()._get_output_dir(trial) if self._saving_to is None else str(self._saving_to)

    def create_model_card(self, *args, **kwargs):
        """Nothing: the run folder says what a checkpoint is, and TRL would write a card with every one."""

    def _save_checkpoint(self, model, trial):
        main, step = self.accelerator.is_main_process, self.state.global_step
        if main:
            self.checkpoints.begin()
        self.accelerator.wait_for_everyone()
        self._saving_to = self.checkpoints.partial
        try:
            super()._save_checkpoint(model, trial)
            parts = self.checkpoints.partial / self.checkpoints.path(step).name
            parts.mkdir(parents=True, exist_ok=True)  # the main process may not be here yet
            save_tree(self._state(), parts / self._state_name)
            if self.args.sync_ref_model and main:
                self.accelerator.unwrap_model(self.ref_model).save_pretrained(parts / REFERENCE)
            self.accelerator.wait_for_everyone()
            if main:
                self.checkpoints.finish(parts, step, self.score)
        except BaseException:
            self.checkpoints.abandon()
            raise
        finally:
            self._saving_to = None
        self.accelerator.wait_for_everyone()

    def _save_rng_state(self, output_dir):
        """Nothing: `_state` has them."""

    @property
    def _state_name(self) -> str:
        return f"state-{self.accelerator.process_index}"

    def _state(self) -> dict:
        moment = self._moment(within_step=False)
        if self._beginning_of == self.state.global_step:  # a step has begun and is not finished
            moment = self._beginning
        cycle = self.args.steps_per_generation * self.num_iterations
        in_use = moment["within_step"] or moment["micro_step"] % cycle != 0
        return {
            "processes": self.accelerator.num_processes,
            "moment": moment,
            "rollouts": self._buffered_inputs if in_use else None,
            "rollout_ids": self.rollout_ids if in_use else [],
            "score": self.score,
            "ended": any(getattr(part, "ended", False) for part in self.stateful.values()),
            "stateful": {name: part.state_dict() for name, part in self.stateful.items()},
        }

    # ---- restoring -----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | os.PathLike | bool | None = None, **kwargs):
        """Train; `resume_from_checkpoint` is a checkpoint's folder, or True for the newest whole one of `args.output_dir`.

        Raises:
            DamagedCheckpoint: The folder is not what was written.
            ValueError: It was written by another number of processes.
        """
        if resume_from_checkpoint is True:
            found = [self.checkpoints.newest() if self.accelerator.is_main_process else None]
            resume_from_checkpoint = broadcast_object_list(found)[0]
        elif resume_from_checkpoint and self.accelerator.is_main_process:
            self.checkpoints.check(Path(resume_from_checkpoint))
        if resume_from_checkpoint:
            written = len(list(Path(resume_from_checkpoint).glob("state-*.json")))
            if written != self.accelerator.num_processes:
                raise ValueError(
                    f"{resume_from_checkpoint} was written by {written} processes and cannot go on with "
                    f"{self.accelerator.num_processes}: each has rollouts and random states of its own. Start {written}."
                )
            resume_from_checkpoint = str(resume_from_checkpoint)
            state = TrainerState.load_from_json(os.path.join(resume_from_checkpoint, TRAINER_STATE_NAME))
            last = self.args.max_steps if self.args.max_steps > 0 else state.max_steps
            if state.global_step >= last or self._load_state(resume_from_checkpoint)["ended"]:
                return self._restore_finished(resume_from_checkpoint, state)
        return super().train(resume_from_checkpoint=resume_from_checkpoint or None, **kwargs)

    def _restore_finished(self, checkpoint: str, state: TrainerState) -> TrainOutput:
        """A finished training needs its weights and states only; the stock loop would add a step."""
        self._load_from_checkpoint(checkpoint)
        self._load_rng_state(checkpoint)
        self.state = state
        if self.accelerator.is_main_process:
            self.checkpoints.tidy()  # no checkpoint comes any more that would do so
        return TrainOutput(state.global_step, 0.0, {})

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """Restore the weights through `from_pretrained`, which knows the key names that `save_pretrained` wrote.

        The stock method loads the file's keys as they are; for families whose saved names differ from their module names
        (Qwen2-VL and Qwen2.5-VL among them) nearly every weight then keeps its base value, with one warning
        (transformers issue 43701).
        """
        model = model if model is not None else self.model
        plain = hasattr(type(model), "from_pretrained") and not hasattr(model, "peft_config")
        if not plain or self.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(model, resume_from_checkpoint)
        reference = os.path.join(resume_from_checkpoint, REFERENCE)
        if self.args.sync_ref_model and os.path.isdir(reference):  # not there if it moves only since the run was taken up
            load_weights(self.accelerator.unwrap_model(self.ref_model), reference)

    def _load_optimizer_and_scheduler(self, checkpoint):
        """Restore them; where the run was extended, the next step's learning rate is that of the new schedule."""
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        if checkpoint is not None and isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
            schedule._last_lr = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
            for group, rate in zip(self.optimizer.param_groups, schedule._last_lr, strict=True):
                group["lr"] = rate

    def _load_state(self, checkpoint: str | os.PathLike) -> dict:
        return load_tree(Path(checkpoint) / self._state_name, self.accelerator.device)

    def _load_rng_state(self, checkpoint):
        if checkpoint is None:
            return
        state = self._load_state(checkpoint)
        moment = state["moment"]
        moment["random"] = {name: x.cpu() if isinstance(x, torch.Tensor) else x for name, x in moment["random"].items()}
        self._step, self._buffered_inputs, self.rollout_ids = moment["micro_step"], state["rollouts"], state["rollout_ids"]
        if self._buffered_inputs is None and self._step % (self.args.steps_per_generation * self.num_iterations):
            self._step = 0  # other batch sizes than before: a rollout batch begins here all the same
        self._metrics["train"].update(moment["metrics"])
        self.score = state["score"]
        for name, part in self.stateful.items():
            part.load_state_dict(state["stateful"][name])
        if moment["within_step"]:
            self._restored = moment  # the data loader still draws before the rollouts are served
        else:
            set_random_states(moment["random"])


def load_weights(model, folder: str | os.PathLike):
    """Give a model the weights that `save_pretrained` wrote, every one of them."""
    saved = type(model).from_pretrained(folder, dtype="auto")
    model.load_state_dict(saved.state_dict(), strict=True)
