"""Attention among packed prompts and completions, forward and backward.

Shapes: S packed tokens, H query heads, K key/value heads, D head width, T tokens of the longest completion.
"""

import torch

from r1reward.shared_prefix.kernels import attend, attend_backward


def packed_attention(layout, query, key, value, scale: float) -> torch.Tensor:
    """Every token attends to its prompt, completions besides, causally, to their own tokens.

    Args:
        layout: Where everything lies (`r1reward.shared_prefix.packing.Layout`).
        query: (1, H, S, D).
        key, value: (1, K, S, D).
        scale: Factor of the scores.

    Returns:
        (1, S, H, D).
    """
    return _PackedAttention.apply(query, key, value, layout, scale).transpose(1, 2)


class _PackedAttention(torch.autograd.Function):
    """Two attentions, over the prompt and over the completion itself, merged by their log-sum-exp (arXiv 2402.05099)."""

    @staticmethod
    def forward(ctx, query, key, value, layout, scale):
        groups = query.shape[1] // key.shape[1]
        keys, values = _repeat(key, groups), _repeat(value, groups)
        output = torch.empty_like(query)
        lse = query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
        for start, prefix_end, end in layout.spans:
            # With a causal mask aligned at the top left one call serves both: completions see the whole prompt.
            output[:, :, start:end], lse[:, :, start:end] = attend(
                query[:, :, start:end], keys[:, :, start:prefix_end], values[:, :, start:prefix_end], scale, causal=True
            )
        if layout.index is not None:
            own, own_lse = attend(*(layout.unpack(x) for x in (query, keys, values)), scale, causal=True)
            own, own_lse = layout.pack(own), layout.pack(own_lse)
            from_prompt, prompt_lse = output[0][:, layout.scored], lse[0][:, layout.scored]
            share = torch.sigmoid(prompt_lse - own_lse)[..., None].to(own.dtype)
            output[0][:, layout.scored] = torch.lerp(own, from_prompt, share)
            lse[0][:, layout.scored] = torch.logaddexp(prompt_lse, own_lse)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.layout, ctx.scale, ctx.groups = layout, scale, groups
        return output

    @staticmethod
    def backward(ctx, grad):
        query, key, value, output, lse = ctx.saved_tensors
        layout, scale, groups = ctx.layout, ctx.scale, ctx.groups
        keys, values = _repeat(key, groups), _repeat(value, groups)
        d_query, d_keys, d_values = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(values)
        for start, prefix_end, end in layout.spans:
            span, prefix = (..., slice(start, end), slice(None)), (..., slice(start, prefix_end), slice(None))
            d_query[span], d_keys[prefix], d_values[prefix] = attend_backward(
                grad[span], query[span], keys[prefix], values[prefix], output[span], lse[..., start:end], scale, causal=True
            )
        if layout.index is not None:
            padding = ~layout.real[:, None, :, None]
            own = attend_backward(
                layout.unpack(grad).masked_fill(padding, 0),
                *(layout.unpack(x) for x in (query, keys, values, output, lse)),
                scale,
                causal=True,
            )
            for total, part in zip((d_query, d_keys, d_values), own, strict=True):
                total[0][:, layout.scored] += layout.pack(part)
        if groups > 1:
            d_keys, d_values = (x.unflatten(1, (-1, groups)).sum(2) for x in (d_keys, d_values))
        return d_query, d_keys, d_values, None, None


def _repeat(x: torch.Tensor, groups: int) -> torch.Tensor:
    return x if groups == 1 else x.repeat_interleave(groups, 1)
