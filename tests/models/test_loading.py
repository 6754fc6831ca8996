"""Loading: data types, frozen vision, pixel limits, and clear errors; the embedded checkpoint is what it claims to be."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from r1reward.models.loading import ModelSettings, UnusableModel, embedded_checkpoint, load_model, load_processor, resolve
from r1reward.parsing import parse_settings


def test_the_embedded_checkpoint_is_small_and_of_the_real_class():
    files = list(embedded_checkpoint().iterdir())
    assert sum(file.stat().st_size for file in files) <= 4 * 2**20
    model, processor = load_model(ModelSettings("embedded")), load_processor(ModelSettings("embedded"))
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 2e6
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert processor.tokenizer.padding_side == "left"


def test_tags_survive_decoding():
    tokenizer = load_processor(ModelSettings("embedded")).tokenizer
    text = "<think>Red Circle. It is red (1) fits. So response 1 is better.</think><answer>1</answer>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_data_type_is_as_asked():
    assert {p.dtype for p in load_model(ModelSettings("embedded", dtype="bfloat16")).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("parts", [["vision"], ["projector"], ["vision", "projector"], []], ids=str)
def test_frozen_parts_and_no_others_are_left_as_they_are(parts):
    model = load_model(ModelSettings("embedded", freeze=parts))
    inside = {"vision": model.model.visual.patch_embed, "projector": model.model.visual.merger, "language": model.lm_head}
    for part, module in inside.items():
        assert {p.requires_grad for p in module.parameters()} == {part not in parts}
    named = {name for name, p in model.named_parameters() if not p.requires_grad}
    visual = {name for name, _ in model.named_parameters() if ".visual." in name}
    merger = {name for name in visual if ".merger." in name}
    expected = {"vision": visual - merger, "projector": merger}
    assert named == set().union(*(expected[part] for part in parts))


def test_a_part_that_is_not_there_cannot_be_frozen():
    with pytest.raises(UnusableModel, match="model.freeze=audio: found none of it in Qwen2_5_VL.*visual, visual.merger"):
        load_model(ModelSettings("embedded", freeze=["audio"]))
    with pytest.raises(ValueError, match="model.freeze=audio: choose one of vision, projector"):
        parse_settings(ModelSettings, {"path": "embedded", "freeze": ["vision", "audio"]}, "model")


def test_pixel_limits_reach_the_processor():
    from PIL import Image

    image = Image.new("RGB", (200, 200))
    sizes = {}
    for limit in (None, 28 * 28 * 4):
        processor = load_processor(ModelSettings("embedded", max_pixels=limit))
        sizes[limit] = processor.image_processor(image, return_tensors="pt")["image_grid_thw"].prod().item()
    assert sizes == {None: 36, 28 * 28 * 4: 16}  # patches of 14 x 14 pixels


def test_a_saved_processor_keeps_its_limits(tmp_path):
    load_processor(ModelSettings("embedded", min_pixels=1568, max_pixels=3136)).save_pretrained(tmp_path)
    saved = AutoProcessor.from_pretrained(tmp_path).image_processor.size
    assert (saved["shortest_edge"], saved["longest_edge"]) == (1568, 3136)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (
            {"min_pixels": 2000, "max_pixels": 1000},
            "min_pixels=2000, model.max_pixels=1000: .*at least 1 and at most max_pixels",
        ),
        ({"max_pixels": 0}, "min_pixels=null, model.max_pixels=0: min_pixels must be at least 1"),
        ({"max_pixels": 783}, "max_pixels=783: the smallest image has 784 pixels"),
        ({"min_pixels": 10**6}, "the smallest image has 1000000 pixels and the largest 7056; set both"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits, reason):
    with pytest.raises(UnusableModel, match=reason):
        load_processor(ModelSettings("embedded", **limits))


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c", "tests/nowhere"])
def test_a_missing_folder_is_not_taken_for_a_hub_id(path):
    with pytest.raises(ValueError, match="no such folder"):
        resolve(path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("damage", ["cut off", "empty", "another shape"])
def test_damaged_weights_are_one_clear_error(tmp_path, damage):
    weights = shutil.copytree(embedded_checkpoint(), tmp_path / "model") / "model.safetensors"
    if damage == "another shape":
        tensors = load_file(weights)
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-1].clone()
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        weights.write_bytes(weights.read_bytes()[: 100_000 if damage == "cut off" else 0])
    with pytest.raises(UnusableModel, match="model: its weights are damaged"):
        load_model(ModelSettings(str(tmp_path / "model")))


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes", None])
def test_too_little_memory_is_no_damage(monkeypatch, message):
    from transformers import AutoModelForImageTextToText

    error = torch.OutOfMemoryError("CUDA out of memory") if message is None else RuntimeError(message)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", refuse)
    with pytest.raises(type(error)) as caught:
        load_model(ModelSettings("embedded"))
    assert caught.value is error


def test_a_hub_id_is_left_as_it_is():
    assert resolve("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
