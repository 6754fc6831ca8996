"""Advantage estimators: from the rewards of the global rollout batch to one advantage per row or per token.

Shapes: N rows of the global rollout batch (all ranks), G rollouts per prompt, T completion tokens. Rows are grouped
by prompt: rows 0..G-1 belong to the first prompt. Rewards have no unit; KL terms are in nats.

A reward of NaN marks a row that could not be scored. It is left out of every statistic and its advantage is 0.

All statistics but GRPO's are taken in float64. A batch of equal rewards must give advantages of exactly 0, and in
float32 it does not: the mean of 256 times 0.7 is off by its rounding, 1.2e-7, which the division by (deviation + 1e-8)
blows up to 0.92 for every row.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 1e-8  # added to the standard deviation, so that equal values give 0 instead of 0/0
GRPO_EPSILON = 1e-4  # the same in TRL's GRPO


def standardise(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """`(x - mean) / (population standard deviation + 1e-8)` over all elements of the tensor.

    Args:
        values: Any shape, for example (N,) or (N, T). NaN elements are left out.
        mask: Same shape; 1 where an element counts, 0 where not (padding). Other non-negative numbers are weights: an
            element of weight 3 counts as three equal elements.

    Returns:
        Same shape and dtype; 0 where an element is left out. All 0 if nothing counts.
    """
    weights = torch.ones_like(values, dtype=torch.float64) if mask is None else mask.to(torch.float64)
    centred = torch.where(torch.isnan(values), torch.nan, values.double() - weighted_mean(values, weights))
    deviation = weighted_mean(centred.square(), weights).sqrt()
    counted = (weights > 0) & ~torch.isnan(values)
    return torch.where(counted, centred / (deviation + EPSILON), 0.0).to(values.dtype)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of the elements that are not NaN and have a positive weight: 0-d, float64; 0 if there are none."""
    counted = (weights > 0) & ~torch.isnan(values)
    weights = torch.where(counted, weights.double(), 0.0)
    total = (weights * torch.where(counted, values.double(), 0.0)).sum()
    return torch.where(counted.any(), total / weights.sum(), 0.0)


def batch(rewards: Tensor, num_generations: int = 1) -> Tensor:
    """Reinforce++ (arXiv 2501.03262), StableReinforce's estimator: rewards standardised over the global rollout batch.

    There is no baseline per prompt, so one rollout per prompt suffices, and `num_generations` has no part in it.

    Args:
        rewards: (N,)

    Returns:
        (N,)
    """
    return standardise(rewards)


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
    grouped = _by_prompt(rewards, num_generations).double()
    scorable = (~torch.isnan(grouped)).sum(dim=1, keepdim=True)
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    advantages = centred * scorable / (scorable - 1).clamp(min=1)
    return advantages.flatten().nan_to_num(nan=0.0).to(rewards.dtype)


def reinforce_plus_plus_baseline(rewards: Tensor, num_generations: int) -> Tensor:
    """Reinforce++ with baseline (arXiv 2501.03262): minus the prompt's mean, then standardised over the global batch.

    Args:
        rewards: (N,)
        num_generations: G, at least 2.

    Returns:
        (N,)
    """
    grouped = _by_prompt(rewards, num_generations).double()
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    return standardise(centred.flatten()).to(rewards.dtype)


def token_returns(rewards: Tensor, k1: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Reinforce++ with the KL penalty inside the reward: each token's return, undiscounted.

        return_t = R - coefficient * sum over s >= t of k1_s

    The row's reward R arrives on the last token, so every token's return holds all of it; a token pays for the
    divergence from itself onwards. `standardise(token_returns(...), mask)` is the advantage; as in the released code
    (`replay_buffer.py`, `normalize`) its statistics run over tokens, so long completions weigh more.

    Args:
        rewards: (N,)
        k1: (N, T) `log p_old - log p_ref` in nats (`kl.k1`); what stands under padding is not read.
        mask: (N, T)
        coefficient: Weight of the KL term: 0 in the paper, 1e-3 in the released code.

    Returns:
        (N, T); 0 on padding, NaN on the tokens of a row that could not be scored (so that `standardise` leaves them
        out).
    """
    inside = mask.bool()
    penalty = torch.where(inside, k1, 0.0)
    to_go = penalty.flip(1).cumsum(1).flip(1)
    return torch.where(inside, rewards.unsqueeze(1) - coefficient * to_go, 0.0)


ESTIMATORS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "batch": batch,
    "group": group,
    "leave_one_out": leave_one_out,
    "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline,
}


def estimate(name: str, rewards: Tensor, num_generations: int, scale: bool = True) -> Tensor:
    """Advantages (N,) of `rewards` (N,) by the estimator called `name`, one of `ESTIMATORS`.

    `scale=False` turns GRPO into Dr. GRPO. The other estimators have no such switch.

    Raises:
        ValueError: The name is not known; `scale=False` with an estimator on which it has no effect; G or N does not
            fit.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"unknown advantage estimator {name!r}; choose one of {sorted(ESTIMATORS)}")
    if name == "group":
        return group(rewards, num_generations, scale)
    if not scale:
        raise ValueError(f"scale=False has no effect on the estimator {name!r}: leave it at True, or choose 'group'")
    return ESTIMATORS[name](rewards, num_generations)


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
