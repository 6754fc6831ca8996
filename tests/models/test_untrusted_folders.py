"""A model's folder may come from anybody: nothing in it runs unless it was asked to."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from r1reward.models.loading import ModelSettings, UnusableModel, embedded_checkpoint, load_model, load_processor

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").write_text("")
from transformers import PretrainedConfig
class Config(PretrainedConfig):
    model_type = "evil"
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return shutil.copytree(embedded_checkpoint(), tmp_path / "model")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "")


@pytest.mark.parametrize("form", ["torch", "bare pickle"])
def test_a_pickle_with_code_is_not_run(folder, tmp_path, form):
    (folder / "model.safetensors").unlink()
    weights, ran = {"model.embed_tokens.weight": Malicious(tmp_path / "ran")}, tmp_path / "ran"
    if form == "torch":
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(weights))
    with pytest.raises(UnusableModel, match="convert them to safetensors"):
        load_model(ModelSettings(str(folder)))
    assert not ran.exists()
    pickle.loads(pickle.dumps(weights))  # it is malicious
    assert ran.exists()


@pytest.mark.parametrize("model_type", ["evil", "qwen2_5_vl"])
@pytest.mark.parametrize("load", [load_model, load_processor])
def test_code_beside_the_weights_is_not_run_unless_trusted(folder, tmp_path, model_type, load):
    (folder / "evil.py").write_text(CODE.replace("Path(__file__).with_name", f"Path({str(tmp_path)!r}).joinpath"))
    names = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor")
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        values = json.loads((folder / file).read_text())
        if file == "config.json":
            values["model_type"] = model_type
        values["auto_map"] = {name: "evil.Config" for name in names}
        (folder / file).write_text(json.dumps(values))
    if model_type == "evil" and load is load_model:
        with pytest.raises(ValueError, match="trust_remote_code"):
            load(ModelSettings(str(folder)))
    else:
        load(ModelSettings(str(folder)))  # by the library's own classes
    assert not (tmp_path / "ran").exists()


def test_trusted_code_runs(folder, tmp_path):
    """What the test above forbids is what the setting allows."""
    (folder / "evil.py").write_text(CODE.replace("Path(__file__).with_name", f"Path({str(tmp_path)!r}).joinpath"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(Exception):  # noqa: B017, PT011 - there is no model behind the config
        load_model(ModelSettings(str(folder), trust_remote_code=True))
    assert (tmp_path / "ran").exists()
