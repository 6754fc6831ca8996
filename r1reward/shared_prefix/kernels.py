"""Softmax attention that also returns its log-sum-exp, so that attention over two sets of keys can be merged exactly.

Shapes: B batch, H heads, Q queries, K keys, D head width.

With `O` and `lse` of the *merged* attention, the ordinary backward pass of one part gives exactly that part's gradients: its
probabilities are exp(score - lse), and the softmax correction is rowsum(dO * O) over all parts. So no gradient of the
log-sum-exp is needed and fused kernels serve for both directions (the trick of ring attention, arXiv 2310.01889).

`causal` is aligned at the top left: query i sees keys 0..i, so queries beyond the last key see all of them.
"""

import torch

_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_cuda = torch.ops.aten._scaled_dot_product_efficient_attention
_cuda_backward = torch.ops.aten._scaled_dot_product_efficient_attention_backward


def attend(query, key, value, scale: float, causal: bool = False, bias: torch.Tensor | None = None):
    """Attention and its log-sum-exp.

    Args:
        query: (B, H, Q, D).
        key, value: (B, H, K, D).
        scale: Factor of the scores.
        causal: Whether query i sees only keys 0..i.
        bias: Added to the scores, (B, 1, 1, K), in the queries' data type; not together with `causal`.

    Returns:
        The output (B, H, Q, D) and the log-sum-exp of the scores (B, H, Q), natural logarithm, at least float32.
    """
    if query.device.type == "cpu":
        return _cpu(query, key, value, is_causal=causal, attn_mask=bias, scale=scale)
    if query.device.type == "cuda" and bias is None and query.shape[2] > 64 and _fused_cuda(query.dtype, query.shape[-1]):
        output, lse, _, _ = _cuda(query, key, value, None, True, is_causal=causal, scale=scale)
        return output, lse[..., : query.shape[2]]  # the kernel pads to its block
    return attend_by_matmul(query, key, value, scale, causal, bias)


def attend_backward(grad, query, key, value, output, lse, scale: float, causal: bool):
    """Gradients of query, key and value from merged `output` and `lse`; shapes as in `attend`."""
    if query.device.type == "cpu":
        return _cpu_backward(grad, query, key, value, output, lse, 0.0, causal, scale=scale)
    if query.device.type == "cuda" and query.shape[2] > 64 and _fused_cuda(query.dtype, query.shape[-1]):
        seed = offset = torch.zeros((), dtype=torch.long)  # of the dropout, which is off
        padded = torch.nn.functional.pad(lse, (0, -lse.shape[-1] % 32), value=torch.inf).contiguous()
        mask = [True, True, True, False]
        grads = _cuda_backward(grad, query, key, value, None, output, padded, seed, offset, 0.0, mask, causal, scale=scale)
        return grads[:3]
    return attend_backward_by_matmul(grad, query, key, value, output, lse, scale, causal)


def attend_by_matmul(query, key, value, scale: float, causal: bool = False, bias: torch.Tensor | None = None):
    """`attend` by plain matrix products: any device, any data type, all scores in memory."""
    scores = _scores(query, key, scale, causal, bias)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def attend_backward_by_matmul(grad, query, key, value, output, lse, scale: float, causal: bool):
    """`attend_backward` by plain matrix products."""
    weights = (_scores(query, key, scale, causal, None) - lse[..., None]).exp()
    correction = (grad.to(weights.dtype) * output).sum(-1, keepdim=True)
    scores = weights * ((grad @ value.mT).to(weights.dtype) - correction) * scale
    weights, scores = weights.to(value.dtype), scores.to(query.dtype)
    return scores @ key, scores.mT @ query, weights.mT @ grad


def _scores(query, key, scale, causal, bias):
    scores = (query @ key.mT).to(torch.promote_types(query.dtype, torch.float32)) * scale
    if bias is not None:
        scores = scores + bias
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    return scores


_checked: dict[tuple, bool] = {}


def _fused_cuda(dtype: torch.dtype, width: int) -> bool:
    """Whether the fused CUDA kernel gives what matrix products give, here and now: tried once per data type and head width."""
    if (dtype, width) not in _checked:
        _checked[dtype, width] = dtype != torch.float64 and _agrees(dtype, width)
    return _checked[dtype, width]


def _agrees(dtype: torch.dtype, width: int) -> bool:
    _checked[dtype, width] = True  # so that the calls below take the fused path
    draw = torch.Generator("cuda").manual_seed(0)
    query, key, value, grad = (
        torch.randn(1, 2, length, width, generator=draw, device="cuda", dtype=dtype) for length in (150, 90, 90, 150)
    )
    try:
        output, lse = attend(query, key, value, width**-0.5, causal=True)
        fused = (output, lse, *attend_backward(grad, query, key, value, output, lse, width**-0.5, True))
    except (RuntimeError, TypeError):
        return False
    exact = [x.double() for x in (query, key, value, grad)]
    output, lse = attend_by_matmul(*exact[:3], width**-0.5, causal=True)
    plain = (output, lse, *attend_backward_by_matmul(exact[3], *exact[:3], output, lse, width**-0.5, True))
    tolerance = 1e-3 if dtype == torch.float32 else 3e-2
    return all((a - b).norm() <= tolerance * b.norm() for a, b in zip(fused, plain, strict=True))
