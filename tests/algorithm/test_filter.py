import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.algorithm import advantage
from r1reward.algorithm.filter import FILTERS, keep_mask, largest_group_advantage, largest_reachable_z

NAN = math.nan


def right_and_wrong(right: int, wrong: int) -> torch.Tensor:
    """Rewards of consistent, well-formed texts (2.0) and of wrong ones in the right format (0.5)."""
    return torch.tensor([2.0] * right + [0.5] * wrong)


def kept(rewards: torch.Tensor, kind: str, **options) -> torch.Tensor:
    return keep_mask(advantage.standardise(rewards), rewards, kind, **options)


def test_one_wrong_among_256_is_zeroed():
    rewards = torch.tensor([1.0] * 255 + [0.0])
    for kind in ("paper", "released"):  # z = -15.97; released: below mean - 3 = -2.004
        assert kept(rewards, kind).tolist() == [True] * 255 + [False]
    assert kept(rewards, "none").all()


def test_at_70_percent_right_the_released_bounds_zero_every_wrong_row_and_the_papers_none():
    rewards = right_and_wrong(70, 30)  # z(wrong) = -sqrt(7/3) = -1.528; released bound: 1.55 - 3 = -1.45
    assert torch.equal(kept(rewards, "released"), rewards == 2.0)
    assert kept(rewards, "paper").all()


def test_the_released_bounds_turn_between_68_and_69_percent_and_the_papers_above_90():
    assert kept(right_and_wrong(68, 32), "released").all()  # z = -1.4577, bound -1.48
    assert torch.equal(kept(right_and_wrong(69, 31), "released"), right_and_wrong(69, 31) == 2.0)  # -1.4919, -1.465
    assert kept(right_and_wrong(90, 10), "paper").all()  # z = -3 exactly
    assert torch.equal(kept(right_and_wrong(91, 9), "paper"), right_and_wrong(91, 9) == 2.0)


@pytest.mark.parametrize("scale", [1, 2, 3, 7, 13])
def test_z_of_exactly_three_is_kept_whatever_the_rounding(scale):
    for values in ((2.0, 0.5), (1.0, 0.0), (1.7, 0.3), (0.1, 0.7)):
        rewards = torch.tensor([values[0]] * 9 * scale + [values[1]] * scale)
        assert kept(rewards, "paper").all()


def test_group_advantages_are_judged_after_standardising_over_the_batch():
    # 7 solved groups and one rare success: |A| = 2.47 < 3, but z = 2.47 / sqrt(7/64) = 7.48
    rewards = torch.ones(64)
    rewards[:8] = torch.tensor([0.0] * 7 + [1.0])
    advantages = advantage.group(rewards, 8)
    assert advantages.abs().max() < 3
    found = keep_mask(advantages, rewards, "paper")
    assert (~found).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("name", ["group", "leave_one_out"])
def test_unscorable_rows_have_no_part_whatever_the_estimator(name):
    """A group with one wrong row in ten: its z is -3. Another, unscorable, has advantages 0: counted in, z would be -4.24."""
    rewards = torch.cat([right_and_wrong(9, 1), torch.full((10,), NAN)])
    returns = advantage.row_returns(name, rewards, 10)
    advantages = advantage.estimate(name, returns)
    assert advantages.isfinite().all()
    assert keep_mask(advantages, returns, "paper", threshold=3.5).all()
    assert not keep_mask(advantages, advantages, "paper", threshold=3.5).all()


def test_threshold_is_in_standard_deviations():
    rewards = torch.tensor([0.0] * 4 + [1.0])  # z = 2
    assert kept(rewards, "paper", threshold=2.0).all()
    assert kept(rewards, "paper", threshold=1.99).tolist() == [True] * 4 + [False]


def test_equal_rewards_are_all_kept():
    for kind in FILTERS:
        assert kept(torch.full((16,), 0.7), kind).all()


def test_unscorable_rows_have_no_part():
    rewards = torch.cat([right_and_wrong(91, 9), torch.full((40,), NAN)])
    found = kept(rewards, "paper")  # more than 90 % of the scorable rows are right
    assert torch.equal(found, ~(rewards == 0.5))
    at_90 = torch.cat([right_and_wrong(90, 10), torch.full((40,), NAN)])
    assert kept(at_90, "paper").all()  # with 40 zeros counted in, the deviation would shrink and z reach -3.55
    far = torch.cat([right_and_wrong(70, 30) + 10, torch.tensor([NAN])])
    assert kept(far, "released")[-1]  # its advantage 0 lies outside 11.55 +- 3, but there is nothing to filter


LONG_WHEN_RIGHT = torch.where(right_and_wrong(66, 34) == 2.0, 120, 100)  # 70 % of the tokens are in right rows


@pytest.mark.parametrize("over", ["rows", "tokens"])
def test_released_statistics_count_tokens(over):
    """Whatever those of the advantages count: 66 % of the rows are right, but 70 % of the tokens."""
    rewards = right_and_wrong(66, 34)
    assert kept(rewards, "released").all()
    advantages = advantage.standardise(rewards, advantage.statistics_weights(LONG_WHEN_RIGHT, over))
    found = keep_mask(advantages, rewards, "released", tokens=LONG_WHEN_RIGHT, over=over)
    assert torch.equal(found, rewards == 2.0)
    mask = torch.arange(120).unsqueeze(0) < LONG_WHEN_RIGHT.unsqueeze(1)
    returns = advantage.token_returns(rewards, torch.zeros(100, 120), mask, 0.0)
    per_token = advantage.standardise(returns, advantage.statistics_weights(mask, over))
    per_token = keep_mask(per_token, returns, "released", tokens=mask, over=over)
    assert torch.equal(per_token, found.unsqueeze(1) | ~mask)


@pytest.mark.parametrize(
    ("over", "zeroed"),
    [("rows", [False, False, False, True]), ("tokens", [True, True, True, False])],
)
def test_the_papers_statistics_are_those_of_the_advantages(over, zeroed):
    """z over rows 0.58 and -1.73, over tokens 2.58 and -0.39; with a KL penalty in the reward as without."""
    rewards, lengths = torch.tensor([2.0, 2.0, 2.0, 0.5]), torch.tensor([10, 10, 10, 200])
    advantages = advantage.standardise(rewards, advantage.statistics_weights(lengths, over))
    found = keep_mask(advantages, rewards, "paper", 1.0, lengths, over)
    assert (~found).tolist() == zeroed
    mask = torch.arange(200) < lengths.unsqueeze(1)
    returns = advantage.token_returns(rewards, torch.rand(4, 200), mask, 1e-12)
    per_token = advantage.standardise(returns, advantage.statistics_weights(mask, over))
    per_token = keep_mask(per_token, returns, "paper", 1.0, mask, over)
    assert torch.equal(per_token, found.unsqueeze(1) | ~mask)


def test_z_of_exactly_three_is_kept_whatever_the_lengths():
    """Here weights of 1/length in float32 would drop a row of 0.5."""
    rewards, lengths = right_and_wrong(90, 10), torch.randint(1, 99, (100, 1), generator=torch.Generator().manual_seed(16))
    mask = torch.arange(99) < lengths
    returns = advantage.token_returns(rewards, torch.zeros(100, 99), mask, 0.0)
    per_token = advantage.standardise(returns, advantage.statistics_weights(mask, "rows"))
    assert keep_mask(per_token, returns, "paper", tokens=mask).all()


def test_one_extreme_token_is_zeroed_and_padding_is_not_counted():
    mask = torch.ones(4, 25)
    mask[3, 20:] = 0
    returns = torch.zeros(4, 25)
    returns[1, 3] = 1.0  # one of 95 tokens: z = sqrt(94)
    returns[3, 24] = 1e6  # under padding
    found = keep_mask(advantage.standardise(returns, mask), returns, "paper", tokens=mask, over="tokens")
    assert (~found).nonzero().tolist() == [[1, 3]]


def test_released_also_drops_beyond_ten_where_its_own_bounds_would_not():
    rewards = torch.tensor([20.0] + [9.0] * 150)  # centre 9.07, kept up to 13.07; z = sqrt(150) = 12.25 > 10
    assert not kept(rewards, "released", threshold=4.0)[0]
    rewards = torch.tensor([20.0] + [9.0] * 120)  # centre 9.09, kept from 6.09 to 12.09; z = sqrt(120) = 10.95 > 10
    assert not kept(rewards, "released")[0]
    rewards = torch.tensor([20.0] + [9.0] * 90)  # z = sqrt(90) = 9.49
    assert kept(rewards, "released")[0]


def test_wrong_arguments_are_named():
    rewards = torch.zeros(4)
    with pytest.raises(ValueError, match="'papers'.*'paper', 'released', 'none'"):
        keep_mask(rewards, rewards, "papers")
    with pytest.raises(ValueError, match=r"tokens has shape \(4, 2\), the advantages \(4,\)"):
        keep_mask(rewards, rewards, "paper", tokens=torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"returns has shape \(4,\), the advantages \(4, 2\)"):
        keep_mask(torch.zeros(4, 2), rewards, "released")


@pytest.mark.parametrize("num_rows", [2, 10, 11, 256])
def test_largest_reachable_z_is_reached_by_a_single_row(num_rows):
    rewards = torch.zeros(num_rows, dtype=torch.float64)
    rewards[0] = 1.0
    assert advantage.standardise(rewards).max().item() == pytest.approx(largest_reachable_z(num_rows), rel=1e-6)
    assert kept(rewards, "paper")[0] == (num_rows <= 10)


@pytest.mark.parametrize("num_generations", [2, 8, 16])
def test_largest_group_advantage_is_reached_by_a_single_rollout(num_generations):
    rewards = torch.zeros(num_generations, dtype=torch.float64)
    rewards[0] = 1e6  # so large that TRL's 1e-4 does not show
    found = advantage.group(rewards, num_generations).max().item()
    assert found == pytest.approx(largest_group_advantage(num_generations), rel=1e-6)


def test_the_bound_for_groups_of_eight():
    assert largest_group_advantage(8) == pytest.approx(2.4749, abs=1e-4)
    assert largest_group_advantage(10) < 3 < largest_group_advantage(11)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=40))
def test_neither_bound_is_ever_exceeded(values):
    rewards = torch.tensor(values)
    assert advantage.standardise(rewards).abs().max() <= largest_reachable_z(len(values)) * (1 + 1e-5)
    group_bound = largest_group_advantage(len(values)) * (1 + 1e-4)
    assert advantage.group(rewards, len(values)).abs().max() <= group_bound
