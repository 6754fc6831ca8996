"""Protocols: which orders of an item are judged, and when a verdict counts as right.

    both_orders  Both orders of every item; the accuracy of an item is the mean of the two. No majority counts as wrong.
    released     As R1-Reward's released scripts do: the preferred response is always Response 1, so a judge that always
                 says 1 scores 100 %. No majority counts as wrong. The scripts draw one verdict; with K votes the majority
                 of this order is what the paper reports as Voting@K. Verdicts are read as the scripts read them, unless
                 `pattern` says otherwise (`inference.readings`).
    official     As the authors of each benchmark do:
                 vl_rewardbench          one order per item, drawn by the seed; an item leaves the denominator where no
                                         response has more than half of its K votes, unparsable ones included in K (in all
                                         versions of the authors' scorer; its filter for unparsable votes has no effect on
                                         the number). The authors draw the order again for each of the K calls; here all
                                         votes of an item share one.
                 multimodal_rewardbench  the order of the data, one verdict; an unparsable one is replaced by a guess
                                         (seed 123, in the order of the data).
                 mm_rlhf_rewardbench     made for models that score one response at a time and silent on the order:
                                         both orders, as in both_orders.

A majority is one of the K votes on one item in one order (`votes.majority`); with K = 1 it is the verdict itself.
"""

import random
from dataclasses import dataclass

import numpy as np

from r1reward.benchmarks.items import Benchmark
from r1reward.benchmarks.verdicts import ORDERS, Table
from r1reward.benchmarks.votes import majority

PROTOCOLS = ("both_orders", "official", "released")
BUCKETS = ("official", "released")
_GUESS_SEED = 123  # scripts/2_get_accuracy.py of Multimodal RewardBench


@dataclass(frozen=True)
class Rules:
    """How one protocol treats one benchmark.

    Attributes:
        orders: "both", "random" (one per item, by the seed), "data" (forward) or "preferred_first".
        undecided: What becomes of an item without a majority: "wrong", "left_out" or "guess".
        one_vote: Only K = 1 has a score.
    """

    orders: str
    undecided: str
    one_vote: bool = False

    @property
    def absolute_majority(self) -> bool:
        """Whether a majority is more than half of all K votes, unparsable ones included, as in VL-RewardBench's scorer."""
        return self.undecided == "left_out"


_BOTH = Rules("both", "wrong")
_OFFICIAL = {
    "vl_rewardbench": Rules("random", "left_out"),
    "multimodal_rewardbench": Rules("data", "guess", one_vote=True),
    "mm_rlhf_rewardbench": _BOTH,
}


@dataclass(frozen=True)
class Marks:
    """The items of a benchmark, marked by a protocol.

    Attributes:
        ids: The N item ids.
        groups: The group of each item.
        judged: (N, 2) bool, the orders that the protocol judges.
        choices: (N, 2) int8, the majority, or what was guessed for it, in the numbering of the forward order; 0 is none.
        undecided: (N, 2) bool, judged but without a majority (before guessing).
        counted: (N, 2) bool, in the denominator of the accuracy.
        right: (N, 2) bool, counted and right.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    judged: np.ndarray
    choices: np.ndarray
    undecided: np.ndarray
    counted: np.ndarray
    right: np.ndarray


def rules_of(benchmark: Benchmark, protocol: str) -> Rules:
    """How the protocol treats the benchmark.

    Raises:
        ValueError: Unknown protocol, or "official" for data that has none.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {PROTOCOLS}")
    if protocol == "released":
        return Rules("preferred_first", "wrong")
    if protocol == "both_orders":
        return _BOTH
    if benchmark.name not in _OFFICIAL:
        raise ValueError(f"{benchmark.name} has no official protocol; choose both_orders")
    return _OFFICIAL[benchmark.name]


def check_votes(benchmark: Benchmark, protocol: str, num_votes: int) -> None:
    """See that the protocol is defined for K votes; asked before anything is generated.

    Raises:
        ValueError: It takes one verdict only.
    """
    if num_votes > 1 and rules_of(benchmark, protocol).one_vote:
        raise ValueError(
            f"the {protocol} protocol of {benchmark.name} takes one verdict per item, got votes={num_votes}; "
            "choose votes=1, or both_orders to vote"
        )


def requests(benchmark: Benchmark, protocol: str, seed: int = 0) -> list[tuple[str, str]]:
    """The (item id, order) pairs that the protocol judges, items in their order, forward before backward.

    Args:
        benchmark: The items.
        protocol: One of `PROTOCOLS`.
        seed: Of the random orders of VL-RewardBench's official protocol; an item's order depends on the seed and its id
            only, not on which other items there are.
    """
    judged = _judged(benchmark, rules_of(benchmark, protocol), seed)
    return [(benchmark.items[i].row.id, ORDERS[order]) for i, order in np.argwhere(judged)]


def mark(benchmark: Benchmark, table: Table, protocol: str, seed: int = 0) -> Marks:
    """Mark a table of votes.

    Args:
        benchmark: The items.
        table: Their votes; it may hold orders that the protocol does not judge, so that one table of both orders can be
            marked by each protocol.
        protocol: One of `PROTOCOLS`.
        seed: As in `requests`.

    Raises:
        ValueError: The table is of other items, or lacks an order that the protocol judges.
    """
    rules = rules_of(benchmark, protocol)
    check_votes(benchmark, protocol, table.num_votes)
    ids = tuple(item.row.id for item in benchmark.items)
    if table.ids != ids:
        raise ValueError(f"the table of {len(table.ids)} items is not of the {len(ids)} items of {benchmark.name}")
    judged = _judged(benchmark, rules, seed)
    lacking = np.argwhere(judged & ~table.judged)
    if len(lacking):
        item, order = lacking[0]
        raise ValueError(f"{len(lacking)} verdicts of {protocol} are not in the table; first {ids[item]!r}, {ORDERS[order]}")
    choices = np.where(judged, majority(table.choices, rules.absolute_majority), 0)
    undecided = judged & (choices == 0)
    if rules.undecided == "guess":
        choices = _guessed(choices, undecided)
    counted = judged & ~undecided if rules.undecided == "left_out" else judged
    right = choices == labels_of(benchmark)[:, None]  # a choice of 0 never is
    return Marks(ids, tuple(item.group for item in benchmark.items), judged, choices, undecided, counted, right)


def labels_of(benchmark: Benchmark) -> np.ndarray:
    """(N,) the better response of each item, 1 or 2 in the forward order."""
    return np.array([item.row.label for item in benchmark.items], dtype=np.int8)


def _judged(benchmark: Benchmark, rules: Rules, seed: int) -> np.ndarray:
    """(N, 2) bool."""
    if rules.orders == "both":
        return np.ones((len(benchmark.items), 2), dtype=bool)
    if rules.orders == "preferred_first":
        forward = labels_of(benchmark) == 1
    elif rules.orders == "random":
        # A generator seeded by a text hashes it, the same way in every Python.
        draws = [random.Random(f"{seed} {item.row.id}").random() for item in benchmark.items]
        forward = np.array(draws) < 0.5
    else:
        forward = np.ones(len(benchmark.items), dtype=bool)
    return np.stack([forward, ~forward], 1)


def _guessed(choices: np.ndarray, undecided: np.ndarray) -> np.ndarray:
    """The choices with a coin thrown for each undecided item, in their order: below 0.5 is response 1."""
    coin = random.Random(_GUESS_SEED)
    choices = choices.copy()
    for i, order in np.argwhere(undecided):
        choices[i, order] = 1 if coin.random() < 0.5 else 2
    return choices
