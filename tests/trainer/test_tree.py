"""What is saved comes back: values, tensors, sharing; and nothing that could run."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from r1reward.shared_prefix.prompts import Prompt
from r1reward.trainer.shared_prefix import Groups
from r1reward.trainer.tree import load_tree, save_tree


def test_values_come_back(tmp_path):
    value = {
        "none": None, "numbers": [1, -2.5, True, 0.1 + 0.2, math.inf], "text": "ä\n", "empty": {},
        "nested": {"a": [[{"b": 1}]]},
        "float": torch.tensor([[1.5, math.nan]]), "scalar": torch.tensor(7), "flag": torch.tensor([True, False]),
        "half": torch.tensor([1.0], dtype=torch.bfloat16), "nothing": torch.empty(0, 3), "tuple": (1, (2,)),
    }  # fmt: skip
    save_tree(value, tmp_path / "state")
    found = load_tree(tmp_path / "state")
    assert found.pop("tuple") == [1, [2]]
    value.pop("tuple")
    assert list(found) == list(value)
    for key, expected in value.items():
        if isinstance(expected, torch.Tensor):
            assert found[key].dtype == expected.dtype and found[key].shape == expected.shape
            assert torch.equal(found[key].nan_to_num(9), expected.nan_to_num(9))
        else:
            assert found[key] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "state.safetensors"]
    json.loads((tmp_path / "state.json").read_text())


def test_what_is_shared_is_written_once_and_stays_shared(tmp_path):
    pixels = torch.randn(4, 3)
    prompt = Prompt(torch.arange(3), torch.zeros(3, 3), pixels, torch.tensor([[1, 2, 2]]), {"pooler_output": [pixels]})
    text = Prompt(torch.arange(2), torch.zeros(3, 2))
    rows = torch.arange(12).view(3, 4)
    micro_batches = [
        {"groups": Groups([prompt, text], [0, 1]), "ids": rows[:2]},
        {"groups": Groups([prompt, text], [1]), "ids": rows[1:]},
    ]
    save_tree(micro_batches, tmp_path / "rollouts")
    first, second = load_tree(tmp_path / "rollouts")
    assert first["groups"].prompts[0] is second["groups"].prompts[0]
    assert first["groups"].prompt_of_row == [0, 1] and second["groups"].prompt_of_row == [1]
    found = first["groups"].prompts[0]
    assert torch.equal(found.pixels, pixels) and found.features["pooler_output"][0] is found.pixels
    assert first["groups"].prompts[1].grid is None
    assert torch.equal(second["ids"], rows[1:])
    tensors = load_file(tmp_path / "rollouts.safetensors")
    assert sum(tensor.shape == pixels.shape for tensor in tensors.values()) == 1


@pytest.mark.parametrize("value", [object(), {"set": {1}}, [torch.nn.Linear(1, 1)]])
def test_anything_else_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="cannot be part of a checkpoint"):
        save_tree(value, tmp_path / "state")
