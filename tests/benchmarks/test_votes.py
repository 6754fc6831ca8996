"""Majorities by hand, and the curve against every subset written out."""

from itertools import combinations

import numpy as np
import pytest

from r1reward.benchmarks.votes import majority, subset_chances


def test_majority_of_the_parsable_votes():
    votes = np.array([[1, 1, 2], [2, 0, 2], [0, 0, 1], [1, 2, 0], [0, 0, 0], [2, 2, 2]])
    assert majority(votes).tolist() == [1, 2, 1, 0, 0, 2]


def test_majority_of_all_votes():
    votes = np.array([[1, 1, 2], [2, 0, 2], [1, 2, 0], [2, 2, 2], [0, 0, 1]])
    assert majority(votes, absolute_majority=True).tolist() == [1, 2, 0, 2, 0]
    assert majority(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [2, 2, 1, 2]]), absolute_majority=True).tolist() == [0, 1, 2]
    assert majority(np.array([[1, 2, 1, 2]]), absolute_majority=True).tolist() == [0]


def test_majority_of_a_table_keeps_its_shape():
    assert majority(np.array([[[1], [2]], [[0], [1]]])).tolist() == [[1, 2], [0, 1]]


def test_curve_by_hand():
    """Two right, one wrong, one unparsable. Of the 6 pairs, right-right and two right-unparsable win (3/6), the
    wrong-unparsable loses (1/6), two right-wrong tie. Of the 4 triples only the one without a right vote twice ties:
    RRW, RRU win, RWU twice ties."""
    chances = subset_chances(np.array([[1, 2, 0, 1]]), np.array([1]))[0]
    assert chances[:, 0].tolist() == [2 / 4, 3 / 6, 2 / 4, 1]
    assert chances[:, 1].tolist() == [1 / 4, 1 / 6, 0, 0]
    assert chances[:, 2].tolist() == [2 / 4, 5 / 6, 1, 1]


def brute_force(votes, label, k, absolute_majority):
    right = wrong = any_right = total = 0
    for subset in combinations(votes, k):
        total += 1
        for_right = sum(choice == label for choice in subset)
        for_wrong = sum(choice == 3 - label for choice in subset)
        any_right += for_right > 0
        enough = k / 2 if absolute_majority else 0
        right += for_right > max(for_wrong, enough)
        wrong += for_wrong > max(for_right, enough)
    return [right / total, wrong / total, any_right / total]


@pytest.mark.parametrize("absolute_majority", [False, True])
@pytest.mark.parametrize("num_votes", [1, 2, 5, 8])
def test_curve_equals_all_subsets_enumerated(num_votes, absolute_majority):
    rng = np.random.default_rng(num_votes)
    votes = rng.integers(0, 3, size=(12, num_votes))
    labels = rng.integers(1, 3, size=12)
    chances = subset_chances(votes, labels, absolute_majority)
    assert chances.shape == (12, num_votes, 3)
    for i in range(12):
        for k in range(1, num_votes + 1):
            expected = brute_force(votes[i].tolist(), labels[i], k, absolute_majority)
            assert chances[i, k - 1] == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("absolute_majority", [False, True])
def test_all_votes_together_are_the_majority_exactly(absolute_majority):
    rng = np.random.default_rng(0)
    votes = rng.choice([0, 1, 2], p=[0.05, 0.55, 0.4], size=(300, 15))
    labels = rng.integers(1, 3, size=300)
    chances = subset_chances(votes, labels, absolute_majority)[:, -1]
    winner = majority(votes, absolute_majority)
    assert np.array_equal(chances[:, 0], winner == labels)
    assert np.array_equal(chances[:, 1], winner == 3 - labels)


def test_one_vote_is_the_share_of_right_votes():
    chances = subset_chances(np.array([[1, 1, 2, 0, 0]]), np.array([1]))[0, 0]
    assert chances.tolist() == [2 / 5, 1 / 5, pytest.approx(2 / 5)]


def test_the_order_of_the_votes_does_not_matter():
    votes = np.array([[1, 1, 2, 0, 2, 1]])
    label = np.array([2])
    assert np.array_equal(subset_chances(votes, label), subset_chances(votes[:, ::-1], label))
