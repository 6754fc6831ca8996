"""A Qwen2.5-VL of 60 thousand parameters and rows of the shapes world, small enough to train in a second."""

import pytest
import torch

from r1reward.data.build import training_dataset
from r1reward.data.shapes.rows import preference_row
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.trainer.config import StableReinforceConfig
from tests.quiet import QUIET


@pytest.fixture(scope="session")
def processor():
    return build_processor(tokenizer_corpus(num_rows=200), vocab_size=400)


@pytest.fixture(scope="session")
def rows():
    return [preference_row(0, "train", index) for index in range(32)]


@pytest.fixture(scope="session")
def dataset(rows):
    return training_dataset(rows)


@pytest.fixture
def make_model(processor):
    def make(seed: int = 0):
        torch.manual_seed(seed)
        return build_model(
            processor, hidden_size=32, num_layers=2, vision_hidden_size=16, vision_depth=1, initializer_range=0.2
        )

    return make


@pytest.fixture
def make_arguments(tmp_path):
    """Arguments of an off-policy run: 16 rollouts, two updates of 8, in groups of 4."""

    def make(cls=StableReinforceConfig, **changes):
        arguments = {
            "output_dir": str(tmp_path / "checkpoints"),
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 2,
            "num_generations": 4,
            "max_completion_length": 6,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            **QUIET,
        }
        return cls(**(arguments | changes))

    return make


def letters(completions, **kwargs) -> list[float]:
    """A reward that varies with the text of an untrained model."""
    return [float(sum(map(ord, completion[0]["content"])) % 7) for completion in completions]
