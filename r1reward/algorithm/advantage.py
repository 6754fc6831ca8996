"""Advantage estimators: from the rewards of the global rollout batch to one advantage per row or per token.

Shapes: N rows of the global rollout batch (all ranks), G rollouts per prompt, T completion tokens. Rows are grouped
by prompt: rows 0..G-1 belong to the first prompt. Rewards have no unit; KL terms are in nats.

    rewards (N,) -> row_returns (N,) -> with KL in the reward: token_returns (N, T) -> estimate, the same shape

A reward of NaN marks a row that could not be scored. It is left out of every statistic and its advantage is 0.

All statistics but GRPO's are taken in float64. A batch of equal rewards must give advantages of exactly 0, and in
float32 it does not: the mean of 256 times 0.7 is off by its rounding, 1.2e-7, which the division by (deviation + 1e-8)
blows up to 0.92 for every row. They are taken on the CPU, because Apple's GPUs have no float64, and returned where
their inputs are.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-8  # added to the standard deviation, so that equal values give 0 instead of 0/0
GRPO_EPSILON = 1e-4  # the same in TRL's GRPO
STATISTICS_OVER = ("rows", "tokens")


def standardise(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """`(x - mean) / (population standard deviation + 1e-8)` over all elements of the tensor.

    Args:
        values: Any shape, for example (N,) or (N, T). NaN elements are left out.
        weights: Same shape, not negative; an element of weight 3 counts as three equal elements, one of weight 0 (padding) is
            left out. None: all count the same.

    Returns:
        Same shape, dtype and device; 0 where an element is left out. All 0 if nothing counts.
    """
    given, values = values, values.cpu().double()
    weights = torch.ones_like(values) if weights is None else weights.cpu().double()
    centred = values - weighted_mean(values, weights)
    deviation = weighted_mean(centred.square(), weights).sqrt()
    counted = (weights > 0) & ~torch.isnan(values)
    return _as(given, torch.where(counted, centred / (deviation + EPSILON), 0.0))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of the elements that are not NaN and have a positive weight: 0-d, float64, on the CPU; 0 if there are none."""
    values, weights = values.cpu().double(), weights.cpu().double()
    if not values.numel():
        return values.sum()
    counted = (weights > 0) & ~torch.isnan(values)
    weights = torch.where(counted, weights, 0.0)
    mean = (weights * torch.where(counted, values, 0.0)).sum() / weights.sum()
    # It lies between the smallest and the largest. Rounding must not take it out: equal values deviate by exactly 0.
    smallest, largest = (torch.where(counted, values, outside) for outside in (torch.inf, -torch.inf))
    return torch.where(counted.any(), mean.clamp(smallest.min(), largest.max()), 0.0)


def statistics_weights(tokens: Tensor, over: str) -> Tensor:
    """How much each advantage counts in the statistics over the global batch, given as `weights` to `standardise`.

        rows      every row counts the same, whatever its length: each of its L tokens counts 1/L. So does the paper (arXiv
                  2505.02835), whose example puts one wrong answer among 255 right ones at z = -15.96: the root of 255.
        tokens    every token counts the same, so a row counts as often as it has tokens. So does the released code
                  (`replay_buffer.py`, `normalize`, of yfzhang114/r1_reward).

    With rewards of 2, 2, 2 and 0.5 and lengths of 10, 10, 10 and 200 the wrong row's z is -1.73 over rows, -0.39 over tokens.

    Args:
        tokens: (N,) completion tokens of each row, with one advantage per row; or (N, T) 1 on completion tokens and 0 on
            padding, with one per token.
        over: One of `STATISTICS_OVER`.

    Returns:
        The shape of `tokens`, float64, on the CPU. With `rows`, a row without tokens (truncated, and masked for that) counts
        as well: with one advantage per token, by its padding.
    """
    if over not in STATISTICS_OVER:
        raise ValueError(f"statistics are taken over one of {STATISTICS_OVER}, not over {over!r}")
    tokens = tokens.cpu().double()
    if over == "tokens":
        return tokens
    if tokens.dim() == 1:
        return torch.ones_like(tokens)
    lengths = tokens.sum(1, keepdim=True)
    return torch.where(lengths > 0, tokens / lengths, 1 / tokens.shape[1])


def unchanged(rewards: Tensor, num_generations: int = 1) -> Tensor:
    """No baseline per prompt, so that one rollout per prompt suffices: the rewards (N,) as they are."""
    return rewards


def group(rewards: Tensor, num_generations: int, scale: bool = True) -> Tensor:
    """GRPO (arXiv 2402.03300): each reward relative to its prompt's rollouts, `(r - mean) / (sample deviation + 1e-4)`.

    Equal to TRL 1.16 bit for bit, hence in the dtype of the rewards and not in float64. At most
    `largest_group_advantage(G)`.

    Args:
        rewards: (N,)
        num_generations: G, at least 2.
        scale: False leaves out the division by the deviation (Dr. GRPO, arXiv 2503.20783).

    Returns:
        (N,); 0 for the only scorable row of a group.
    """
    grouped = _by_prompt(rewards, num_generations)  # (N/G, G)
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    if scale:
        scorable = (~torch.isnan(grouped)).sum(dim=1, keepdim=True)
        population_variance = centred.square().nanmean(dim=1, keepdim=True)
        # one scorable row: its sample variance is undefined (1/0 -> inf, times 0 -> NaN), and the NaN becomes 0 below
        sample_variance = population_variance * (scorable / (scorable - 1))
        centred = centred / (sample_variance.sqrt() + GRPO_EPSILON)
    return centred.flatten().nan_to_num(nan=0.0)


def leave_one_out(rewards: Tensor, num_generations: int) -> Tensor:
    """RLOO (arXiv 2402.14740): each reward minus the mean reward of the prompt's other rollouts.

    With n scorable rows in a group this equals `n/(n-1) * (r - group mean)`; not divided by a deviation.

    Args:
        rewards: (N,)
        num_generations: G, at least 2.

    Returns:
        (N,); 0 for the only scorable row of a group, which has no others to compare with.
    """
    grouped = _by_prompt(rewards, num_generations).cpu().double()
    scorable = (~torch.isnan(grouped)).sum(dim=1, keepdim=True)
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    advantages = centred * scorable / (scorable - 1).clamp(min=1)
    return _as(rewards, advantages.flatten().nan_to_num(nan=0.0))


def minus_prompt_mean(rewards: Tensor, num_generations: int) -> Tensor:
    """The baseline of Reinforce++ with baseline (arXiv 2501.03262): each reward minus the mean of its prompt's rollouts.

    Args:
        rewards: (N,)
        num_generations: G, at least 2.

    Returns:
        (N,); NaN for rows that could not be scored.
    """
    grouped = _by_prompt(rewards, num_generations).cpu().double()
    return _as(rewards, (grouped - grouped.nanmean(dim=1, keepdim=True)).flatten())


def token_returns(returns: Tensor, k1: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Reinforce++ with the KL penalty inside the reward: each token's return, undiscounted.

        return_t = R - coefficient * sum over s >= t of k1_s

    The row's return R arrives on the last token, so every token's return holds all of it; a token pays for the
    divergence from itself onwards.

    Args:
        returns: (N,) `row_returns`.
        k1: (N, T) `log p_old - log p_ref` in nats (`kl.k1`); what stands under padding is not read.
        mask: (N, T), with padding on the right.
        coefficient: Weight of the KL term: 0 in the paper, 1e-3 in the released code.

    Returns:
        (N, T); R on padding, where nothing is left to pay; NaN in a row that could not be scored.
    """
    penalty = torch.where(mask.bool(), k1, 0.0)
    to_go = penalty.flip(1).cumsum(1).flip(1)
    return returns.unsqueeze(1) - coefficient * to_go


class Estimator(NamedTuple):
    """`returns(rewards, G)`, (N,), is each reward relative to those of its prompt; then `over_batch` says whether that is
    standardised over the global rollout batch."""

    returns: Callable[[Tensor, int], Tensor]
    over_batch: bool


ESTIMATORS = {
    "batch": Estimator(unchanged, over_batch=True),  # Reinforce++ (arXiv 2501.03262), StableReinforce's estimator
    "group": Estimator(group, over_batch=False),  # GRPO
    "leave_one_out": Estimator(leave_one_out, over_batch=False),  # RLOO
    "reinforce_plus_plus_baseline": Estimator(minus_prompt_mean, over_batch=True),  # arXiv 2501.03262
}
OVER_BATCH = tuple(name for name, estimator in ESTIMATORS.items() if estimator.over_batch)


def row_returns(name: str, rewards: Tensor, num_generations: int, scale: bool = True) -> Tensor:
    """What the estimator called `name`, one of `ESTIMATORS`, makes of rewards (N,) before any statistics over the batch.

    `scale=False` turns GRPO into Dr. GRPO. The other estimators have no such switch.

    Returns:
        (N,); NaN for rows that could not be scored.

    Raises:
        ValueError: The name is not known; `scale=False` with an estimator on which it has no effect; G or N does not
            fit.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"unknown advantage estimator {name!r}; choose one of {sorted(ESTIMATORS)}")
    if name == "group":
        returns = group(rewards, num_generations, scale)
    elif scale:
        returns = ESTIMATORS[name].returns(rewards, num_generations)
    else:
        raise ValueError(f"scale=False has no effect on the estimator {name!r}: leave it at True, or choose 'group'")
    return torch.where(torch.isnan(rewards), torch.nan, returns)


def estimate(name: str, returns: Tensor, weights: Tensor | None = None) -> Tensor:
    """Advantages, in the shape of `returns`: `row_returns` (N,), or `token_returns` (N, T) of an estimator in `OVER_BATCH`.

    Args:
        name: One of `ESTIMATORS`.
        returns: NaN where a row could not be scored.
        weights: `statistics_weights`, which the estimators outside of `OVER_BATCH` do not read; None: all count the same.
    """
    if ESTIMATORS[name].over_batch:
        return standardise(returns, weights)
    return torch.where(torch.isnan(returns), 0.0, returns)


def _as(given: Tensor, found: Tensor) -> Tensor:
    """`found` in the dtype and on the device of `given`; converted before it moves to a device that may have no float64."""
    return found.to(given.dtype).to(given.device)


def _by_prompt(rewards: Tensor, num_generations: int) -> Tensor:
    """(N,) -> (N/G, G), after checking that this works and that there is something to compare within a group."""
    if num_generations < 2:
        raise ValueError(
            f"this estimator compares the rollouts of one prompt and needs num_generations >= 2, got "
            f"{num_generations}; raise it, or use the estimator 'batch'"
        )
    if rewards.numel() % num_generations:
        raise ValueError(f"{rewards.numel()} rewards cannot be split into groups of num_generations={num_generations}")
    return rewards.view(-1, num_generations)
