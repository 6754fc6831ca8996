"""The trainers that are compared, with a clock on every part of a step."""

import time
from collections import defaultdict
from contextlib import contextmanager

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from r1reward.data.images import decode_columns
from r1reward.speed.workload import Shape
from r1reward.trainer.config import StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer

UPDATES = 2  # optimiser steps per rollout batch, as in the R1-Reward paper (256 rollouts, 128 per step)


class Clock:
    """Seconds by part; a part inside another is taken off the outer one."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[float] = []

    @contextmanager
    def part(self, name: str):
        started, inner = _now(), len(self._open)
        self._open.append(0.0)
        try:
            yield
        finally:
            spent = _now() - started
            self.seconds[name] += spent - self._open.pop()
            if inner:
                self._open[-1] += spent


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class _Timed:
    """Mixin: puts a clock on the hooks of a `GRPOTrainer`."""

    clock: Clock

    def _generate_and_score_completions(self, inputs):
        with self.clock.part("preparation"):
            return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, *args, **kwargs):
        with self.clock.part("rollout"):
            return super()._generate_single_turn(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        if torch.is_grad_enabled():
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        with self.clock.part("reference" if model is self.ref_model else "old"):
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)

    def _calculate_rewards(self, *args, **kwargs):
        with self.clock.part("rewards"):
            return super()._calculate_rewards(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        with self.clock.part("update"):
            return super().training_step(*args, **kwargs)


class _OptimizerClock(TrainerCallback):
    """The optimiser's step belongs to the update; the whole step is what lies between the first and the last of a run."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_train_begin(self, *args, **kwargs):
        self.started = _now()

    def on_pre_optimizer_step(self, *args, **kwargs):
        self.before = _now()

    def on_optimizer_step(self, *args, **kwargs):
        self.clock.seconds["update"] += _now() - self.before

    def on_train_end(self, *args, **kwargs):
        self.clock.seconds["step"] += _now() - self.started


class TimedStock(_Timed, GRPOTrainer):
    """Stock TRL, but for decoding the images, which its data set would have to hold decoded."""

    def _generate_and_score_completions(self, inputs):
        return super()._generate_and_score_completions(decode_columns(inputs))


class TimedOurs(_Timed, StableReinforceTrainer):
    """StableReinforce, with a clock on what it adds to GRPO too."""

    def _advantages(self, batch):
        with self.clock.part("additions"):
            return super()._advantages(batch)

    def _pre_clip(self, log_probs, old):
        with self.clock.part("additions"):
            return super()._pre_clip(log_probs, old)


def length_of_text(completions, **kwargs) -> list[float]:
    """A reward that costs nothing and varies."""
    return [float(sum(map(ord, completion[0]["content"])) % 7) for completion in completions]


def build(kind: str, shape: Shape, model_path: str, load, rows, processor, folder: str, options: dict):
    """A trainer of one kind for one rollout batch of `UPDATES` optimiser steps per call of `train`.

    Args:
        kind: `stock`, `ours`, or `unshared` (ours with sharing off).
        shape: Sizes.
        model_path: Folder of the model; the reference model is loaded from it too.
        load: Loads a model from a path.
        rows: Training rows.
        processor: The processor.
        folder: Where the trainer may write.
        options: Further arguments for all kinds.
    """
    from datasets import Dataset

    arguments = {
        "output_dir": folder,
        "per_device_train_batch_size": shape.prompts * shape.generations // UPDATES,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": UPDATES,
        "num_generations": shape.generations,
        "max_completion_length": shape.completion,
        "generation_kwargs": {"min_new_tokens": shape.completion},
        "max_steps": UPDATES,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "beta": 0.04,
        "use_bias_correction_kl": False,
        "loss_type": "grpo",
        "top_k": 0,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "log_multimodal": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "seed": 0,
        **options,
    }
    common = {"train_dataset": Dataset.from_list(rows), "processing_class": processor}
    model = load(model_path)
    if kind == "stock":
        trainer = TimedStock(model=model, reward_funcs=length_of_text, args=GRPOConfig(**arguments), **common)
    else:
        own = {"advantage_estimator": "group", "share_prefix": kind == "ours", "filter_threshold": 1.5}
        trainer = TimedOurs(model=model, reward_funcs=length_of_text, args=StableReinforceConfig(**arguments, **own), **common)
    trainer.clock = Clock()
    trainer.add_callback(_OptimizerClock(trainer.clock))
    trainer.remove_callback(PrinterCallback)
    return trainer


def trial(trainer) -> dict[str, float]:
    """Seconds of one rollout batch, by part."""
    trainer.clock.seconds.clear()
    trainer.train()
    return dict(trainer.clock.seconds)
