"""What vLLM is asked for, seen by a stand-in: vLLM itself needs a GPU."""

import sys
from types import SimpleNamespace

import pytest

from r1reward.data.shapes.rows import preference_row
from r1reward.inference.backend import Completion, Sampling
from r1reward.inference.vllm_backend import VllmBackend
from r1reward.models.loading import ModelSettings


class Engine:
    """Answers each request n times, as vLLM's LLM does."""

    def __init__(self, **settings):
        self.settings, self.requests = settings, []

    def generate(self, prompts, parameters, use_tqdm):
        self.requests += prompts
        outputs = [SimpleNamespace(text=f"{parameters.seed} {k}", token_ids=[1] * (k + 1)) for k in range(parameters.n)]
        return [SimpleNamespace(outputs=outputs) for _ in prompts]


@pytest.fixture
def backend(monkeypatch):
    module = SimpleNamespace(LLM=Engine, SamplingParams=lambda **values: SimpleNamespace(**values))
    monkeypatch.setitem(sys.modules, "vllm", module)
    return VllmBackend(ModelSettings("embedded", max_pixels=7056), gpu_memory=0.5, tensor_parallel=2, max_images=3)


def test_one_request_per_row_with_its_image(backend):
    rows = [preference_row(0, "held_out", 0), preference_row(0, "held_out", 1)]
    drawn = backend.complete(rows, 3, Sampling(9, 1.0), seed=4)
    assert drawn == [[Completion("4 0", 1), Completion("4 1", 2), Completion("4 2", 3)]] * 2
    first, second = backend._engine.requests
    assert rows[0].text() in first["prompt"] and first["prompt"].count("<|image_pad|>") == 1
    assert first["multi_modal_data"]["image"][0].size == (84, 84) and first["prompt"] != second["prompt"]


def test_settings_arrive(backend):
    settings = backend._engine.settings
    assert settings["dtype"] == "bfloat16" and settings["gpu_memory_utilization"] == 0.5
    assert settings["tensor_parallel_size"] == 2 and settings["limit_mm_per_prompt"] == {"image": 3}
    assert settings["mm_processor_kwargs"] == {"size": {"shortest_edge": 784, "longest_edge": 7056}}
    assert settings["trust_remote_code"] is False
