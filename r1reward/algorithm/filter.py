"""The Advantage Filter of StableReinforce: rows (or tokens) with an extreme advantage get none.

Shapes: N rows of the global rollout batch (all ranks), T completion tokens.

A filtered advantage is set to zero; the row is not removed. It stays in the denominators of the loss, so the rest of
the batch is not scaled up, and a KL term in the loss still acts on it. Paper and released code agree on this, and
disagree on what is extreme:

    paper       |z| <= 3 is kept, z = the advantages standardised over the global batch
    released    mean(R) - 3 <= z <= mean(R) + 3 is kept, R = the returns *before* standardisation
    none        everything is kept

With rewards of 2.0 (right) and 0.5 (wrong), a share p of them right, a wrong row has z = -sqrt(p / (1-p)). `paper`
zeroes wrong rows once p exceeds 0.9; `released` compares with mean(R) - 3 = 1.5 p - 2.5 and zeroes them once p
exceeds about 0.685, after which only right rows are learnt from.
"""

import math

import torch
from torch import Tensor

from r1reward.algorithm.advantage import standardise, weighted_mean

FILTERS = ("paper", "released", "none")

RELEASED_LIMIT = 10.0  # the released code then also zeroes |z| > 10; acts only where |mean(R)| > 7


def keep_mask(
    advantages: Tensor,
    raw: Tensor,
    kind: str,
    threshold: float = 3.0,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Which advantages the filter keeps; multiply by it, `advantages * keep`, to zero the others.

    Sources: `paper`, the Advantage Filter of arXiv 2505.02835; `released`, `replay_buffer.py:246-275` of
    yfzhang114/r1_reward. That code floors the variance at 1e-8 and then adds 1e-8 to z, where we add 1e-8 to the
    deviation: no difference that matters.

    Args:
        advantages: (N,) one per row or (N, T) one per token, of the whole global batch.
        raw: (N,) rewards or (N, T) returns from which the advantages were made. NaN marks rows that could not be
            scored: they have no part in the statistics.
        kind: One of `FILTERS`.
        threshold: Half-width of the kept range of z, in standard deviations.
        mask: (N, T), with advantages per token only: 1 on completion tokens. The statistics then run over tokens.
        lengths: (N,) completion tokens per row, for `released` with advantages per row: the released statistics run
            over tokens, so a row counts as often as it has tokens. The other kinds do not read it.

    Returns:
        Boolean, the shape of `advantages`. True on padding and on rows that could not be scored: there was nothing to
        filter, and the False entries can be counted as what the filter took.

    Raises:
        ValueError: Unknown kind, or a mask or lengths that does not fit the shape of the advantages.
    """
    if kind not in FILTERS:
        raise ValueError(f"unknown advantage filter {kind!r}; choose one of {FILTERS}")
    if mask is not None and mask.shape != advantages.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, the advantages {tuple(advantages.shape)}; they must be equal")
    if lengths is not None and lengths.shape != advantages.shape:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}, the advantages {tuple(advantages.shape)}: lengths go with one "
            "advantage per row; with one per token give a mask"
        )
    if kind == "none":
        return torch.ones_like(advantages, dtype=torch.bool)

    if raw.dim() < advantages.dim():
        raw = raw.unsqueeze(1)
    raw = raw.expand_as(advantages)
    weights = torch.ones_like(advantages, dtype=torch.float64) if mask is None else mask.double()
    if kind == "released" and lengths is not None:
        weights = lengths.double()
    weights = torch.where(torch.isnan(raw), 0.0, weights)
    z = standardise(advantages.double(), weights)

    if kind == "paper":
        kept = z.abs() <= threshold  # the 1e-8 in z's denominator outweighs rounding: z = 3 (18 of 20 right) is kept
    else:
        centre = weighted_mean(raw, weights)
        kept = (z >= centre - threshold) & (z <= centre + threshold) & (z.abs() <= RELEASED_LIMIT)
    return kept | (weights == 0)


def largest_reachable_z(num_rows: int) -> float:
    """The largest |z| that one of `num_rows` equally weighted rows can have: sqrt(N - 1).

    The extreme case is one row apart from N-1 equal ones. Put those at 0 and the one at 1: the mean is 1/N, the
    population variance 1/N - 1/N^2 = (N-1)/N^2, so z = (1 - 1/N) / (sqrt(N-1)/N) = sqrt(N-1). A filter at 3 therefore
    cannot act on up to 10 rows. This answers for `paper` only: the bounds of `released` move with the mean reward,
    and lengths make its weights unequal.
    """
    return math.sqrt(num_rows - 1)


def largest_group_advantage(num_generations: int) -> float:
    """The largest |advantage| of GRPO within a group of G rollouts: (G - 1) / sqrt(G), in sample deviations.

    Again one row apart from the others: its distance to the mean is (G-1)/G and the sample variance
    (G-1)/G^2 * G/(G-1) = 1/G. At G = 8 it is 2.47: no GRPO advantage exceeds 3 before it is standardised over the
    batch. (G = 11 is the first group size that can.)
    """
    return (num_generations - 1) / math.sqrt(num_generations)
