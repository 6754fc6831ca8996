"""Rule-based RL on task rows in every mode of training: finite losses, and exactly the weights move that should."""

import io

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForImageTextToText

from r1reward.configs import compose_settings
from r1reward.data.build import training_dataset
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.models.adapters import AdapterSettings, adapter_config
from r1reward.models.coordinates import coordinates_of
from r1reward.models.families import family_of
from r1reward.models.loading import ModelSettings, load_model
from r1reward.rewards.build import build_reward
from r1reward.rewards.registry import Context
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.reference_config import composed
from tests.trainer.test_resume import Recorder

FAMILY = family_of("qwen2_5_vl")


def rec_row(index: int) -> TaskRow:
    """A red box on white, 56 x 56 pixels."""
    box = [4 + 3 * index, 6, 24 + 3 * index, 30]
    image, file = Image.new("RGB", (56, 56), "white"), io.BytesIO()
    ImageDraw.Draw(image).rectangle(box, fill="red")
    image.save(file, "PNG")
    return TaskRow(f"rec/{index}", (ImageSource(data=file.getvalue()),), "Where is the red box?", str(box), "rec")


@pytest.fixture(scope="module")
def task_rows():
    return [rec_row(index) for index in range(8)]


@pytest.fixture(scope="module")
def reward(processor, task_rows):
    """IoU and format, and a term that an untrained model can vary in: half a point for an even number of characters."""
    config = composed("+reward.tasks.rec.terms.even={function: tests.trainer.test_task_modes.even, weight: 0.5}")
    config.arm = "test"
    coordinates = coordinates_of("qwen2_5_vl", processor)
    return build_reward(compose_settings(config).reward, task_rows, Context(coordinates=lambda: coordinates))


def even(completions, **columns) -> list[float]:
    return [float(len(completion[0]["content"]) % 2 == 0) for completion in completions]


GROUPS = {"advantage_estimator": "group", "advantage_filter": "none"}
NO_CLIP = {"pre_clip": False, "epsilon": float("inf")}
ONE_UPDATE = {"per_device_train_batch_size": 16, "steps_per_generation": 1}

# name: (arguments, model settings, adapter, parts that move)
ALL = {"language", "vision", "projector"}
MODES = {
    "full": ({}, {}, None, ALL),
    "one update per rollout batch": (ONE_UPDATE | NO_CLIP, {}, None, ALL),
    "frozen vision": ({}, {"freeze": ["vision"]}, None, {"language", "projector"}),
    "frozen projector": ({}, {"freeze": ["projector"]}, None, {"language", "vision"}),
    "frozen vision and projector": ({}, {"freeze": ["vision", "projector"]}, None, {"language"}),
    "lora": ({}, {}, AdapterSettings("lora", rank=2, alpha=4), {"language"}),
    "lora on vision too": ({}, {}, AdapterSettings("lora", rank=2, alpha=4, vision=True), ALL),
    "lora, frozen vision": ({}, {"freeze": ["vision"]}, AdapterSettings("lora", 2, 4, 0.0, True), {"language", "projector"}),
    "kl in the loss": ({"beta": 0.04}, {}, None, ALL),
    "synchronised reference": ({"beta": 0.04, "sync_ref_model": True, "ref_model_sync_steps": 1}, {}, None, ALL),
    "clip higher": ({"pre_clip": False, "epsilon": 0.2, "epsilon_high": 0.28}, {}, None, ALL),
    "several passes": ({"num_iterations": 2}, {}, None, ALL),
    "dr_grpo": ({"loss_type": "dr_grpo", "scale_advantages": False} | NO_CLIP, {}, None, ALL),
    "dapo": ({"loss_type": "dapo", "pre_clip": False, "epsilon": 0.2, "epsilon_high": 0.28}, {}, None, ALL),
    "gspo": (
        {"importance_sampling_level": "sequence", "pre_clip": False, "epsilon": 3e-4, "epsilon_high": 4e-4}, {}, None, ALL,
    ),
    "cispo": ({"loss_type": "cispo", "pre_clip": False, "epsilon_high": 5.0}, {}, None, ALL),
    "stable_reinforce": (
        {"advantage_estimator": "batch", "advantage_filter": "paper", "filter_threshold": 3.0}, {}, None, ALL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODES)
def test_a_mode_on_referring_expressions(name, make_model, make_arguments, processor, task_rows, reward, tmp_path):
    changes, model_settings, adapter, parts = MODES[name]
    path = tmp_path / "base"  # where the reference model is loaded from
    make_model().save_pretrained(path)
    settings = ModelSettings(str(path), **model_settings)
    model = load_model(settings)
    recorder = Recorder()
    trainer = StableReinforceTrainer(
        model=model,
        reward_funcs=reward,
        args=make_arguments(**(GROUPS | {"max_steps": 2} | changes)),
        train_dataset=training_dataset(task_rows),
        processing_class=processor,
        peft_config=adapter_config(model, adapter, settings) if adapter else None,
        callbacks=[recorder],
    )
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in recorder.metrics.values())
    assert "rewards/rec/iou/mean" in recorder.metrics[1] and any(row["grad_norm"] > 0 for row in recorder.metrics.values())
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert {FAMILY.part_of(name) for name in moved} == parts
    if adapter:
        assert all("lora_" in name for name in moved)
    else:
        # The rest of an unfrozen part moves too: all but key biases, which softmax does not see.
        still = {name for name in before if FAMILY.part_of(name) in parts} - moved
        assert all(name.endswith("k_proj.bias") for name in still), still
    if "sync_ref_model" in changes:
        base = AutoModelForImageTextToText.from_pretrained(path).state_dict()
        assert any(not torch.equal(value, base[name]) for name, value in trainer.ref_model.state_dict().items())
