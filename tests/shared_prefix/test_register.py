"""Which models can share prompts, and that `enable` leaves no trace in what is saved."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from r1reward.models.forward import base_model
from r1reward.shared_prefix.register import NAME, enable, why_not
from tests.shared_prefix.conftest import CLASSES, FAMILIES, build, enabled, random_case, shared_log_probs, stock_log_probs

CASE = {"shapes": [([3, 4], [(2, 3)])], "lengths": [[3, 1]]}


def llava():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=LlamaConfig(**sizes, vocab_size=32)))


def eager():
    model = build("qwen2_5_vl")
    model.set_attn_implementation({"text_config": "eager"})
    return model


REFUSED = {
    "family 'llava'": llava,
    "attention is 'eager'": eager,
    "sliding window": lambda: build("qwen2_vl", use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "dropout": lambda: build("qwen3_vl", attention_dropout=0.1),
}


@pytest.mark.parametrize("reason, make", REFUSED.items(), ids=list(REFUSED))
def test_says_why_a_model_cannot_share_prompts(reason, make):
    model = make()
    attention = model.config.get_text_config()._attn_implementation
    assert reason in why_not(model)
    with pytest.raises(ValueError, match=reason):
        enable(model)
    assert model.config.get_text_config()._attn_implementation == attention


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", [False, True])
def test_enabling_twice_installs_one_hook(family, adapter):
    model = build(family)
    if adapter:
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    assert why_not(model) is None
    for _ in range(2):
        enable(model)
        assert why_not(model) is None
        assert len(base_model(model).base_model._forward_hooks) == 1
    config = base_model(model).config
    assert config.text_config._attn_implementation == NAME
    assert config.vision_config._attn_implementation == "sdpa"


def test_a_copy_shares_prompts_too():
    """A reference policy may be a copy of the policy."""
    model = copy.deepcopy(enabled("qwen3_vl"))
    enable(model)
    assert len(model.base_model._forward_hooks) == 1
    case = random_case(model, **CASE)
    torch.testing.assert_close(shared_log_probs(model, case), stock_log_probs(build("qwen3_vl"), case), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_a_plain_model(family, tmp_path):
    model = enabled(family)
    case = random_case(model, **CASE)
    expected = shared_log_probs(model, case)
    build(family).save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "enabled")
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert sorted(path.name for path in (tmp_path / "enabled").iterdir()) == names
    for name in names:
        assert (tmp_path / "enabled" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert NAME not in (tmp_path / "enabled" / "config.json").read_text()
    loaded = CLASSES[family][1].from_pretrained(tmp_path / "enabled")
    assert loaded.config.text_config._attn_implementation == "sdpa"
    assert not loaded.base_model._forward_hooks
    enable(loaded)
    assert torch.equal(shared_log_probs(loaded, case), expected)
