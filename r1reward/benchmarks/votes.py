"""Many votes, one verdict: the majority, and what fewer votes would have given.

Shapes: K votes for an item and order; a choice is 1, 2 or 0 (unparsable).
"""

import math

import numpy as np


def majority(choices: np.ndarray, absolute_majority: bool = False) -> np.ndarray:
    """The response that more of the parsable votes name.

    Tie rule: with as many votes for 1 as for 2, none at all included, there is no majority, and nothing is drawn.

    Args:
        choices: (..., K) votes.
        absolute_majority: More than half of all K votes must name it, unparsable ones included in K (VL-RewardBench's scorer).

    Returns:
        (...) 1, 2 or 0 for none.
    """
    for_1, for_2 = (choices == 1).sum(-1), (choices == 2).sum(-1)
    enough = choices.shape[-1] / 2 if absolute_majority else 0
    winner = np.where(for_1 > np.maximum(for_2, enough), 1, np.where(for_2 > np.maximum(for_1, enough), 2, 0))
    return winner.astype(np.int8)


def subset_chances(choices: np.ndarray, labels: np.ndarray, absolute_majority: bool = False) -> np.ndarray:
    """What to expect of k of the K votes, for all k at once and without a new sample.

    The expectation over all subsets of k votes, each as likely as any other, so that the curve does not depend on the
    order in which the votes were drawn. With r votes for the right response, w for the wrong one and u unparsable, a
    subset holds (a, b, c) of them in C(r, a) C(w, b) C(u, c) of the C(K, k) cases (multivariate hypergeometric); the
    majority is right where a > b and wrong where b > a. The counts are whole numbers below 2^53 up to K = 56, so that only
    the final division rounds.

    Args:
        choices: (n, K) votes.
        labels: (n,) the right response, 1 or 2.
        absolute_majority: As in `majority`: more than half of a subset, (a + b + c) / 2, must name the response.

    Returns:
        (n, K, 3): for k = 1 to K the chance that the majority is right, that it is wrong, and that any of the k votes is
        right. The last is near 1 for any judge that draws both answers often enough; it measures no capability.
    """
    right = (choices == labels[:, None]).sum(1)
    unparsable = (choices == 0).sum(1)
    counts = np.stack([right, choices.shape[1] - right - unparsable, unparsable], 1)
    distinct, which = np.unique(counts, axis=0, return_inverse=True)
    chances = [_chances(*map(int, triple), absolute_majority) for triple in distinct]
    return np.stack(chances)[which.reshape(-1)]


def _chances(right: int, wrong: int, unparsable: int, absolute_majority: bool) -> np.ndarray:
    """(K, 3) for one item with that many votes of each kind."""
    num_votes = right + wrong + unparsable
    a, b, c = np.meshgrid(*(np.arange(n + 1) for n in (right, wrong, unparsable)), indexing="ij")
    size = a + b + c
    ways = np.multiply.outer(np.outer(_binomials(right), _binomials(wrong)), _binomials(unparsable))
    enough = size / 2 if absolute_majority else 0
    cases = _binomials(num_votes)[1:]

    def chance(favourable: np.ndarray) -> np.ndarray:
        return np.bincount(size[favourable], weights=ways[favourable], minlength=num_votes + 1)[1:] / cases

    none_right = np.append(_binomials(num_votes - right), np.zeros(right))[1:] / cases
    return np.stack([chance(a > np.maximum(b, enough)), chance(b > np.maximum(a, enough)), 1 - none_right], 1)


def _binomials(n: int) -> np.ndarray:
    """(n + 1,) C(n, 0) to C(n, n)."""
    return np.array([math.comb(n, i) for i in range(n + 1)], dtype=float)
