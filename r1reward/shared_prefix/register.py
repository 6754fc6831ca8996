"""Which models can share prompts, and how they are made to.

The attention function is installed once, by `enable`. A call of the model without `shared_prefix` is plain SDPA, so everything
else that the model does stays as it was. What to attend to travels with the call, not in a global: gradient checkpointing runs
a layer again long after the forward pass.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from r1reward.models.families import known
from r1reward.models.forward import base_model

NAME = "shared_prefix"


def why_not(model) -> str | None:
    """Why the model's prompts cannot be shared, or None if they can."""
    base = base_model(model)
    text = base.config.get_text_config()
    sharing = sorted({each for family in known().values() for each in family.shares_prompts})
    if base.config.model_type not in sharing:
        return f"its family {base.config.model_type!r} is not one of {', '.join(sharing)}"
    if text._attn_implementation not in ("sdpa", NAME):
        return f"its attention is {text._attn_implementation!r}; prompts are shared with 'sdpa'"
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        return "its attention has a sliding window"
    if text.attention_dropout:
        return "its attention has dropout"
    return None


def enable(model):
    """Let a model share prompts; calls that do not ask for it are unchanged. Does nothing the second time.

    Raises:
        ValueError: If it cannot (see `why_not`).
    """
    if reason := why_not(model):
        raise ValueError(f"this model's prompts cannot be shared: {reason}")
    base = base_model(model)
    if base.config.get_text_config()._attn_implementation != NAME:
        base.set_attn_implementation({"text_config": NAME})
    if _keep_scored not in base.base_model._forward_hooks.values():
        base.base_model.register_forward_hook(_keep_scored, with_kwargs=True)


def shared_prefix_attention(module, query, key, value, attention_mask, scaling=None, shared_prefix=None, **kwargs):
    """transformers' attention interface, with one argument more: what to attend to (`Layout`, `generation.Cache`)."""
    if shared_prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if torch.is_autocast_enabled(query.device.type):
        query, key, value = (x.to(torch.get_autocast_dtype(query.device.type)) for x in (query, key, value))
    return shared_prefix.attend(module.layer_idx, query, key, value, scaling), None


def _keep_scored(module, args, kwargs, output):
    """Hook of the backbone: only tokens whose next token is scored go on to the vocabulary."""
    scored = getattr(kwargs.get("shared_prefix"), "scored", None)
    if scored is not None:
        output.last_hidden_state = output.last_hidden_state[:, scored]
    return output


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
