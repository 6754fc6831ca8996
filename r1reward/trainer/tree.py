"""Nested Python values that hold tensors, as a JSON file and a safetensors file: no pickle, so nothing in them can run."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from r1reward.shared_prefix.prompts import Prompt
from r1reward.trainer.shared_prefix import Groups


def save_tree(value: Any, path: Path):
    """Write `value` to `<path>.json` and its tensors to `<path>.safetensors`.

    Args:
        value: Dictionaries with string keys, lists, numbers, strings, None, tensors, `Groups` and `Prompt`, nested in any way.
            What stands in several places is written once, and comes back as one object.
    """
    writer = _Writer()
    tree = writer.encode(value)
    # Copies: safetensors refuses tensors that share memory, as the rows of one batch may.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in writer.tensors.items()}
    save_file(tensors, path.with_name(path.name + ".safetensors"))
    document = {"tree": tree, "objects": writer.objects}
    path.with_name(path.name + ".json").write_text(json.dumps(document), encoding="utf-8")


def load_tree(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `save_tree` wrote, with its tensors on `device`."""
    document = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    device = torch.device(device)
    name = device.type if device.type == "cpu" else str(device)  # not cpu:0, which safetensors refuses
    tensors = load_file(path.with_name(path.name + ".safetensors"), device=name)
    return _Reader(document["objects"], tensors).decode(document["tree"])


OBJECTS = {"Groups": Groups, "Prompt": Prompt}


class _Writer:
    """Plain values stand for themselves; all else is a dictionary with one key that says what it is."""

    def __init__(self):
        self.tensors: dict[str, torch.Tensor] = {}
        self.objects: list = []
        self._places: dict[int, int] = {}  # of what was written already, by identity
        self._names: dict[int, str] = {}

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, torch.Tensor):
            name = self._names.setdefault(id(value), str(len(self._names)))
            self.tensors[name] = value
            return {"tensor": name}
        if isinstance(value, list | tuple):
            return [self.encode(item) for item in value]
        if isinstance(value, dict):
            return {"dict": {key: self.encode(item) for key, item in value.items()}}
        if type(value).__name__ in OBJECTS:
            if id(value) not in self._places:
                fields = {key: self.encode(item) for key, item in vars(value).items()}
                self._places[id(value)] = len(self.objects)
                self.objects.append({"type": type(value).__name__, "fields": fields})
            return {"object": self._places[id(value)]}
        raise TypeError(f"a {type(value).__name__} cannot be part of a checkpoint")


class _Reader:
    def __init__(self, objects: list, tensors: dict[str, torch.Tensor]):
        self._tensors = tensors
        self._objects: list = []
        for entry in objects:  # an object's parts were written before it
            fields = {key: self.decode(item) for key, item in entry["fields"].items()}
            self._objects.append(OBJECTS[entry["type"]](**fields))

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return self._tensors[value["tensor"]]
        if "object" in value:
            return self._objects[value["object"]]
        return {key: self.decode(item) for key, item in value["dict"].items()}
