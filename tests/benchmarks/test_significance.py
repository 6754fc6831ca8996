"""McNemar's test by hand, and intervals that know which items belong together."""

from dataclasses import replace

import numpy as np
import pytest

from r1reward.benchmarks.protocols import Marks
from r1reward.benchmarks.significance import compare, group_sums, mcnemar, percentile_interval, resampled_ratios
from r1reward.benchmarks.statistics import bootstrap_interval, wilson_interval


def marks(right, groups=None, counted=None):
    """Marks of items i0, i1, ... from (N, 2) right, both orders judged."""
    right = np.array(right, dtype=bool).reshape(-1, 2)
    ids = tuple(f"i{n}" for n in range(len(right)))
    judged = np.ones_like(right)
    counted = judged if counted is None else np.array(counted, dtype=bool)
    choices = np.ones(right.shape, dtype=np.int8)
    return Marks(ids, tuple(groups or ids), judged, choices, ~counted, counted, right & counted)


def test_group_sums():
    sums = group_sums(np.array([[1.0, 5.0], [2.0, 6.0], [4.0, 7.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[2, 6], [5, 12]]


def test_single_items_give_the_ordinary_bootstrap():
    values = np.repeat([0.0, 0.5, 1.0], [60, 30, 110])
    draws = resampled_ratios(values[:, None], np.ones((200, 1)), np.random.default_rng(0))[:, 0]
    assert len(draws) == 10_000
    ours, theirs = percentile_interval(values.mean(), draws, 200), bootstrap_interval(values)
    assert ours.mean == theirs.mean
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)


def test_copies_of_an_item_add_no_certainty():
    """100 questions of four pairs that are always right or wrong together are worth 100 items, not 400."""
    values = np.repeat([0.0, 1.0], [40, 60])
    once = resampled_ratios(values[:, None], np.ones((100, 1)), np.random.default_rng(0))
    four_times = resampled_ratios(4 * values[:, None], np.full((100, 1), 4.0), np.random.default_rng(0))
    assert np.array_equal(once, four_times)
    assert once.std() == pytest.approx(np.sqrt(0.6 * 0.4 / 100), rel=0.03)


def test_unequal_groups_are_weighted_by_their_items():
    """Groups of 3 right of 3 and 0 right of 1: drawing both gives 3/4, the first twice 1, the second twice 0."""
    draws = resampled_ratios(np.array([[3.0], [0.0]]), np.array([[3.0], [1.0]]), np.random.default_rng(0))[:, 0]
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == [0, 0.75, 1]
    assert counts / 10_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_many_groups_are_drawn_in_several_parts():
    """2^20 draws at once are 262 resamples of 4,000 groups: none is lost or repeated where one part ends."""
    values = np.tile([0.0, 1.0], 2000)[:, None]
    draws = resampled_ratios(values, np.ones_like(values), np.random.default_rng(0))
    assert draws.shape == (10_000, 1)
    assert draws.std() == pytest.approx(0.5 / np.sqrt(4000), rel=0.03)
    assert not np.array_equal(draws[:262], draws[262:524])


def test_nothing_in_the_denominator_is_left_out_of_the_percentiles():
    draws = resampled_ratios(np.array([[1.0], [0.0]]), np.array([[2.0], [0.0]]), np.random.default_rng(0))[:, 0]
    assert np.isnan(draws).mean() == pytest.approx(0.25, abs=0.02)
    interval = percentile_interval(0.5, draws)
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_shares_of_nothing_and_of_all_have_wilsons_width():
    ones = np.ones(100)
    assert percentile_interval(1.0, ones, 46) == wilson_interval(46, 46)
    assert percentile_interval(0.0, 0 * ones, 46) == wilson_interval(0, 46)
    assert percentile_interval(1.0, ones, 6.9) == wilson_interval(6, 6)
    assert percentile_interval(1.0, ones).low == 1  # not a share: one token each
    assert percentile_interval(0.5, 0.5 * ones, 46).low == 0.5


def test_mcnemar_by_hand():
    """Six discordant trials, five for a: 2 (C(6, 0) + C(6, 1)) / 2^6 = 14 / 64."""
    a = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0], dtype=bool)
    b = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0], dtype=bool)
    assert mcnemar(a, b) == {
        "n": 9,
        "both_right": 2,
        "only_a_right": 5,
        "only_b_right": 1,
        "both_wrong": 1,
        "p_value": pytest.approx(14 / 64, abs=1e-15),
    }
    assert mcnemar(b, a)["p_value"] == mcnemar(a, b)["p_value"]


def test_mcnemar_without_a_difference():
    a = np.array([True, False])
    assert mcnemar(a, a)["p_value"] == 1
    assert mcnemar(a, ~a)["p_value"] == 1  # one each way: twice the tail of 1/4 + 1/2 is more than 1


def test_compare_counts_items_and_verdicts():
    """Item 0: a right twice, b once. Item 1: a once, b never. Item 2: both twice. Item 3: b once, a never."""
    a = marks([[1, 1], [0, 1], [1, 1], [0, 0]])
    b = marks([[1, 0], [0, 0], [1, 1], [1, 0]])
    result = compare(a, b)
    assert (result["n"], result["groups"], result["left_out"]) == (4, 4, 0)
    assert (result["accuracy_a"], result["accuracy_b"]) == (5 / 8, 4 / 8)
    assert result["difference"]["mean"] == 1 / 8
    assert result["difference"]["low"] < 0 < result["difference"]["high"]
    assert [result["mcnemar"][k] for k in ("n", "both_right", "only_a_right", "only_b_right", "both_wrong")] == [4, 1, 1, 0, 2]
    assert [result["mcnemar_verdicts"][k] for k in ("n", "both_right", "only_a_right", "only_b_right")] == [8, 3, 2, 1]
    assert result["mcnemar"]["p_value"] == 1
    assert result["mcnemar_verdicts"]["p_value"] == 1


def test_a_difference_on_every_item_is_found():
    """a is right on 60 of 100 items where b is wrong in one order, and nowhere else do they differ."""
    right_b = np.ones((100, 2))
    right_b[:60, 1] = 0
    result = compare(marks(np.ones((100, 2))), marks(right_b))
    assert result["difference"]["mean"] == 0.3
    # A share of 0.6 of 100 items, halved: 0.3 +- 1.96 * 0.049 / 2.
    assert result["difference"]["low"] == pytest.approx(0.252, abs=0.006)
    assert result["difference"]["high"] == pytest.approx(0.348, abs=0.006)
    assert result["mcnemar"]["p_value"] == pytest.approx(2 * 0.5**60)


def test_the_difference_is_resampled_by_group():
    rng = np.random.default_rng(1)
    of_group = rng.integers(0, 2, size=50)
    right = np.repeat(of_group, 8).reshape(-1, 2)  # 50 groups of 4 items, both orders alike
    never = np.zeros_like(right)
    grouped = compare(marks(right, [f"g{n // 4}" for n in range(200)]), marks(never, [f"g{n // 4}" for n in range(200)]))
    single = compare(marks(right), marks(never))
    width = [result["difference"]["high"] - result["difference"]["low"] for result in (grouped, single)]
    assert grouped["groups"] == 50 and single["groups"] == 200
    assert width[0] / width[1] == pytest.approx(2, rel=0.1)  # a quarter of the items, twice the width


def test_what_counts_for_one_result_only_is_left_out():
    """Item 0 counts for a only, item 1 for both, item 2 for both in one order."""
    a = marks([[1, 1], [1, 1], [1, 1]], counted=[[1, 1], [1, 1], [1, 0]])
    b = marks([[0, 0], [1, 0], [0, 0]], counted=[[0, 0], [1, 1], [1, 1]])
    result = compare(a, b)
    assert (result["n"], result["left_out"]) == (2, 3)
    assert (result["accuracy_a"], result["accuracy_b"]) == (3 / 3, 1 / 3)
    assert result["mcnemar"]["only_a_right"] == 2
    nothing = marks([[0, 0]] * 3, counted=[[0, 0]] * 3)
    with pytest.raises(ValueError, match="none of the 3 items counts"):
        compare(a, nothing)


def test_items_are_matched_by_id():
    a = marks([[1, 1], [0, 0], [1, 0]], groups=["g", "g", "h"])
    turned = Marks(a.ids[::-1], a.groups[::-1], *(x[::-1] for x in (a.judged, a.choices, a.undecided, a.counted, a.right)))
    result = compare(a, turned)
    assert result["difference"]["mean"] == result["mcnemar_verdicts"]["only_a_right"] == 0
    assert result == compare(a, a)


def test_mismatched_items_are_named():
    a, b = marks([[1, 1]] * 3), marks([[1, 1]] * 2)
    with pytest.raises(ValueError, match="1 items of the first result are not in the second: i2$"):
        compare(a, b)
    with pytest.raises(ValueError, match="1 items of the second result are not in the first: i2$"):
        compare(b, a)
    with pytest.raises(ValueError, match="12 items of the first .*, ... and 2 more$"):
        compare(marks([[1, 1]] * 14), b)
    with pytest.raises(ValueError, match="1 items are in other groups in the second result: i1"):
        compare(a, replace(a, groups=("i0", "i0", "i2")))
    with pytest.raises(ValueError, match=r"1 verdicts are in one result only \(other protocol or seed\?\): i2 backward"):
        compare(a, replace(a, judged=np.array([[1, 1], [1, 1], [1, 0]], dtype=bool)))
