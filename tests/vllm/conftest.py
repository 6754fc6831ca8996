"""Real vLLM on the embedded model: `make test-vllm`, in an environment that has it. Elsewhere there are no such tests."""

import os
from importlib.util import find_spec

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # before vLLM is imported: its engine in this process
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB

import pytest
import torch

from r1reward.data.build import training_dataset
from r1reward.data.shapes.rows import preference_row
from r1reward.models.loading import ModelSettings, load_model, load_processor
from r1reward.trainer.config import StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.quiet import QUIET, one_thread

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

EMBEDDED = ModelSettings("embedded")
ENGINE = {"enforce_eager": True, "max_model_len": 1024, "gpu_memory_utilization": 0.1}
_one_thread = pytest.fixture(scope="session", autouse=True)(one_thread)


@pytest.fixture(scope="session")
def processor():
    return load_processor(EMBEDDED)


@pytest.fixture(scope="session")
def rows():
    return [preference_row(0, "held_out", index) for index in range(32)]


@pytest.fixture
def make_trainer(tmp_path, rows, processor):
    """Trainers of the embedded model; rewards are of no matter here."""

    def make(model=None, data=None, use_vllm=True, dtype="float32", **changes):
        arguments = {
            "output_dir": str(tmp_path / "checkpoints"),
            "per_device_train_batch_size": 16,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 2,
            "num_generations": 4,
            "max_completion_length": 48,
            "max_steps": 2,
            "learning_rate": 1e-4,
            "lr_scheduler_type": "constant",
            "filter_threshold": 2.9,
            **QUIET,
            "use_vllm": use_vllm,
        }
        if use_vllm:
            arguments["vllm_engine_kwargs"] = {**ENGINE, "dtype": dtype}
        return StableReinforceTrainer(
            model=model or load_model(EMBEDDED),
            reward_funcs=lambda completions, **columns: [float(len(c[0]["content"]) % 3) for c in completions],
            args=StableReinforceConfig(**(arguments | changes)),
            train_dataset=training_dataset(data or rows[:8]),
            processing_class=processor,
        )

    return make


def first_batch(trainer, rows=None) -> dict:
    """One rollout batch, before it is split."""
    trainer.model.train()
    torch.manual_seed(0)
    return trainer._generate_and_score_completions(rows or next(iter(trainer.get_train_dataloader())))


def gap(batch: dict) -> torch.Tensor:
    """Absolute differences, in nats, between the sampler's and the trainer's log-probabilities of all sampled tokens."""
    difference = (batch["sampling_per_token_logps"] - batch["old_per_token_logps"]).abs()
    return difference[batch["completion_mask"].bool()]
