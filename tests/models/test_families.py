"""Each family against transformers: its model types, the names of its modules, and what pixel limits do to real processors."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from omegaconf import OmegaConf
from PIL import Image
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from r1reward.configs import CONFIG_FOLDER
from r1reward.models import families
from r1reward.models.coordinates import SPACES
from r1reward.models.families import Family, family_of, known
from r1reward.models.loading import ModelSettings
from r1reward.parsing import parse_settings

FILES = sorted(path for path in Path(families.__file__).parent.glob("*.py") if path.stem != "__init__")
OF_TRANSFORMERS = sorted(set(known()) - {"internvl_chat"})  # that one's code comes with its weights
YAMLS = sorted((CONFIG_FOLDER / "model").glob("*.yaml"))
MODEL_TYPES = {  # of the YAMLs, whose models are not here
    "embedded": "qwen2_5_vl",
    "embedded_visual": "qwen2_5_vl",
    "qwen2_vl_2b": "qwen2_vl",
    "qwen2_5_vl_3b": "qwen2_5_vl",
    "qwen2_5_vl_7b": "qwen2_5_vl",
    "qwen2_5_vl_32b": "qwen2_5_vl",
    "qwen3_vl_4b": "qwen3_vl",
    "internvl3_5_2b": "internvl",
    "glm_4_1v_9b": "glm4v",
    "smolvlm2_2b": "smolvlm",
    "gemma3_4b": "gemma3",
    "llava_onevision_0_5b": "llava_onevision",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_family_is_one_short_file(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 60


def test_the_known_families():
    assert len(set(known().values())) == len(FILES)
    assert set(known()) - set(CONFIG_MAPPING_NAMES) == {"internvl_chat"}
    assert all(family.space in (None, *SPACES) for family in known().values())
    sharing = {each for family in known().values() for each in family.shares_prompts}
    assert sharing == {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
    assert all(set(family.shares_prompts) <= set(family.model_types) for family in known().values())


def empty_model(model_type: str):
    """A model of the type's own class with two layers and no memory for its weights."""
    config = hf.AutoConfig.for_model(model_type)
    config.text_config.num_hidden_layers = 2
    config.text_config.pad_token_id = None  # SmolVLM's default lies outside of its own vocabulary (transformers 5.17)
    for depth in ("depth", "num_hidden_layers"):
        if hasattr(config.vision_config, depth):
            setattr(config.vision_config, depth, 2)
    with torch.device("meta"):
        return hf.AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("model_type", OF_TRANSFORMERS)
def test_every_parameter_is_of_the_part_that_it_is_in(model_type):
    model, family = empty_model(model_type), family_of(model_type)
    language = {id(p) for module in (model.get_decoder(), model.get_output_embeddings()) for p in module.parameters()}
    tower = {
        id(p)
        for module in model.modules()
        if getattr(module, "config", None) is model.config.vision_config
        for p in module.parameters()
    }
    assert tower and not tower & language
    parts = {name: family.part_of(name) for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert (parts[name] == "language") == (id(parameter) in language), name
        assert parts[name] != "vision" or id(parameter) in tower, name
    assert set(parts.values()) == {"vision", "projector", "language"}
    for each in family.vision + family.projector:
        assert any(f".{each}." in f".{name}." for name in parts), f"no module {each}"


def test_parts_inside_an_adapter():
    family = family_of("qwen3_vl")
    inside = "base_model.model.model.visual.{}.lora_A.default.weight".format
    assert family.part_of(inside("blocks.0.attn.qkv")) == "vision"
    assert family.part_of(inside("merger.linear_fc1")) == "projector"
    assert family.part_of(inside("deepstack_merger_list.0.linear_fc1")) == "projector"
    assert family.part_of("base_model.model.model.language_model.layers.0.mlp.up_proj.base_layer.weight") == "language"
    assert family_of("glm4v").part_of("model.visual.downsample.weight") == "projector"  # as wide as the language model
    assert family.part_of("model.visual") == "vision" and family.part_of("model.visual.merger") == "projector"
    assert family.part_of("model.visuals.x") == family.part_of("lm_head.weight") == "language"


# Pixel limits. A picture's size as the processor made it, in pixels, views of the whole image aside.

SIZES = [(640, 480), (1000, 333), (61, 61), (1601, 1199), (300, 1200), (1000, 1000)]


def patches(image_processor, image) -> int:
    grid = image_processor(image, return_tensors="pt")["image_grid_thw"][0]
    return grid.prod().item() * image_processor.patch_size**2


def tiles(image_processor, image) -> int:
    *_, count, channels, height, width = image_processor(image, return_tensors="pt")["pixel_values"][None].shape
    return max(1, count - 1) * height * width


INTERNVL = {"size": {"height": 64, "width": 64}, "crop_to_patches": True}
SMOL = {"max_image_size": {"longest_edge": 64}, "size": {"longest_edge": 256}}
PROCESSORS = {
    "qwen2_5_vl": (hf.Qwen2VLImageProcessor, {}, patches),
    "qwen2_vl": (hf.Qwen2VLImageProcessorPil, {}, patches),
    "qwen3_vl": (hf.Qwen2VLImageProcessor, {"patch_size": 16}, patches),
    "glm4v": (hf.Glm4vImageProcessor, {}, patches),
    "glm46v": (hf.Glm46VImageProcessor, {}, patches),
    "internvl": (hf.GotOcr2ImageProcessor, INTERNVL, tiles),
    "smolvlm": (hf.SmolVLMImageProcessor, SMOL, tiles),
    "idefics3": (hf.Idefics3ImageProcessor, SMOL, tiles),
}
NO_SMALLEST = ("smolvlm", "idefics3")


def limited(model_type: str, least: int | None, most: int | None):
    kind, options, _ = PROCESSORS[model_type]
    image_processor = kind(**options)
    for name, value in family_of(model_type).limits(image_processor, least, most).items():
        assert hasattr(image_processor, name)
        setattr(image_processor, name, value)
    return image_processor


@pytest.mark.parametrize("model_type", PROCESSORS)
def test_images_keep_to_the_limits(model_type):
    measure = PROCESSORS[model_type][2]
    least = None if model_type in NO_SMALLEST else 20_000
    for most in (40_000, 50_000, 90_000):
        image_processor = limited(model_type, least, most)
        sizes = [measure(image_processor, Image.new("RGB", size)) for size in SIZES]
        assert all((least or 1) <= size <= most for size in sizes), (most, sizes)
        assert max(sizes) > most / 2
    with pytest.raises(ValueError, match="the smallest image has"):
        limited(model_type, None, 700)


@pytest.mark.parametrize("model_type", sorted(set(PROCESSORS) - set(NO_SMALLEST)))
def test_a_smallest_size_alone(model_type):
    image_processor = limited(model_type, 200_000 if model_type != "internvl" else 40_000, None)
    small = PROCESSORS[model_type][2](image_processor, Image.new("RGB", (61, 61)))
    assert small >= image_processor.size.get("shortest_edge", 80_000) / 2 >= 40_000


def test_limits_in_numbers():
    assert family_of("glm4v").limits(hf.Glm4vImageProcessor(), 3136, 501_760) == {
        "size": {"shortest_edge": 6272, "longest_edge": 1_003_520}  # of two frames
    }
    internvl = hf.GotOcr2ImageProcessor(size={"height": 448, "width": 448})
    assert family_of("internvl").limits(internvl, 200_705, 802_816) == {"min_patches": 2, "max_patches": 4}
    assert family_of("smolvlm").limits(hf.SmolVLMImageProcessor(), None, 589_824) == {"size": {"longest_edge": 728}}
    with pytest.raises(ValueError, match="between 2 and 1 tiles"):
        family_of("internvl").limits(internvl, 200_705, 401_407)


@pytest.mark.parametrize(
    ("model_type", "image_processor", "limits", "reason"),
    [
        ("gemma3", hf.Gemma3ImageProcessor(), (None, 10**6), "shown at 224 x 224 pixels"),
        ("llava_onevision", hf.LlavaOnevisionImageProcessor(), (None, 10**6), "image_grid_pinpoints"),
        ("smolvlm", hf.SmolVLMImageProcessor(), (10**4, None), "set model.max_pixels alone"),
        ("smolvlm", hf.SmolVLMImageProcessor(do_image_splitting=False), (None, 10**6), "as one tile"),
        ("internvl", hf.GotOcr2ImageProcessor(), (10**7, None), "between 68 and 12 tiles"),
        ("qwen2_vl", hf.Qwen2VLImageProcessor(), (None, 3000), "set both"),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_kept_is_refused(model_type, image_processor, limits, reason):
    with pytest.raises(ValueError, match=reason):
        family_of(model_type).limits(image_processor, *limits)


PUBLISHED = {  # as the checkpoints of the YAMLs bring them
    "qwen2_vl": hf.Qwen2VLImageProcessor(max_pixels=16384 * 28 * 28),
    "qwen2_5_vl": hf.Qwen2VLImageProcessor(max_pixels=16384 * 28 * 28),
    "qwen3_vl": hf.Qwen2VLImageProcessor(min_pixels=256 * 256, max_pixels=4096 * 4096, patch_size=16),
    "internvl": hf.GotOcr2ImageProcessor(size={"height": 448, "width": 448}),
    "glm4v": hf.Glm4vImageProcessor(),
}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_each_yaml_says_everything_and_is_a_model_of_a_known_family(path):
    values = OmegaConf.to_container(OmegaConf.load(path))
    settings = parse_settings(ModelSettings, values, "model")
    assert list(values) == list(ModelSettings.__dataclass_fields__)
    model_type = MODEL_TYPES[path.stem]
    family = family_of(model_type)
    assert settings.coordinates is None and (family.space or "tasks with boxes" in path.read_text(encoding="utf-8"))
    if (settings.min_pixels, settings.max_pixels) != (None, None):
        assert family.limits(PUBLISHED[model_type], settings.min_pixels, settings.max_pixels)


def test_a_name_that_lacks_its_comma():
    with pytest.raises(ValueError, match=r"Family.vision is a tuple: write \('visual',\)"):
        Family(model_types=("x",), vision="visual", projector=(), source="")


def test_finding_a_family_loads_neither_torch_nor_transformers():
    code = (
        "import sys; from r1reward.models.families import known; known(); print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
