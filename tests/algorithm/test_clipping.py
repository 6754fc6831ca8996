import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.algorithm.clipping import ppo_clip_loss, pre_clip, pre_clip_statistics

ONE = torch.ones(1, 1)


def loss_and_gradient(log_ratio: float, advantage: float, clipped: bool) -> tuple[float, float]:
    """Loss and d loss / d log p of a single token whose old log-probability is -100."""
    old = torch.tensor([[-100.0]])
    log_probs = torch.tensor([[-100.0 + log_ratio]], requires_grad=True)
    used = pre_clip(log_probs, old) if clipped else log_probs
    loss = ppo_clip_loss(used - old, torch.tensor([advantage]), ONE)
    loss.backward()
    return loss.item(), log_probs.grad.item()


def test_a_log_ratio_of_95_gives_nan_without_pre_clip_and_no_gradient_with_it():
    loss, gradient = loss_and_gradient(95.0, 1.0, clipped=False)
    assert loss == pytest.approx(-1.2)  # the loss looks healthy: PPO's clip hides the overflow
    assert math.isnan(gradient)
    loss, gradient = loss_and_gradient(95.0, 1.0, clipped=True)
    assert loss == pytest.approx(-1.2)
    assert gradient == 0.0


def test_a_negative_advantage_costs_at_most_1000_times_its_size():
    assert loss_and_gradient(95.0, -2.0, clipped=False)[0] == math.inf
    loss, gradient = loss_and_gradient(95.0, -2.0, clipped=True)
    assert loss == pytest.approx(2000.0, rel=1e-4)
    assert gradient == 0.0
    # far below overflow it matters as well: exp(20) = 4.9e8
    assert loss_and_gradient(20.0, -1.0, clipped=False)[0] == pytest.approx(4.85e8, rel=1e-2)
    assert loss_and_gradient(20.0, -1.0, clipped=True)[0] == pytest.approx(1000.0, rel=1e-4)


def test_ratios_that_the_bounds_allow_are_untouched_bit_for_bit():
    old = torch.tensor([[-3.3, -0.2, -7.1]])
    log_probs = old + torch.tensor([[-6.9, 0.0, 6.9]])
    assert torch.equal(pre_clip(log_probs, old), log_probs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-200, 0), st.floats(-200, 0)), min_size=1, max_size=8),
    st.sampled_from([(1e-3, 1e3), (0.5, 2.0), (1.0, 1.0), (1e-2, 1e3), (1e-3, 10.0)]),
)
def test_equal_to_clamping_the_log_ratio_in_value_and_gradient(pairs, deltas):
    log_probs = torch.tensor([pairs], dtype=torch.float64)[..., 0]
    old = torch.tensor([pairs], dtype=torch.float64)[..., 1]
    ours, paper = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    torch.exp(pre_clip(ours, old, *deltas) - old).sum().backward()
    torch.exp(torch.clamp(paper - old, math.log(deltas[0]), math.log(deltas[1]))).sum().backward()
    clamped = torch.clamp(log_probs - old, math.log(deltas[0]), math.log(deltas[1]))
    torch.testing.assert_close(pre_clip(log_probs, old, *deltas) - old, clamped, rtol=0, atol=1e-12)
    away = ((log_probs - old - math.log(deltas[0])).abs() > 1e-9) & ((log_probs - old - math.log(deltas[1])).abs() > 1e-9)
    torch.testing.assert_close(ours.grad[away], paper.grad[away])  # on a bound itself rounding decides the side


@pytest.mark.parametrize(
    ("deltas", "clamped"),
    [  # ln 1e-2 = -4.605, ln 1e3 = 6.908
        ((1e-2, 1e3), [-4.605, -4.605, -4.5, 4.5, 4.7, 6.908]),
        ((1e-3, 1e2), [-6.908, -4.7, -4.5, 4.5, 4.605, 4.605]),
    ],
)
def test_each_bound_is_its_own(deltas, clamped):
    old = torch.full((1, 6), -10.0)
    log_probs = old + torch.tensor([[-7.0, -4.7, -4.5, 4.5, 4.7, 7.0]])
    torch.testing.assert_close(pre_clip(log_probs, old, *deltas) - old, torch.tensor([clamped]), atol=1e-3, rtol=0)
    found = pre_clip_statistics(log_probs, old, torch.ones(1, 6), *deltas)
    assert (found["clamped"], found["tokens"]) == (3, 6)
    assert found["max_abs_log_ratio"] == pytest.approx(7.0)
    for log_ratio, outside in ((-4.7, deltas[0] == 1e-2), (4.7, deltas[1] == 1e2)):
        assert pre_clip_statistics(torch.tensor([[log_ratio]]), torch.zeros(1, 1), ONE, *deltas)["clamped"] == outside


def test_no_gradient_reaches_the_old_log_probabilities():
    old = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    log_probs = torch.tensor([[-1.0, 50.0]], requires_grad=True)
    pre_clip(log_probs, old).sum().backward()
    assert old.grad is None
    assert log_probs.grad.tolist() == [[1.0, 0.0]]


def test_nan_is_not_hidden():
    assert pre_clip(torch.tensor([[math.nan]]), torch.tensor([[-1.0]])).isnan().all()


@pytest.mark.parametrize("deltas", [(0.0, 1e3), (2.0, 1e3), (1e-3, 0.5), (1e-3, math.inf)])
def test_bounds_that_do_not_enclose_one_are_refused(deltas):
    with pytest.raises(ValueError, match="delta_min"):
        pre_clip(ONE, ONE, *deltas)


def test_statistics_count_completion_tokens_only():
    old = torch.zeros(2, 3)
    log_probs = torch.tensor([[8.0, 1.0, 99.0], [-7.5, -6.9, math.nan]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    found = pre_clip_statistics(log_probs, old, mask, 1e-3, 1e3)
    assert {name: value.item() for name, value in found.items()} == {
        "clamped": 2.0,
        "tokens": 4.0,
        "max_abs_log_ratio": 8.0,
    }
    assert all(value.dim() == 0 and not value.requires_grad for value in found.values())
    empty = pre_clip_statistics(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 3), 1e-3, 1e3)
    assert [value.item() for value in empty.values()] == [0.0, 0.0, 0.0]
    broken = pre_clip_statistics(torch.tensor([[math.nan]]), torch.zeros(1, 1), ONE, 1e-3, 1e3)
    assert broken["max_abs_log_ratio"].isnan()


def test_clip_loss_by_hand():
    # ratios 1.5 and 0.5. A = +1: min(1.5, 1.2) = 1.2 and min(0.5, 0.8) = 0.5, row mean 0.85.
    # A = -2: min(-3, -2.4) = -3 and min(-1, -1.6) = -1.6, row mean -2.3. Loss: -(0.85 - 2.3) / 2 = 0.725.
    log_ratio = torch.tensor([[1.5, 0.5], [1.5, 0.5]]).log()
    loss = ppo_clip_loss(log_ratio, torch.tensor([1.0, -2.0]), torch.ones(2, 2), 0.2, 0.2)
    assert loss.item() == pytest.approx(0.725)
    per_token = torch.tensor([[1.0, 1.0], [-2.0, -2.0]])
    assert ppo_clip_loss(log_ratio, per_token, torch.ones(2, 2), 0.2, 0.2) == loss


def test_rows_weigh_the_same_whatever_their_length_and_empty_rows_stay_in_the_mean():
    log_ratio = torch.zeros(3, 4)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    loss = ppo_clip_loss(log_ratio, torch.tensor([3.0, -1.5, 7.0]), mask)
    assert loss.item() == pytest.approx(-(3.0 - 1.5 + 0.0) / 3)


def test_asymmetric_clip_moves_only_its_own_side():
    log_ratio = torch.tensor([[1.5]]).log()
    assert ppo_clip_loss(log_ratio, torch.tensor([1.0]), ONE, 0.2, 0.28).item() == pytest.approx(-1.28)
    low = torch.tensor([[0.5]]).log()
    assert ppo_clip_loss(low, torch.tensor([-1.0]), ONE, 0.3, 0.2).item() == pytest.approx(0.7)
