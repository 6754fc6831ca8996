"""Several completions per prompt, each prompt encoded once."""

import pytest
import torch

from r1reward.data.shapes.rows import preference_row
from r1reward.inference.backend import Sampling
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.models.forward import names_argument
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.shared_prefix.prompts import FEATURES

SAMPLED = Sampling(max_new_tokens=8, temperature=1.0)


@pytest.fixture(scope="module")
def processor():
    return build_processor(tokenizer_corpus(num_rows=200), vocab_size=400)


@pytest.fixture(scope="module")
def backend(processor):
    torch.manual_seed(0)
    model = build_model(processor, hidden_size=32, num_layers=2, vision_hidden_size=16, vision_depth=1, initializer_range=0.2)
    return TransformersBackend(model, processor)


@pytest.fixture(scope="module")
def rows():
    pairs = [preference_row(0, "held_out", index) for index in range(3)]
    return [row for pair in pairs for row in (pair, pair.swapped())]


def test_votes_differ_and_repeat_with_their_seed(backend, rows):
    drawn = backend.complete(rows, 4, SAMPLED, seed=1)
    assert [len(of_row) for of_row in drawn] == [4] * 6
    assert len({completion.text for of_row in drawn for completion in of_row}) > 12
    assert all(0 < completion.tokens <= 8 for of_row in drawn for completion in of_row)
    assert backend.complete(rows, 4, SAMPLED, seed=1) == drawn
    assert backend.complete(rows, 4, SAMPLED, seed=2) != drawn


def test_the_callers_random_state_is_left_alone(backend, rows):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backend.complete(rows[:2], 2, SAMPLED, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_greedy_is_the_mode_of_sampling_at_low_temperature(backend, rows):
    greedy = backend.complete(rows, 1, Sampling(8), seed=0)
    cold = backend.complete(rows, 3, Sampling(8, temperature=1e-4), seed=0)
    assert all({c.text for c in of_row} == {of_greedy[0].text} for of_row, of_greedy in zip(cold, greedy, strict=True))


def test_the_image_is_encoded_once_for_both_orders_and_all_votes(backend, rows):
    looks = []
    hook = backend.model.model.visual.register_forward_hook(
        lambda module, args, kwargs, output: looks.append(kwargs["grid_thw"]), with_kwargs=True
    )
    try:
        backend.complete(rows, 3, SAMPLED, seed=0)
    finally:
        hook.remove()
    takes_features = names_argument(backend.model.base_model, FEATURES)  # else each row's pixels are encoded with it
    assert sum(len(grid) for grid in looks) == (3 if takes_features else 6)  # images, of 6 rows and 18 completions


def test_models_without_shared_prompts_vote_too(processor, rows):
    torch.manual_seed(0)
    model = build_model(processor, hidden_size=32, num_layers=2, vision_hidden_size=16, vision_depth=1, initializer_range=0.2)
    model.set_attn_implementation("eager")
    plain = TransformersBackend(model, processor)
    assert not plain._encodes_once
    drawn = plain.complete(rows[:2], 3, SAMPLED, seed=1)
    assert [len(of_row) for of_row in drawn] == [3, 3] and drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "0 < top_p <= 1"),
        ({"temperature": 1.0, "top_k": -1}, "top_k >= 0"),
        ({"top_p": 0.9}, "no effect at temperature 0"),
    ],
)
def test_wrong_sampling_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
