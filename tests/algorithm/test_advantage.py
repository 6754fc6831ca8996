import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.algorithm import advantage
from r1reward.algorithm.advantage import ESTIMATORS, OVER_BATCH, row_returns, standardise, statistics_weights, token_returns

NAN = math.nan
GROUPED = [name for name in ESTIMATORS if name != "batch"]


def estimate(name: str, rewards: torch.Tensor, num_generations: int, scale: bool = True) -> torch.Tensor:
    return advantage.estimate(name, row_returns(name, rewards, num_generations, scale))


def trl_advantages(rewards: torch.Tensor, num_generations: int, scale: bool) -> torch.Tensor:
    """TRL 1.16's own formula (scale_rewards "group" or "none"), around its own deviation."""
    from trl.trainer.utils import nanstd

    grouped = rewards.view(-1, num_generations)
    mean = torch.nanmean(grouped, dim=1).repeat_interleave(num_generations, dim=0)
    result = rewards - mean
    if scale:
        result = result / (nanstd(grouped, dim=1).repeat_interleave(num_generations, dim=0) + 1e-4)
    return torch.nan_to_num(result, nan=0.0)


def test_batch_255_right_and_one_wrong():
    rewards = torch.tensor([1.0] * 255 + [0.0])
    found = estimate("batch", rewards, 1)
    assert found[-1].item() == pytest.approx(-math.sqrt(255), rel=1e-6)  # -15.97
    assert found[0].item() == pytest.approx(1 / math.sqrt(255), rel=1e-6)


def test_standardise_uses_the_population_deviation():
    expected = torch.tensor([-math.sqrt(1.5), 0.0, math.sqrt(1.5)])  # variance 2/3; the sample form would give -1, 0, 1
    torch.testing.assert_close(standardise(torch.tensor([1.0, 2.0, 3.0])), expected)


@pytest.mark.parametrize("value", [0.1, 0.5, 0.7, 1.3, 2.0])
@pytest.mark.parametrize("name", ["batch", "leave_one_out", "reinforce_plus_plus_baseline"])
def test_equal_rewards_give_exactly_zero(name, value):
    assert not estimate(name, torch.full((256,), value), 8).any()


def test_naive_float32_statistics_would_not_give_zero():
    """Why the statistics are taken in float64."""
    rewards = torch.full((256,), 0.7)
    naive = (rewards - rewards.mean()) / (rewards.std(unbiased=False) + 1e-8)
    assert naive.abs().min() > 0.5


def test_standardise_leaves_out_nan_and_masked_elements():
    values = torch.tensor([[1.0, 3.0, 1e9], [NAN, 3.0, math.inf]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    # 1, 3, 3: mean 7/3, variance 8/9
    deviation = math.sqrt(8 / 9)
    expected = torch.tensor([[-4 / 3, 2 / 3, 0.0], [0.0, 2 / 3, 0.0]]) / deviation
    torch.testing.assert_close(standardise(values, mask), expected)
    assert not standardise(torch.tensor([NAN, NAN])).any()
    assert not standardise(torch.zeros(0)).any()


def test_a_weight_counts_as_that_many_elements():
    weighted = standardise(torch.tensor([0.5, 2.0]), torch.tensor([3, 1]))
    repeated = standardise(torch.tensor([0.5, 0.5, 0.5, 2.0]))
    torch.testing.assert_close(weighted, repeated[[0, 3]])


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(2, 8), st.integers(1, 5), st.booleans())
def test_group_equals_trl_bit_for_bit(data, num_generations, prompts, scale):
    value = st.one_of(st.sampled_from([0.0, 0.5, 1.5, 2.0, NAN]), st.floats(-10, 10, width=32))
    size = num_generations * prompts
    rewards = torch.tensor(data.draw(st.lists(value, min_size=size, max_size=size)), dtype=torch.float32)
    assert torch.equal(advantage.group(rewards, num_generations, scale), trl_advantages(rewards, num_generations, scale))


def test_group_by_hand():
    rewards = torch.tensor([0.0, 0.0, 0.0, 3.0])  # deviations -0.75 and 2.25; squares sum to 6.75; /3 = 2.25; root 1.5
    torch.testing.assert_close(advantage.group(rewards, 4), torch.tensor([-0.5, -0.5, -0.5, 1.5]), rtol=1e-4, atol=0)
    torch.testing.assert_close(advantage.group(rewards, 4, scale=False), torch.tensor([-0.75, -0.75, -0.75, 2.25]))


def test_leave_one_out_is_the_distance_to_the_mean_of_the_others():
    rewards = torch.tensor([1.0, 2.0, 6.0, NAN, 5.0, 5.0, NAN, NAN])
    expected = torch.tensor([1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(advantage.leave_one_out(rewards, 4), expected)


def test_leave_one_out_without_nan_is_g_over_g_minus_one_times_dr_grpo():
    rewards = torch.rand(24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(advantage.leave_one_out(rewards, 6), 6 / 5 * advantage.group(rewards, 6, scale=False))


def test_reinforce_plus_plus_baseline_by_hand():
    # minus the means 1 and 0: (-1, 1, 0, 0); mean 0, variance 1/2
    found = estimate("reinforce_plus_plus_baseline", torch.tensor([0.0, 2.0, 0.0, 0.0]), 2)
    torch.testing.assert_close(found, torch.tensor([-math.sqrt(2), math.sqrt(2), 0.0, 0.0]))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_unscorable_rows_get_nothing_and_influence_nothing(name):
    rewards = torch.tensor([0.5, 2.0, 1.5, NAN, 0.0, 0.5, NAN, 2.0, NAN, NAN, NAN, NAN])
    found = estimate(name, rewards, 4)
    assert found.isfinite().all() and not found[rewards.isnan()].any()
    scorable = torch.tensor([0.5, 2.0, 1.5, 0.0, 0.5, 2.0])  # the same without them, in groups of 3
    torch.testing.assert_close(found[~rewards.isnan()], estimate(name, scorable, 3))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_advantages_do_not_depend_on_a_shift_and_sum_to_zero(name):
    rewards = torch.rand(32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = estimate(name, rewards, 8)
    torch.testing.assert_close(estimate(name, rewards + 5, 8), found)
    assert abs(found.sum().item()) < 1e-9
    assert found.dtype == rewards.dtype


def test_estimators_that_compare_within_a_group_need_one():
    for name in GROUPED:
        with pytest.raises(ValueError, match="num_generations >= 2"):
            estimate(name, torch.zeros(4), 1)
        with pytest.raises(ValueError, match="cannot be split"):
            estimate(name, torch.zeros(5), 2)
    assert estimate("batch", torch.tensor([0.0, 1.0]), 1).tolist() == pytest.approx([-1.0, 1.0])


def test_unknown_names_and_switches_without_effect_are_refused():
    with pytest.raises(ValueError, match="'reinforce'.*'batch', 'group', 'leave_one_out'"):
        estimate("reinforce", torch.zeros(4), 2)
    with pytest.raises(ValueError, match="scale=False has no effect on the estimator 'batch'"):
        estimate("batch", torch.zeros(4), 2, scale=False)
    assert torch.equal(estimate("group", torch.arange(4.0), 2, scale=False), advantage.group(torch.arange(4.0), 2, scale=False))


def test_token_returns_by_hand():
    rewards = torch.tensor([2.0, 0.5])
    k1 = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, NAN]])  # NaN stands under padding
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = torch.tensor([[2.0 - 0.2, 2.0 - 0.1, 2.0 - 0.3], [0.5 - 0.9, 0.5 - 0.5, 0.5]])
    torch.testing.assert_close(token_returns(rewards, k1, mask, 0.1), expected)


REWARDS, LENGTHS = torch.tensor([2.0, 2.0, 2.0, 0.5]), torch.tensor([10, 10, 10, 200])
MASK = torch.arange(200) < LENGTHS.unsqueeze(1)
WORKED_OUT = {
    # mean 1.625, deviations 3/8 and -9/8: variance (3 (3/8)^2 + (9/8)^2) / 4 = 27/64, its root 3 sqrt(3) / 8
    "rows": [1 / math.sqrt(3)] * 3 + [-math.sqrt(3)],  # 0.577, -1.732
    # 30 of 230 tokens are in right rows: of two values with shares p and q, z = sqrt(q/p) and -sqrt(p/q)
    "tokens": [math.sqrt(200 / 30)] * 3 + [-math.sqrt(30 / 200)],  # 2.582, -0.387
}


@pytest.mark.parametrize("coefficient", [0.0, 1e-12])
@pytest.mark.parametrize("over", WORKED_OUT)
def test_rows_and_tokens_weigh_the_same_with_a_kl_penalty_in_the_reward_as_without(over, coefficient):
    expected = torch.tensor(WORKED_OUT[over])
    rows = advantage.estimate("batch", REWARDS, statistics_weights(LENGTHS, over))
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0)
    k1 = torch.rand(4, 200, generator=torch.Generator().manual_seed(0))
    tokens = advantage.estimate("batch", token_returns(REWARDS, k1, MASK, coefficient), statistics_weights(MASK, over))
    torch.testing.assert_close(tokens, expected.unsqueeze(1) * MASK, atol=1e-6, rtol=0)


def test_statistics_weights_by_hand():
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert statistics_weights(mask.sum(1), "tokens").tolist() == [1, 4, 0]
    assert statistics_weights(mask, "tokens").tolist() == mask.tolist()
    assert statistics_weights(mask.sum(1), "rows").tolist() == [1, 1, 1]
    assert statistics_weights(mask, "rows").tolist() == [[1, 0, 0, 0], [0.25] * 4, [0.25] * 4]
    with pytest.raises(ValueError, match="over one of .'rows', 'tokens'., not over 'token'"):
        statistics_weights(mask, "token")


@pytest.mark.parametrize("over", ["rows", "tokens"])
def test_a_row_without_tokens_counts_the_same_with_a_kl_penalty_as_without(over):
    """It was truncated, and masked for that. Over rows: 0, 3, 3 has mean 2 and variance 2. Over tokens: 3, 3."""
    returns, mask = torch.tensor([0.0, 3.0, 3.0]), torch.tensor([[0, 0], [1, 0], [1, 1]])
    expected = torch.tensor([-math.sqrt(2), math.sqrt(0.5), math.sqrt(0.5)] if over == "rows" else [0.0, 0.0, 0.0])
    rows = standardise(returns, statistics_weights(mask.sum(1), over))
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0)
    tokens = standardise(token_returns(returns, torch.zeros(3, 2), mask, 0.1), statistics_weights(mask, over))
    torch.testing.assert_close(tokens[1:, 0], rows[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.1, 0.7, 1.3])
def test_equal_returns_give_exactly_zero_whatever_the_lengths(value):
    """Weights of 1/3 and 1/7 are not exact in binary; a mean off by 1e-17 would still give advantages of 1e-9."""
    mask = torch.arange(64) < torch.randint(1, 65, (100, 1), generator=torch.Generator().manual_seed(1))
    returns = token_returns(torch.full((100,), value), torch.zeros(100, 64), mask, 1e-3)
    for over in ("rows", "tokens"):
        assert not standardise(returns, statistics_weights(mask, over)).any()


def test_the_baseline_is_the_mean_of_a_prompts_rows_whatever_the_statistics_are_over():
    """Minus the means 1 and 0: -1, 1, 0, 0. Over tokens -1 counts three times: mean -2/6, E[x^2] 4/6, variance 5/9."""
    returns = row_returns("reinforce_plus_plus_baseline", torch.tensor([0.0, 2.0, 0.0, 0.0]), 2)
    assert returns.tolist() == [-1.0, 1.0, 0.0, 0.0]
    weights = statistics_weights(torch.tensor([3, 1, 1, 1]), "tokens")
    found = advantage.estimate("reinforce_plus_plus_baseline", returns, weights)
    expected = torch.tensor([-2 / 3, 4 / 3, 1 / 3, 1 / 3]) / math.sqrt(5 / 9)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - set(OVER_BATCH)))
def test_what_is_not_standardised_over_the_batch_does_not_read_weights(name):
    returns = row_returns(name, REWARDS, 2)
    assert torch.equal(advantage.estimate(name, returns, statistics_weights(LENGTHS, "tokens")), returns)
