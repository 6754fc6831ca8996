"""Real vLLM judges and evaluates: the same verdicts as transformers."""

import pytest

from r1reward.inference.backend import Sampling
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.inference.vllm_backend import VllmBackend
from r1reward.models.image_check import ImagesNotSeen
from r1reward.models.loading import ModelSettings, load_model
from tests.vllm.conftest import EMBEDDED, ENGINE


@pytest.fixture(scope="module")
def backend():
    return VllmBackend(EMBEDDED, max_images=2, engine_kwargs={**ENGINE, "dtype": "float32"})


@pytest.fixture(scope="module")
def expected(processor):
    return TransformersBackend(load_model(EMBEDDED), processor)


def test_greedy_completions_are_those_of_transformers(backend, expected, rows):
    both_orders = [each for row in rows for each in (row, row.swapped())]
    assert backend.complete(both_orders, 1, Sampling(48), 0) == expected.complete(both_orders, 1, Sampling(48), 0)


def test_votes_differ_and_come_again(backend, rows):
    """Also where the engine splits requests over batches, which a seeded request on a CPU does not survive."""
    many = rows * 2
    first = backend.complete(many, 5, Sampling(32, 1.0), seed=1)
    assert first == backend.complete(many, 5, Sampling(32, 1.0), seed=1)
    assert first != backend.complete(many, 5, Sampling(32, 1.0), seed=2)
    assert all(len(votes) == 5 for votes in first) and any(len(set(votes)) > 1 for votes in first)


def test_it_sees_its_images(backend, rows):
    backend.check_images(rows[0])


def test_a_blind_engine_is_refused(backend, rows, monkeypatch):
    prompt = backend._prompt
    monkeypatch.setattr(backend, "_prompt", lambda row, images=None: prompt(row, None))  # the same image, whatever is asked
    with pytest.raises(ImagesNotSeen):
        backend.check_images(rows[0])


def test_pixel_limits_reach_the_engine(rows):
    """What the image processor makes smaller gives fewer tokens; were it ignored, the prompts' tokens would differ."""
    small = VllmBackend(ModelSettings("embedded", max_pixels=56 * 56), engine_kwargs={**ENGINE, "dtype": "float32"})
    small.check_images(rows[0])
