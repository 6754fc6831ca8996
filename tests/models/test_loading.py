"""Loading: data types, frozen vision, pixel limits, and clear errors; the embedded checkpoint is what it claims to be."""

import pytest
import torch
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
        ({"min_pixels": 2000, "max_pixels": 1000}, "min_pixels=2000, model.max_pixels=1000: .*no more at least than at most"),
        ({"max_pixels": 0}, "min_pixels=null, model.max_pixels=0: expected at least one pixel"),
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


def test_a_hub_id_is_left_as_it_is():
    assert resolve("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
