"""The Advantage Filter of StableReinforce: rows (or tokens) with an extreme advantage get none.

Shapes: N rows of the global rollout batch (all ranks), T completion tokens.

A filtered advantage is set to zero; the row is not removed. It stays in the denominators of the loss, so the rest of
the batch is not scaled up, and a KL term in the loss still acts on it. Paper and released code agree on this, and
disagree on what is extreme:

    paper       |z| <= 3 is kept, z = the advantages standardised over the global batch
    released    mean(R) - 3 <= z <= mean(R) + 3 is kept, R = the returns *before* standardisation
    none        everything is kept

R are the rewards, less the prompt's baseline where the estimator has one (`advantage.row_returns`), and less the KL penalty
where that is in the reward; in the released code as here.

`paper` takes the statistics of z as the advantages' own are taken (`advantage.statistics_weights`): over rows by default.
`released` takes those of z and R over tokens, as the released code does, whatever the advantages' are taken over.

With rewards of 2.0 (right) and 0.5 (wrong), a share p of them right, a wrong row has z = -sqrt(p / (1-p)). `paper`
zeroes wrong rows once p exceeds 0.9; `released` compares with mean(R) - 3 = 1.5 p - 2.5 and zeroes them once p
exceeds about 0.685, after which only right rows are learnt from.
"""

import math

import torch
from torch import Tensor

from r1reward.algorithm.advantage import standardise, statistics_weights, weighted_mean

FILTERS = ("paper", "released", "none")

RELEASED_LIMIT = 10.0  # the released code then also zeroes |z| > 10; acts only where |mean(R)| > 7


def keep_mask(
    advantages: Tensor,
    returns: Tensor,
    kind: str,
    threshold: float = 3.0,
    tokens: Tensor | None = None,
    over: str = "rows",
) -> Tensor:
    """Which advantages the filter keeps; multiply by it, `advantages * keep`, to zero the others.

    Sources: `paper`, the Advantage Filter of arXiv 2505.02835; `released`, `replay_buffer.py:246-275` of
    yfzhang114/r1_reward. That code floors the variance at 1e-8 and then adds 1e-8 to z, where we add 1e-8 to the
    deviation: no difference that matters.

    Args:
        advantages: (N,) one per row or (N, T) one per token, of the whole global batch.
        returns: Same shape: what the advantages were before they were standardised over the batch. NaN marks rows that could
            not be scored: they have no part in the statistics.
        kind: One of `FILTERS`.
        threshold: Half-width of the kept range of z, in standard deviations.
        tokens: Same shape: (N,) completion tokens per row, or (N, T) 1 on completion tokens and 0 on padding. None: one each.
        over: What the statistics of `paper` are taken over, one of `advantage.STATISTICS_OVER`; those of `released` always
            are over tokens.

    Returns:
        Boolean, the shape of `advantages`. True on what has no part in the statistics (padding, rows that could not be
        scored): there was nothing to filter, and the False entries can be counted as what the filter took.

    Raises:
        ValueError: Unknown kind, or shapes that differ.
    """
    if kind not in FILTERS:
        raise ValueError(f"unknown advantage filter {kind!r}; choose one of {FILTERS}")
    tokens = torch.ones_like(advantages) if tokens is None else tokens
    for name, given in (("returns", returns), ("tokens", tokens)):
        if given.shape != advantages.shape:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, the advantages {tuple(advantages.shape)}; they must be equal"
            )
    if kind == "none":
        return torch.ones_like(advantages, dtype=torch.bool)

    weights = statistics_weights(tokens, "tokens" if kind == "released" else over)
    weights = torch.where(torch.isnan(returns).cpu(), 0.0, weights)
    z = standardise(advantages.cpu().double(), weights)
    if kind == "paper":
        kept = z.abs() <= threshold  # the 1e-8 in z's denominator outweighs rounding: z = 3 (18 of 20 right) is kept
    else:
        centre = weighted_mean(returns, weights)
        kept = (z >= centre - threshold) & (z <= centre + threshold) & (z.abs() <= RELEASED_LIMIT)
    return (kept | (weights == 0)).to(advantages.device)


def largest_reachable_z(num_rows: int) -> float:
    """The largest |z| that one of `num_rows` equally weighted rows can have: sqrt(N - 1).

    The extreme case is one row apart from N-1 equal ones. Put those at 0 and the one at 1: the mean is 1/N, the
    population variance 1/N - 1/N^2 = (N-1)/N^2, so z = (1 - 1/N) / (sqrt(N-1)/N) = sqrt(N-1). A filter at 3 therefore
    cannot act on up to 10 rows. This answers for `paper` over rows only: over tokens rows weigh unequally, and the
    bounds of `released` move with the mean reward.
    """
    return math.sqrt(num_rows - 1)


def largest_group_advantage(num_generations: int) -> float:
    """The largest |advantage| of GRPO within a group of G rollouts: (G - 1) / sqrt(G), in sample deviations.

    Again one row apart from the others: its distance to the mean is (G-1)/G and the sample variance
    (G-1)/G^2 * G/(G-1) = 1/G. At G = 8 it is 2.47: no GRPO advantage exceeds 3 before it is standardised over the
    batch. (G = 11 is the first group size that can.)
    """
    return (num_generations - 1) / math.sqrt(num_generations)
