"""A model of no family known here: what works without one, and a family of the user's own, the README's for LLaVA 1.5."""

import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from r1reward.benchmarks.settings import BackendSettings, BenchmarkSettings, EvaluateSettings
from r1reward.benchmarks.tasks import task_results
from r1reward.benchmarks.verdicts import Vote
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.models.coordinates import coordinates_of
from r1reward.models.families import Family, family_of
from r1reward.models.loading import ModelSettings, UnusableModel, load_model, pixel_limits
from r1reward.parsing import parse_settings
from r1reward.trainer.job import policy_coordinates

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("### A model family of your own")[1].split("\n### ")[0]
(OWN,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
(YAML,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
PATH = "own_llava.FAMILY"


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """Dotted path of the user's family."""
    (tmp_path / "own_llava.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield PATH


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> ModelSettings:
    """A tiny LLaVA with random weights in a folder."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    folder = tmp_path_factory.mktemp("llava")
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**sizes, vocab_size=32))
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return ModelSettings(str(folder))


def test_without_a_family_a_model_loads_and_boxes_may_be_told(llava):
    assert all(parameter.requires_grad for parameter in load_model(llava).parameters())
    assert pixel_limits(llava, None) == {}
    assert coordinates_of("llava", None, "thousand").write((0, 0, 5, 5), (10, 10)) == (0, 0, 500, 500)


@pytest.mark.parametrize("asked", [{"freeze": ["vision"]}, {"max_pixels": 1000}], ids=str)
def test_what_needs_a_family_says_what_to_write(llava, asked):
    settings = replace(llava, **asked)
    with pytest.raises(UnusableModel, match="'llava' is of no family known here.*model.family=my_family.FAMILY"):
        load_model(settings) if "freeze" in asked else pixel_limits(settings, None)


def test_a_family_of_ones_own_says_what_to_freeze(llava, own):
    model = load_model(replace(llava, family=own, freeze=["vision"]))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if "vision_tower" in name} != set()
    model = load_model(replace(llava, family=own, freeze=["projector"]))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if "multi_modal_projector" in name} != set()
    family = family_of("llava", own)
    assert (
        family.part_of("base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.default.weight")
        == "vision"
    )
    assert family.part_of("model.language_model.layers.0.mlp.up_proj.weight") == "language"


def test_its_coordinates_must_be_told(own):
    with pytest.raises(ValueError, match=r"no documented coordinates \(.*crops to the centre.*Set model\.coordinates"):
        coordinates_of("llava", None, None, own)
    with pytest.raises(ValueError, match="'llava' cannot write resized_pixels: its processor makes no one resized image"):
        coordinates_of("llava", None, "resized_pixels", own)
    assert coordinates_of("llava", None, "unit", own).name == "unit"


def test_limits_that_it_does_not_know_are_refused(llava, own):
    with pytest.raises(UnusableModel, match="min_pixels=null, model.max_pixels=1000: the family does not say how limits reach"):
        pixel_limits(replace(llava, family=own, max_pixels=1000), None)


@pytest.fixture
def own_qwen(tmp_path, monkeypatch):
    """A module with families that differ from Qwen2.5-VL's in how boxes are written."""
    (tmp_path / "own_qwen.py").write_text(
        "from dataclasses import replace\nfrom r1reward.models.families.qwen2_5_vl import FAMILY as QWEN\n"
        "FAMILY = replace(QWEN, space='unit')\nODD = replace(QWEN, space='percent')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_it_goes_before_the_known_ones(own_qwen):
    assert coordinates_of("qwen2_5_vl", None, None, "own_qwen.FAMILY").name == "unit"
    with pytest.raises(ValueError, match="cannot write percent: there is no such space; choose one of resized_pixels, pixels"):
        coordinates_of("qwen2_5_vl", None, None, "own_qwen.ODD")


def test_training_and_evaluation_ask_it(own_qwen, tmp_path):
    model = ModelSettings("embedded", family="own_qwen.FAMILY")
    assert policy_coordinates(SimpleNamespace(model=model)).name == "unit"
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    row = TaskRow("0", (ImageSource(path=str(tmp_path / "a.png")),), "Where?", "[20, 10, 100, 60]", "rec", category="cat")
    said = Vote("0", "forward", 0, None, None, 5, "<think>x</think><answer>[0.1, 0.1, 0.5, 0.6]</answer>")
    settings = EvaluateSettings(BenchmarkSettings("referring"), model, BackendSettings("transformers"))
    assert task_results(settings, [row], [said])["overall"]["with_object"]["mean_iou"]["mean"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere.FAMILY", "cannot import nowhere.*start where nowhere.py lies"),
        ("own_llava.OTHER", "the module own_llava has no OTHER"),
        ("own_llava.Family", "must be a r1reward.models.families.Family"),
        ("FAMILY", "write the module and the name in it"),
        ("r1reward.models.families.qwen2_vl.FAMILY", "is for model types qwen2_vl, and this model is of type 'llava'"),
    ],
)
def test_a_path_that_names_no_family_of_the_model(llava, own, path, reason):
    with pytest.raises(ValueError, match=f"model.family={path}.*{reason}"):
        family_of("llava", path)
    with pytest.raises(UnusableModel, match=reason):
        load_model(replace(llava, family=path))


def test_the_file_is_short_and_a_family():
    assert len(OWN.strip().splitlines()) <= 60
    names = {}
    exec(OWN, names)  # noqa: S102
    assert isinstance(names["FAMILY"], Family)


def test_the_yaml_of_the_readme_freezes_the_vision_tower(own, llava):
    """All its settings are given; the path is that of a small model of the class."""
    values = yaml.safe_load(YAML)
    assert values["path"] == "llava-hf/llava-1.5-7b-hf" and values["family"] == own
    settings = parse_settings(ModelSettings, values | {"path": llava.path})
    assert set(values) == {field.name for field in fields(ModelSettings)}
    frozen = [name for name, parameter in load_model(settings).named_parameters() if not parameter.requires_grad]
    assert frozen and all("vision_tower" in name for name in frozen)
