"""Both attentions, fused and by matrix products, are softmax attention, with gradients; also merged over two sets of keys."""

import pytest
import torch

from r1reward.shared_prefix.kernels import attend, attend_backward, attend_backward_by_matmul, attend_by_matmul

SIZES = [(5, 5), (9, 4), (4, 9), (40, 33), (1, 7), (700, 530)]  # queries and keys; the last beyond the kernel's blocks
SCALE = 0.3
WAYS = pytest.mark.parametrize("forward, backward", [(attend, attend_backward), (attend_by_matmul, attend_backward_by_matmul)])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def tensors(queries: int, keys: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key, value and a gradient of the output, with two rows and three heads of width 8."""
    draw = torch.Generator().manual_seed(queries * 100 + keys)
    return [torch.randn(2, 3, n, 8, generator=draw, dtype=torch.float64).to(dtype) for n in (queries, keys, keys, queries)]


def plain(query, key, value, causal=False, bias=None):
    """Softmax attention and its log-sum-exp as in a textbook."""
    scores = SCALE * query @ key.mT
    if bias is not None:
        scores = scores + bias
    if causal:
        later = torch.arange(key.shape[2]) > torch.arange(query.shape[2])[:, None]
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance)


@WAYS
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries, keys", SIZES)
def test_is_softmax_attention(forward, backward, dtype, causal, queries, keys):
    """Causal is aligned at the top left: with more queries than keys, the last ones see all keys."""
    exact = [x.requires_grad_(n < 3) for n, x in enumerate(tensors(queries, keys))]
    expected = plain(*exact[:3], causal)
    gradients = torch.autograd.grad(expected[0], exact[:3], exact[3])
    *inputs, grad = tensors(queries, keys, dtype)
    output, lse = forward(*inputs, SCALE, causal)
    close((output, lse), expected, TOLERANCE[dtype])
    close(backward(grad, *inputs, output, lse, SCALE, causal), gradients, TOLERANCE[dtype])


@WAYS
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_adds_a_bias(forward, backward, dtype):
    query, key, value, _ = tensors(6, 7, dtype)
    bias = torch.linspace(-2, 2, 14, dtype=dtype).reshape(2, 1, 1, 7)
    bias[0, ..., 4:] = -torch.inf  # keys that are padding
    close(forward(query, key, value, SCALE, bias=bias), plain(query, key, value, bias=bias), TOLERANCE[dtype])
    first = (x[:1] for x in (query, key[:, :, :4], value[:, :, :4]))
    without = plain(*first, bias=bias[:1, ..., :4])
    close((x[:1] for x in forward(query, key, value, SCALE, bias=bias)), without, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_fused_equals_matrix_products(dtype, causal):
    *inputs, grad = tensors(40, 33, dtype)
    tolerance = TOLERANCE.get(dtype, 3e-2)
    output, lse = attend_by_matmul(*inputs, SCALE, causal)
    fused_output, fused_lse = attend(*inputs, SCALE, causal)
    assert fused_lse.dtype == lse.dtype == torch.promote_types(dtype, torch.float32)
    close((fused_output, fused_lse), (output, lse), tolerance)
    by_matmul = attend_backward_by_matmul(grad, *inputs, output, lse, SCALE, causal)
    fused = attend_backward(grad, *inputs, fused_output, fused_lse, SCALE, causal)
    assert {x.dtype for x in (fused_output, output, *fused, *by_matmul)} == {dtype}
    close(fused, by_matmul, tolerance)


@WAYS
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("split", [1, 6, 10])
def test_two_sets_of_keys_merge_to_one(forward, backward, dtype, split):
    """Forward by the log-sum-exps; backward each set by itself from the merged output and log-sum-exp."""
    exact = [x.requires_grad_(n < 3) for n, x in enumerate(tensors(5, 11))]
    expected = plain(*exact[:3])
    d_query, d_key, d_value = torch.autograd.grad(expected[0], exact[:3], exact[3])
    query, key, value, grad = tensors(5, 11, dtype)
    sets = [(key[:, :, part], value[:, :, part]) for part in (slice(split), slice(split, None))]
    (one, one_lse), (two, two_lse) = (forward(query, *part, SCALE) for part in sets)
    share = torch.sigmoid(one_lse - two_lse)[..., None]
    output, lse = share * one + (1 - share) * two, torch.logaddexp(one_lse, two_lse)
    close((output, lse), expected, TOLERANCE[dtype])
    parts = [backward(grad, query, *part, output, lse, SCALE, False) for part in sets]
    merged = (parts[0][0] + parts[1][0], *(torch.cat([a, b], 2) for a, b in zip(parts[0][1:], parts[1][1:], strict=True)))
    close(merged, (d_query, d_key, d_value), TOLERANCE[dtype])
