"""How sure a score is, and whether two of them differ, where items of one question belong together.

Pairs of one question share an image, and mostly a response too, so they are right or wrong together more often than
pairs of two questions. Intervals therefore resample groups of items, not items (the cluster bootstrap: Davison and Hinkley
1997, section 3.8). Where every group is one item, this is the bootstrap of `statistics.bootstrap_interval`.

Shapes: N items, G groups, M numbers, R resamples.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr

from r1reward.benchmarks.protocols import Marks
from r1reward.benchmarks.statistics import Interval, wilson_interval
from r1reward.benchmarks.verdicts import ORDERS
from r1reward.messages import listed

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0  # of the resampling, always: the same votes give the same interval
_CHUNK = 2**20  # drawn groups held at once


def group_sums(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """(G, M) sums of the (N, M) values over the items of each group, groups in the order of their names."""
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, which, values)
    return sums


def resampled_ratios(
    numerators: np.ndarray, denominators: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Draw G of the G groups with replacement, R times, and divide the sums of what was drawn.

    Args:
        numerators: (G, M) sums over each group.
        denominators: (G, M) what they are divided by, such as the group's number of items.
        rng: Draws the groups, the same ones for all M numbers.
        resamples: R.

    Returns:
        (R, M); NaN where a resample's denominator is 0.
    """
    num_groups, num_ratios = numerators.shape
    both = np.concatenate([numerators, denominators], 1)
    sums = []
    step = max(1, _CHUNK // num_groups)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(num_groups, size=(size, num_groups), dtype=np.int32)
        drawn += np.arange(size, dtype=np.int32)[:, None] * num_groups
        times = np.bincount(drawn.reshape(-1), minlength=size * num_groups).reshape(size, num_groups)
        sums.append(times.astype(float) @ both)
    above, below = np.split(np.concatenate(sums), [num_ratios], axis=1)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def percentile_interval(value: float, draws: np.ndarray, num_groups: float | None = None) -> Interval:
    """The value with the 2.5 % and 97.5 % percentiles of its resamples.

    Args:
        value: The number, over all groups.
        draws: (R,) resampled; NaN are left out.
        num_groups: Of a share: number of groups behind it. Where every resample is 0, or every one is 1, the bounds are
            then Wilson's for so many groups, since 46 of 46 do not say "certainly 1"; None leaves them without width.
    """
    if num_groups is not None and value in (0, 1) and np.nanmin(draws) == np.nanmax(draws):
        n = max(1, math.floor(num_groups))
        bounds = wilson_interval(int(value) * n, n, CONFIDENCE)
        return Interval(float(value), bounds.low, bounds.high)
    tail = (1 - CONFIDENCE) / 2
    # Rounded, so that the order in which a machine adds up floats cannot show in a file of results.
    low, high = np.nanquantile(draws, [tail, 1 - tail]).round(12)
    return Interval(float(value), float(low), float(high))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict:
    """McNemar's exact test (1947) on what two judges got right of the same trials.

    Under the hypothesis that both are equally good, each discordant trial is a fair coin. The p-value is two-sided, twice
    the smaller tail of Binomial(discordant, 1/2), at most 1. Trials count as independent of each other.

    Args:
        right_a, right_b: (T,) bool, one entry for each trial.

    Returns:
        `n`, the counts `both_right`, `only_a_right`, `only_b_right`, `both_wrong`, and `p_value`.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "n": len(right_a),
        "both_right": int((right_a & right_b).sum()),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "both_wrong": int((~right_a & ~right_b).sum()),
        "p_value": min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))),
    }


def compare(a: Marks, b: Marks, resamples: int = RESAMPLES) -> dict:
    """Whether judge a is better than judge b on the same items, marked by the same protocol.

    Compared are the verdicts that count for both (only VL-RewardBench's official protocol leaves any out).

    Args:
        a, b: Marks of both judges; their items may come in different orders.
        resamples: Number of bootstrap resamples.

    Returns:
        `n` items compared and `groups`; `left_out`, verdicts that do not count for both; `accuracy_a`, `accuracy_b`, and
        `difference`, a - b with its interval from resampled groups. `mcnemar` has one trial for each item: right in all
        orders that are judged. `mcnemar_verdicts` has one for each item and order; two orders of an item are hardly
        independent, so where both are judged its p-value is too small, and the interval and `mcnemar` are to be believed.

    Raises:
        ValueError: Different items, groups or orders: which ones.
    """
    b = _aligned(a, b)
    counted = a.counted & b.counted
    kept = counted.any(1)
    if not kept.any():
        raise ValueError(f"none of the {len(a.ids)} items counts for both results")
    groups = np.array(a.groups)[kept]
    right = np.stack([(marks.right & counted).sum(1) for marks in (a, b)], 1)[kept]
    size = counted.sum(1)[kept]
    accuracies = [int(total) / int(size.sum()) for total in right.sum(0)]
    difference = group_sums((right[:, :1] - right[:, 1:]).astype(float), groups)
    sizes = group_sums(size[:, None].astype(float), groups)
    draws = resampled_ratios(difference, sizes, np.random.default_rng(SEED), resamples)[:, 0]
    value = (int(right[:, 0].sum()) - int(right[:, 1].sum())) / int(size.sum())
    return {
        "n": int(kept.sum()),
        "groups": len(sizes),
        "left_out": int((a.judged & ~counted).sum()),
        "accuracy_a": accuracies[0],
        "accuracy_b": accuracies[1],
        "difference": percentile_interval(value, draws).to_dict(),
        "mcnemar": mcnemar(right[:, 0] == size, right[:, 1] == size),
        "mcnemar_verdicts": mcnemar(a.right[counted], b.right[counted]),
    }


def _aligned(a: Marks, b: Marks) -> Marks:
    """The marks of b in the order of a's items."""
    for name, other, here, there in (("first", "second", a, b), ("second", "first", b, a)):
        lacking = sorted(set(here.ids) - set(there.ids))
        if lacking:
            raise ValueError(f"{len(lacking)} items of the {name} result are not in the {other}: {listed(lacking, ', ')}")
    position = {id: i for i, id in enumerate(b.ids)}
    order = np.array([position[id] for id in a.ids])
    b = Marks(
        a.ids,
        tuple(b.groups[i] for i in order),
        *(field[order] for field in (b.judged, b.choices, b.undecided, b.counted, b.right)),
    )
    unlike = [a.ids[i] for i in range(len(a.ids)) if a.groups[i] != b.groups[i]]
    if unlike:
        raise ValueError(f"{len(unlike)} items are in other groups in the second result: {listed(unlike, ', ')}")
    unlike = [f"{a.ids[i]} {ORDERS[order]}" for i, order in np.argwhere(a.judged != b.judged)]
    if unlike:
        raise ValueError(f"{len(unlike)} verdicts are in one result only (other protocol or seed?): {listed(unlike, ', ')}")
    return b
