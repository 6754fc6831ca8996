import math

import numpy as np
import pytest

from r1reward.benchmarks.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    wilson_interval,
)


def test_t_interval_of_three_seeds_worked_by_hand():
    # 1, 2, 3: mean 2, s = 1 (k - 1 = 2), t(2, 0.975) = 4.30265, half width 4.30265 / sqrt(3) = 2.48414
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.low == pytest.approx(2 - 2.48414, abs=1e-5) and found.high == pytest.approx(2 + 2.48414, abs=1e-5)
    # 90 %: t(2, 0.95) = 2.91999
    assert mean_interval([1.0, 2.0, 3.0], confidence=0.9).high == pytest.approx(2 + 2.91999 / math.sqrt(3), abs=1e-5)


def test_one_seed_has_a_mean_and_no_known_bounds():
    found = mean_interval([0.7])
    assert found.mean == 0.7 and math.isnan(found.low) and math.isnan(found.high)


def test_pairing_removes_what_the_seed_does_to_both_arms():
    # Differences 0.1, 0.1, 0.1 under very different seeds: the pairs agree exactly, the arms' own intervals overlap.
    a, b = [0.3, 0.6, 0.9], [0.2, 0.5, 0.8]
    found = paired_difference(a, b)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert mean_interval(a).low < mean_interval(b).high
    # Differences 0 and 2: mean 1, s = sqrt(2), t(1, 0.975) = 12.7062, half width 12.7062
    found = paired_difference([1, 3], [1, 1])
    assert found.mean == 1 and found.high == pytest.approx(1 + 12.7062, abs=1e-4)
    assert paired_difference([1, 1], [1, 3]).mean == -1


def test_wilson_interval_worked_by_hand():
    # 8 of 10, z = 1.95996, z^2 = 3.84146: centre (0.8 + 0.192073) / 1.384146 = 0.716740,
    # half width 1.95996 / 1.384146 * sqrt(0.016 + 0.0096036) = 0.226577
    found = wilson_interval(8, 10)
    assert found.mean == 0.8
    assert found.low == pytest.approx(0.490163, abs=1e-5) and found.high == pytest.approx(0.943317, abs=1e-5)
    # n of n: the lower bound is n / (n + z^2)
    assert wilson_interval(20, 20).low == pytest.approx(20 / 23.84146, abs=1e-6)
    assert wilson_interval(20, 20).high == 1.0 and wilson_interval(0, 20).low == 0.0
    assert wilson_interval(0, 20).high == pytest.approx(1 - wilson_interval(20, 20).low)


def test_bootstrap_of_accuracies_agrees_with_the_binomial():
    # 300 right of 400: standard error sqrt(0.75 * 0.25 / 400) = 0.02165, so 0.75 +- 1.96 * 0.02165 = [0.7076, 0.7924]
    found = bootstrap_interval(np.array([1.0] * 300 + [0.0] * 100))
    assert found.mean == 0.75
    assert found.low == pytest.approx(0.7076, abs=0.003) and found.high == pytest.approx(0.7924, abs=0.003)


def test_bootstrap_of_many_different_values_agrees_with_the_standard_error():
    # 0 .. 999: standard deviation 288.675, standard error 288.675 / sqrt(1000) = 9.1287, times 1.96 = 17.892
    found = bootstrap_interval(np.arange(1000.0))
    assert found.mean == 499.5
    assert found.low == pytest.approx(499.5 - 17.892, abs=0.6) and found.high == pytest.approx(499.5 + 17.892, abs=0.6)


def test_both_ways_of_resampling_agree():
    few = np.tile([0.0, 0.5, 1.0], 100)
    many = few + np.arange(300) * 1e-9  # the same values to nine digits, but each different
    a, b = bootstrap_interval(few), bootstrap_interval(many)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.004)


def test_bootstrap_does_not_depend_on_the_order_of_items_and_repeats():
    values = np.random.default_rng(1).random(200)
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1])
    assert bootstrap_interval(values, seed=0) != bootstrap_interval(values, seed=1)


def test_more_items_and_less_confidence_give_a_narrower_interval():
    def width(interval: Interval) -> float:
        return interval.high - interval.low

    few, many = np.array([0.0, 1.0] * 20), np.array([0.0, 1.0] * 80)
    assert width(bootstrap_interval(many)) == pytest.approx(width(bootstrap_interval(few)) / 2, rel=0.1)
    assert width(bootstrap_interval(few, confidence=0.5)) < width(bootstrap_interval(few))


def test_degenerate_values():
    assert bootstrap_interval(np.ones(20)) == wilson_interval(20, 20)
    assert bootstrap_interval(np.zeros(5)) == wilson_interval(0, 5)
    assert bootstrap_interval(np.array([1.0])).low == pytest.approx(1 / 4.84146, abs=1e-5)
    assert bootstrap_interval(np.full(9, 0.5)) == Interval(0.5, 0.5, 0.5)
    assert bootstrap_interval(np.array([True, False])).mean == 0.5


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_values_without_a_mean_are_refused(values):
    for interval in (bootstrap_interval, mean_interval):
        with pytest.raises(ValueError, match="non-empty|NaN or infinite"):
            interval(np.array(values))


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(3, 2)
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match="between 0 and 1"):
            bootstrap_interval(np.array([0.0, 1.0]), confidence=confidence)
        with pytest.raises(ValueError, match="between 0 and 1"):
            wilson_interval(1, 2, confidence=confidence)


def test_to_dict():
    assert Interval(0.5, 0.25, 0.75).to_dict() == {"mean": 0.5, "low": 0.25, "high": 0.75}
