"""Loading: data types, frozen vision, pixel limits, and clear errors; the embedded checkpoint is what it claims to be."""

import pytest
import torch

from r1reward.models.loading import ModelSettings, embedded_checkpoint, load_model, load_processor, resolve


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


def test_frozen_vision_leaves_the_language_model_trainable():
    model = load_model(ModelSettings("embedded", freeze_vision=True))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".visual." in name}
    assert 0 < len(frozen) < len(list(model.parameters()))


def test_pixel_limits_reach_the_processor():
    from PIL import Image

    image = Image.new("RGB", (200, 200))
    sizes = {}
    for limit in (None, 28 * 28 * 4):
        processor = load_processor(ModelSettings("embedded", max_pixels=limit))
        sizes[limit] = processor.image_processor(image, return_tensors="pt")["image_grid_thw"].prod().item()
    assert sizes == {None: 36, 28 * 28 * 4: 16}  # patches of 14 x 14 pixels


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c", "tests/nowhere"])
def test_a_missing_folder_is_not_taken_for_a_hub_id(path):
    with pytest.raises(ValueError, match="no such folder"):
        resolve(path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        resolve(str(tmp_path))


def test_a_hub_id_is_left_as_it_is():
    assert resolve("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
