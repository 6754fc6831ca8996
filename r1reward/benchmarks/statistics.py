"""Intervals for what we report: over items within a run, over seeds between runs.

Two questions, two kinds of interval. "How sure is this run's accuracy, given so many benchmark items?" is answered by
`bootstrap_interval` over items. "Does this arm differ from that one?" is answered over seeds, by `mean_interval` and
`paired_difference`: items of one run share a model, so more items never replace more seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

_CHUNK = 2**22  # drawn indices held at once: 32 MiB
_FEW_VALUES = 16


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, in the unit of the values. The bounds are NaN where they cannot be known (one seed)."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def bootstrap_interval(
    per_item_values: np.ndarray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean over items (Efron and Tibshirani 1993, section 13.3).

    Where all values are equal every resample is the same and the percentiles have no width. If the values are then all
    0 or all 1, the bounds are Wilson's, so that 20 right of 20 reads [0.84, 1.00], not "certainly 1". For any other
    common value, and so for a single item of 0.5, the interval has no width: nothing in the data says how wide it is.

    Args:
        per_item_values: (n,) one finite value per item, such as accuracy averaged over both orders. Values that belong
            together (both orders of an item) must be averaged first, or the interval comes out too narrow.
        resamples: Number of bootstrap resamples.
        confidence: Coverage, between 0 and 1.
        seed: Of the resampling; the same values in any order and the same seed give the same interval.
    """
    values = np.sort(_checked(per_item_values, confidence))
    n, mean = len(values), float(np.mean(values))
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        if distinct[0] in (0.0, 1.0):
            return wilson_interval(n if distinct[0] == 1.0 else 0, n, confidence)
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    if len(distinct) <= _FEW_VALUES:
        # Values such as 0, 0.5 and 1: drawing how often each comes up has the same distribution and is much faster.
        means = rng.multinomial(n, counts / n, size=resamples) @ distinct / n
    else:
        step = max(1, _CHUNK // n)
        sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
        means = np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion (Wilson 1927); unlike mean +- z * error it has width at 0 and n successes.

    For `n` of `n` its lower bound is n / (n + z^2), close to the rule of three's 1 - 3 / n but never below 0.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    _check_confidence(confidence)
    z = float(ndtri(0.5 + confidence / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else centre + half
    return Interval(p, low, high)


def mean_interval(values_per_seed: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's t interval: mean +- t(k - 1) * s / sqrt(k), s with k - 1 in the denominator.

    Args:
        values_per_seed: (k,) one finite value per seed. With k = 1 the spread is unknown and both bounds are NaN.
    """
    values = _checked(values_per_seed, confidence)
    k, mean = len(values), float(np.mean(values))
    if k == 1:
        return Interval(mean, math.nan, math.nan)
    half = float(stdtrit(k - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / math.sqrt(k))
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Mean of a - b over seeds with its t interval; an interval without 0 is a difference at that confidence.

    Args:
        a, b: (k,) values of two arms, in the same order of seeds: pairing removes what a seed does to both arms.
    """
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds in both arms, got {len(a)} and {len(b)} values")
    return mean_interval(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), confidence)


def _checked(values: Sequence[float] | np.ndarray, confidence: float) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"need a non-empty list of values, got shape {values.shape}")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{bad} of {len(values)} values are NaN or infinite; count failures as 0")
    _check_confidence(confidence)
    return values


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
