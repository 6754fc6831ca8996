"""Statistics in float64 run on the CPU: Apple's GPUs (MPS) have no float64, and torch refuses any tensor of it there.

Torch's fake tensors have a dtype and a device but no values, so that code runs as on a device that is not there. Operands on
two devices raise, as on real ones.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from r1reward.algorithm.advantage import (
    ESTIMATORS,
    OVER_BATCH,
    STATISTICS_OVER,
    estimate,
    row_returns,
    standardise,
    statistics_weights,
    token_returns,
)
from r1reward.algorithm.clipping import ppo_clip_loss, pre_clip, pre_clip_statistics
from r1reward.algorithm.filter import FILTERS, keep_mask
from r1reward.algorithm.kl import k1, k3

DEVICE = "cuda"  # any that is not the CPU; torch knows how to fake this one where it was built without it


class Operations(TorchDispatchMode):
    """Keeps the device and dtype of every tensor that an operation gives."""

    def __init__(self):
        super().__init__()
        self.made: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.made |= {(x.device.type, x.dtype) for x in tree_leaves(result) if isinstance(x, torch.Tensor)}
        return result


@pytest.fixture
def operations():
    with FakeTensorMode(), Operations() as operations:
        yield operations


def on_device(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=DEVICE)


def assert_sound(operations, *results, float64_on_cpu=True):
    assert (DEVICE, torch.float64) not in operations.made
    assert (("cpu", torch.float64) in operations.made) == float64_on_cpu
    for result in results:
        assert result.device.type == DEVICE and result.dtype in (torch.float32, torch.bool)


def test_the_record_sees_a_float64_on_the_device(operations):
    on_device(4).double()
    with pytest.raises(AssertionError):
        assert_sound(operations)


def test_fake_tensors_of_two_devices_do_not_mix(operations):
    with pytest.raises(Exception, match="device"):
        on_device(4) + torch.empty(4, device="cpu")


@pytest.mark.parametrize("over", STATISTICS_OVER)
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_advantages_of_rows(operations, name, over):
    returns = row_returns(name, on_device(8), 4)
    advantages = estimate(name, returns, statistics_weights(on_device(8, dtype=torch.int64), over))
    assert_sound(operations, returns, advantages)


@pytest.mark.parametrize("over", STATISTICS_OVER)
@pytest.mark.parametrize("name", OVER_BATCH)
def test_advantages_of_tokens(operations, name, over):
    mask = on_device(8, 5, dtype=torch.int64)
    returns = token_returns(row_returns(name, on_device(8), 4), k1(on_device(8, 5), on_device(8, 5)), mask, 0.1)
    assert_sound(operations, returns, estimate(name, returns, statistics_weights(mask, over)))


def test_grpo_stays_on_its_device(operations):
    """Its numbers are TRL's bit for bit."""
    returns = row_returns("group", on_device(8), 4)
    assert_sound(operations, returns, estimate("group", returns), float64_on_cpu=False)
    assert {device for device, _ in operations.made} == {DEVICE}


@pytest.mark.parametrize("over", STATISTICS_OVER)
@pytest.mark.parametrize("shape", [(8,), (8, 5)])
@pytest.mark.parametrize("kind", FILTERS)
def test_filter(operations, kind, shape, over):
    advantages, returns, tokens = on_device(shape), on_device(shape), on_device(shape, dtype=torch.int64)
    assert_sound(operations, keep_mask(advantages, returns, kind, 3.0, tokens, over), float64_on_cpu=kind != "none")


def test_the_rest_of_the_method(operations):
    new, old, mask = on_device(8, 5), on_device(8, 5), on_device(8, 5, dtype=torch.int64)
    found = [pre_clip(new, old), *pre_clip_statistics(new, old, mask).values(), k3(new, old)]
    loss = ppo_clip_loss(new - old, on_device(8), mask)
    assert_sound(operations, *found, loss, standardise(on_device(8)))
