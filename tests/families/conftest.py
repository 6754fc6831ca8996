"""Each family once per session: built, saved, loaded back through the Auto classes; and rows of referring expressions."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from r1reward.configs import CONFIG_FOLDER
from r1reward.data.build import training_dataset
from r1reward.data.images import open_image
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.models.coordinates import Coordinates, coordinates_of
from r1reward.models.loading import ModelSettings, load_model, load_processor
from r1reward.parsing import parse_settings
from r1reward.rewards.build import build_reward
from r1reward.rewards.registry import Context
from r1reward.rewards.tasks import CompositeReward
from r1reward.settings import JudgeSettings, RewardSettings, TaskSettings
from r1reward.shared_prefix.register import why_not
from r1reward.trainer.config import StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.families.tiny_models import FAMILIES, build, writable
from tests.quiet import QUIET, one_thread

TASKS = yaml.safe_load((CONFIG_FOLDER / "reward/tasks/vlm_r1.yaml").read_text(encoding="utf-8"))
SIZES = [(60, 40), (45, 90), (64, 64), (33, 50)]  # width and height of the rows' images


@dataclass(frozen=True)
class Tiny:
    """A tiny family on disk.

    Attributes:
        name: Its `config.model_type`.
        folder: Where model and processor lie.
        processor: As `load_processor` gave it.
    """

    name: str
    folder: Path
    processor: object

    def model(self):
        """The saved model, anew."""
        return load_model(ModelSettings(path=str(self.folder)))

    def coordinates(self) -> Coordinates:
        return coordinates_of(self.name, self.processor, FAMILIES[self.name].coordinates)

    def reward(self, rows: Sequence[TaskRow]) -> CompositeReward:
        """VLM-R1's reward of referring expressions."""
        tasks = {"rec": parse_settings(TaskSettings, TASKS["rec"])}
        settings = RewardSettings(semantics="paper", judge=JudgeSettings(kind="none"), tasks=tasks)
        return build_reward(settings, rows, Context(coordinates=self.coordinates))

    def trainer(self, output: Path, rows: Sequence[TaskRow], cls=StableReinforceTrainer, model=None, **changes):
        """A trainer of two updates per rollout batch of 8: 4 prompts, 2 completions each; `changes` are arguments."""
        model = model or self.model()
        tokens = set(writable(self.processor.tokenizer))
        suppressed = [token for token in range(len(self.processor.tokenizer)) if token not in tokens]
        arguments = {
            "output_dir": str(output),
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 2,
            "num_generations": 2,
            "max_completion_length": 4,
            "generation_kwargs": {"suppress_tokens": suppressed},
            "max_steps": 3,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "filter_threshold": 2.6,
            **QUIET,
            "share_prefix": why_not(model) is None,
        }
        return cls(
            model=model,
            reward_funcs=self.reward(rows),
            args=StableReinforceConfig(**(arguments | changes)),
            train_dataset=training_dataset(list(rows)),
            processing_class=self.processor,
        )


def noise(size: tuple[int, int], seed: int) -> ImageSource:
    """An image of random pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1])).save(file, "PNG")
    return ImageSource(data=file.getvalue())


def rec_rows(counts: Sequence[int] = (1, 1, 1, 1), seed: int = 0) -> list[TaskRow]:
    """Rows with that many images each, of different shapes; prompts of different lengths."""
    return [
        TaskRow(
            id=f"{n}",
            images=tuple(noise(SIZES[(n + k) % len(SIZES)], 100 * seed + 10 * n + k) for k in range(count)),
            prompt="where" + " is it" * n,
            solution="[10, 10, 40, 40]",
            task="rec",
        )
        for n, count in enumerate(counts)
    ]


@cache
def inputs_of(processor, row: TaskRow) -> dict:
    """What the processor makes of a row alone."""
    text = processor.apply_chat_template(row.messages(), tokenize=False, add_generation_prompt=True)
    images = [[open_image(source) for source in row.images]] if row.images else None
    return dict(processor(text=[text], images=images, return_tensors="pt"))


@torch.no_grad()
def logits_alone(model, inputs: dict, completion: torch.Tensor) -> torch.Tensor:
    """Logits (T + 1, V) at the end of the prompt and after each token of a completion (T,), by one plain call of the model."""
    inputs = inputs | {"input_ids": torch.cat([inputs["input_ids"], completion[None]], 1)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for kind in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[kind] = torch.nn.functional.pad(inputs[kind], (0, len(completion)))
    return type(model).forward(model, **inputs).logits[0, -len(completion) - 1 :]  # not the one that TRL puts in its place


def log_probs_alone(model, processor, row: TaskRow, completion: torch.Tensor, never=None) -> torch.Tensor:
    """Log-probabilities (T,) of a completion (T,) of this row, without any padding; `never`: tokens that are not drawn."""
    logits = logits_alone(model, inputs_of(processor, row), completion)[:-1]
    if never is not None:
        logits[:, never] = -torch.inf
    return logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0]


def greedy_alone(model, processor, row: TaskRow, length: int) -> list[int]:
    """Greedy completion of a row without any padding and without a cache; up to its end token, and without image tokens."""
    inputs, completion = inputs_of(processor, row), torch.zeros(0, dtype=torch.long)
    for _ in range(length):
        logits = logits_alone(model, inputs, completion)[-1]
        logits[model.config.image_token_id] = -torch.inf
        completion = torch.cat([completion, logits.argmax()[None]])
        if completion[-1] == processor.tokenizer.eos_token_id:
            break
    return completion.tolist()


_one_thread = pytest.fixture(scope="session", autouse=True)(one_thread)


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request, tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp(request.param)
    model, processor = build(request.param)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Tiny(request.param, folder, load_processor(ModelSettings(path=str(folder))))
