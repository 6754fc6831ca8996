"""Sampling with shared prompts gives the tokens that transformers' `generate` gives for one full copy of the prompt per row."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chi2
from transformers import GenerationConfig

from r1reward.models.forward import names_argument
from r1reward.shared_prefix import generation
from r1reward.shared_prefix.generation import generate
from r1reward.shared_prefix.prompts import FEATURES, encode_images
from r1reward.shared_prefix.register import enable
from tests.shared_prefix.conftest import (
    FAMILIES,
    FIRST_TEXT,
    IMAGE,
    PAD,
    VOCABULARY,
    both,
    build,
    enabled,
    left_padded,
    random_prompts,
    stock_logits,
)

IMAGES = [([3, 4], [(2, 3)]), ([5], []), ([1, 2, 3], [(1, 1), (3, 2)])]  # images, none, images: of unequal length
TEXT = [([5], []), ([11], []), ([2], [])]
OWNER = [0, 0, 0, 0, 1, 2, 2]  # groups of four, one and two
MANY_ENDS = list(range(150, 300))  # more than a third of the vocabulary

# Models compute in float64 here, but scores are rounded to float32 before a token is drawn, so a tie is one in millions.
DOUBLE = torch.float64

SAMPLING = {
    "plain": {"top_k": 0},
    "temperature and top_p": {"top_k": 0, "temperature": 0.7, "top_p": 0.9},
    "top_k and min_p": {"top_k": 7, "min_p": 0.05, "temperature": 1.3},
    "repetition_penalty": {"top_k": 0, "repetition_penalty": 1.5},
    "suppress_tokens": {"top_k": 0, "suppress_tokens": [IMAGE, *range(20, 200)]},
    "several ends": {"top_k": 0, "eos_token_id": MANY_ENDS},
    "min_new_tokens": {"top_k": 0, "eos_token_id": MANY_ENDS, "min_new_tokens": 5},
    "min_new_tokens and all": {
        "top_k": 50,
        "top_p": 0.95,
        "temperature": 0.8,
        "repetition_penalty": 1.2,
        "suppress_tokens": [IMAGE],
        "eos_token_id": MANY_ENDS,
        "min_new_tokens": 3,
    },
}


def stock_generate(model, prompts, owner, **options):
    """Completions by transformers alone."""
    inputs = left_padded(prompts, owner)
    width = inputs["input_ids"].shape[1]
    return model.generate(**inputs, pad_token_id=PAD, **options)[:, width:]


def check(family, shapes, owner=OWNER, seed=0, **options):
    """Both ways from the same seed: the same tokens, and the random generator is left in the same state."""
    stock, shared = both(family, DOUBLE)
    prompts = random_prompts(shared, shapes, seed)
    results, states = [], []
    for way, model in ((stock_generate, stock), (generate_shared, shared)):
        torch.manual_seed(seed)
        results.append(way(model, prompts, owner, **options))
        states.append(torch.get_rng_state())
    expected, found = results
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert torch.equal(*states)
    return found


def generate_shared(model, prompts, owner, **options):
    return generate(model, prompts, owner, PAD, **options)


def watch(model):
    """A list to which each decoding step appends its number of rows, of prompts, and the tokens that its cache has room for."""
    steps = []

    def note(_, args, kwargs):
        cache = kwargs.get("shared_prefix")
        keys, _ = cache.prefix[0]
        steps.append((len(kwargs["input_ids"]), len(keys), cache.suffix[0][0].shape[2]))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    return steps, handle


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shapes", [IMAGES, TEXT], ids=["images", "text"])
def test_greedy_tokens_are_those_of_transformers(family, shapes):
    completions = check(family, shapes, do_sample=False, max_new_tokens=12)
    assert completions.shape == (7, 12)
    assert len(completions.unique(dim=0)) == 3  # a greedy group says one thing, and each its own


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", SAMPLING.values(), ids=list(SAMPLING))
def test_sampled_tokens_are_those_of_transformers(family, options):
    for seed in range(3):
        completions = check(family, IMAGES, seed=seed, do_sample=True, max_new_tokens=10, **options)
        assert len(completions.unique(dim=0)) > 3  # rows of a group differ


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_tokens_of_prompts_without_images(family):
    check(family, TEXT, do_sample=True, max_new_tokens=10, **SAMPLING["several ends"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "shapes, owner",
    [
        (IMAGES, [0, 1, 2]),
        (IMAGES, [2]),
        (IMAGES, [0, 0, 1, 1, 2, 2]),
        (IMAGES, [1, 1, 2, 2, 2]),
        (IMAGES[:1], [0, 0, 0]),
        (TEXT[:1], [0]),
    ],
    ids=["one each", "one row", "equal groups", "a prompt without rows", "one prompt", "one row of one prompt"],
)
def test_groups_of_any_size(family, shapes, owner):
    check(family, shapes, owner, do_sample=True, max_new_tokens=9, **SAMPLING["several ends"])


@pytest.mark.parametrize("family", FAMILIES)
def test_finished_rows_and_prompts_leave_the_batch(family):
    _, shared = both(family, DOUBLE)
    steps, handle = watch(shared)
    try:
        completions = check(family, IMAGES, OWNER, seed=1, do_sample=True, max_new_tokens=40, **SAMPLING["several ends"])
    finally:
        handle.remove()
    lengths = (completions != PAD).sum(1)
    assert len(steps) == completions.shape[1] == lengths.max() < 40
    for step, (rows, prompts, _) in enumerate(steps):
        working = lengths > step
        assert rows == working.sum()  # of seven rows, even one makes a tenth
        assert prompts == len({owner for owner, works in zip(OWNER, working.tolist(), strict=True) if works})
    assert steps[0][:2] == (7, 3)
    assert steps[-1][1] < 3


def test_a_few_finished_rows_stay():
    """Below a tenth, taking them out is not worth the copy; they must not change what the others say."""
    _, shared = both("qwen2_5_vl", DOUBLE)
    steps, handle = watch(shared)
    owner = [0] * 13 + [1] + [2] * 16
    try:
        completions = check(
            "qwen2_5_vl", IMAGES, owner, do_sample=True, max_new_tokens=12, top_k=0, eos_token_id=[*range(180, 195)]
        )
    finally:
        handle.remove()
    working = [int(((completions != PAD).sum(1) > step).sum()) for step in range(len(steps))]
    assert any(rows > at_work for (rows, *_), at_work in zip(steps, working, strict=True))
    assert all(at_work >= 0.9 * rows for (rows, *_), at_work in zip(steps, working, strict=True))
    assert steps[-1][0] < 30


@pytest.mark.parametrize("ends", [None, MANY_ENDS[:20]], ids=["all rows", "rows leave"])
def test_the_cache_grows(monkeypatch, ends):
    monkeypatch.setattr(generation, "CAPACITY", 4)
    _, shared = both("qwen3_vl", DOUBLE)
    steps, handle = watch(shared)
    try:
        check("qwen3_vl", IMAGES, do_sample=True, max_new_tokens=19, top_k=0, eos_token_id=ends)
    finally:
        handle.remove()
    assert len(steps) > 8
    assert [room for *_, room in steps] == ([4] * 4 + [8] * 4 + [16] * 8 + [32] * 3)[: len(steps)]
    assert (steps[-1][0] < len(OWNER)) == (ends is not None)


def test_stops_at_the_length_that_a_configuration_gives():
    """A `GenerationConfig` as the trainer passes it, in place of single options."""
    config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=6, eos_token_id=None, pad_token_id=PAD)
    stock, shared = both("qwen2_vl", DOUBLE)
    prompts = random_prompts(shared, IMAGES)
    inputs = left_padded(prompts, OWNER)
    torch.manual_seed(0)
    expected = stock.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
    torch.manual_seed(0)
    found = generate(shared, prompts, OWNER, PAD, generation_config=config)
    assert found.shape == (7, 6)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_uses_features_encoded_before(family):
    """What training does: the images are encoded once for sampling and for the old policy."""
    stock, shared = both(family, DOUBLE)
    prompts = random_prompts(shared, IMAGES)
    expected = stock_generate(stock, prompts, OWNER, do_sample=False, max_new_tokens=8)
    encode_images(shared.base_model, prompts)
    takes_features = names_argument(shared.base_model, FEATURES)
    assert all((prompt.features is not None) == (takes_features and prompt.grid is not None) for prompt in prompts)
    if takes_features:
        for prompt in prompts:
            prompt.pixels = None
    with torch.inference_mode():
        assert torch.equal(generate(shared, prompts, OWNER, PAD, do_sample=False, max_new_tokens=8), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_take_part(family):
    def with_adapter():
        model = build(family, dtype=DOUBLE)
        torch.manual_seed(0)
        adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "qkv"], init_lora_weights=False)
        return get_peft_model(model, adapter).to(DOUBLE)

    stock, shared = with_adapter(), with_adapter()
    enable(shared)
    prompts = random_prompts(shared.get_base_model(), IMAGES)
    expected = stock_generate(stock, prompts, OWNER, do_sample=False, max_new_tokens=8)
    assert torch.equal(generate(shared, prompts, OWNER, PAD, do_sample=False, max_new_tokens=8), expected)
    with shared.disable_adapter():
        assert not torch.equal(generate(shared, prompts, OWNER, PAD, do_sample=False, max_new_tokens=8), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16 weights", "autocast"])
def test_bfloat16_greedy_tokens_are_nearly_the_likeliest(family, autocast):
    """Rounding may turn near ties; in float32 no chosen token is far behind the likeliest one of its place."""
    model = build(family).bfloat16()
    exact = build(family)
    exact.load_state_dict(model.state_dict())
    if autocast:
        model = build(family)
        model.load_state_dict(exact.state_dict())
    else:
        exact = build(family).bfloat16().float()  # angles are rounded with the weights
    enable(model)
    prompts = random_prompts(model, IMAGES)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        completions = generate(model, prompts, OWNER, PAD, do_sample=False, max_new_tokens=10, eos_token_id=None)
    with torch.no_grad():
        log_probs = stock_logits(exact, prompts, OWNER, completions, torch.ones_like(completions)).log_softmax(-1)
    chosen = log_probs.gather(-1, completions[..., None])[..., 0]
    behind = log_probs.amax(-1) - chosen
    assert behind.max() < 0.25
    assert (log_probs.amax(-1) - log_probs.mean(-1)).min() > 2  # a token at random would be far behind


def test_first_two_tokens_have_their_exact_probabilities():
    """Chi-square over all pairs of six tokens, with probabilities from plain transformers, which do not need any sampling."""
    stock, shared = both("qwen2_5_vl")
    prompts = random_prompts(shared, [([2, 1], [(1, 2)])])
    allowed = torch.arange(FIRST_TEXT, FIRST_TEXT + 6)
    temperature, draws = 4.0, 6000
    rest = sorted(set(range(VOCABULARY)) - set(allowed.tolist()))
    torch.manual_seed(0)
    options = {"do_sample": True, "top_k": 0, "temperature": temperature, "suppress_tokens": rest, "eos_token_id": None}
    completions = generate(shared, prompts, [0] * draws, PAD, max_new_tokens=2, **options)
    observed = torch.bincount((completions - FIRST_TEXT) @ torch.tensor([6, 1]), minlength=36).double()

    with torch.no_grad():
        pairs = torch.stack([allowed, allowed], 1)  # the second one is not looked at
        logits = stock_logits(stock, prompts, [0] * 6, pairs, torch.ones_like(pairs))
    probabilities = (logits[..., allowed].double() / temperature).softmax(-1)
    expected = draws * (probabilities[0, 0][:, None] * probabilities[:, 1]).flatten()
    assert expected.min() > 5  # what the statistic needs
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - 1e-4, 35)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shapes", [IMAGES, TEXT], ids=["images", "text"])
def test_plain_calls_stay_as_they_were(family, shapes):
    stock, shared = build(family), enabled(family)
    prompts = random_prompts(stock, shapes)
    generate(shared, prompts, OWNER, PAD, max_new_tokens=3)  # nothing of it may linger
    inputs = left_padded(prompts, OWNER)
    expected, found = stock(**inputs), shared(**inputs)
    assert torch.equal(found.logits, expected.logits)
    for output in (expected, found):
        output.logits.square().mean().backward()
    for (name, a), b in zip(stock.named_parameters(), shared.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.equal(a.grad, b.grad), name
    completions = []
    for model in (stock, shared):
        torch.manual_seed(0)
        output = model.generate(
            **inputs, do_sample=True, top_k=0, max_new_tokens=6, output_logits=True, return_dict_in_generate=True
        )
        completions.append((output.sequences, torch.stack(output.logits)))
    for a, b in zip(*completions, strict=True):
        assert torch.equal(a, b)
