"""From a table of votes to the numbers that are reported.

Shapes: N items, 2 orders, K votes, M numbers.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from r1reward.benchmarks.items import Benchmark
from r1reward.benchmarks.protocols import BUCKETS, Marks, Rules, labels_of, mark, rules_of
from r1reward.benchmarks.significance import RESAMPLES, SEED, group_sums, percentile_interval, resampled_ratios
from r1reward.benchmarks.verdicts import Table
from r1reward.benchmarks.votes import subset_chances

_WITH_GROUPS = ("mm_rlhf_rewardbench",)  # benchmarks with Acc+


@dataclass(frozen=True)
class _Ratio:
    """One reported number: the sum of the items' numerators over the sum of their denominators.

    Attributes:
        above, below: (N,) numerators and denominators.
        is_share: It lies between 0 and 1.
        whole_groups: The share of groups all of whose items have above = below (Acc+).
    """

    above: np.ndarray
    below: np.ndarray
    is_share: bool = True
    whole_groups: bool = False


def summarise(
    benchmark: Benchmark,
    table: Table,
    protocol: str = "both_orders",
    buckets: str = "official",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict:
    """All numbers of a benchmark, JSON-able.

    `overall` is over items (micro), `by_category` over those of a category, `macro` the mean over categories. Each holds
    these, as {mean, low, high} with a 95 % interval from resampled groups of items (`significance`; for `macro` resampled
    within each category), or None where there is nothing to divide by:

        accuracy             right verdicts (majorities, if K > 1) among those that count, orders averaged
        both_orders_correct  share of items right in both orders
        flip_rate            share of items whose preferred response changes with the order; so does one that has a majority
                             in one order only. Both None where one order is judged.
        first_position_rate  share of the parsable votes that name the response shown first, averaged over items with any
        unparsable_rate      share of all votes without a choice that could be read
        malformed_rate       share of all votes that do not keep to the format, with or without a choice
        mean_tokens          length of a vote's text in tokens, over the votes whose length is known
        acc_plus             mm_rlhf_rewardbench only: share of groups (questions) all of whose pairs are right, in both
                             orders where both are judged

    With K > 1 also `curve`, for k = 1 to K votes: `accuracy` and `any_correct` (of k votes on an item in one order at least
    one is right; over all items), expected over all subsets of k of the votes (`votes.subset_chances`). At k = K it is the
    accuracy. Where a tie counts as wrong, an even k is lower than the odd ones around it.

    Counts: `n` items, `groups`, `undecided` verdicts (item and order) without a majority, and `left_out`, those of them that
    are not in the denominator. `rules` says how the protocol treats this benchmark (`protocols.Rules`).

    Args:
        benchmark: The items.
        table: Their votes (see `protocols.mark`).
        protocol: One of `protocols.PROTOCOLS`.
        buckets: "official" categories, or "released" as R1-Reward's scorer counts them.
        seed: Of the orders (see `protocols.requests`).
        resamples: Number of bootstrap resamples.

    Raises:
        ValueError: Unknown protocol or buckets, no items, or a table that does not fit.
    """
    if buckets not in BUCKETS:
        raise ValueError(f"unknown buckets {buckets!r}; choose one of {BUCKETS}")
    if not benchmark.items:
        raise ValueError(f"{benchmark.name}: there are no items to summarise")
    marks = mark(benchmark, table, protocol, seed)
    rules = rules_of(benchmark, protocol)
    ratios = _ratios(benchmark, table, marks, rules)
    categories = np.array([item.row.category if buckets == "official" else item.released_category for item in benchmark.items])
    rng = np.random.default_rng(SEED)
    overall = _Block.of(ratios, marks, np.arange(len(categories)), rng, resamples)  # first: the same in whichever buckets
    by_category = {
        str(category): _Block.of(ratios, marks, np.flatnonzero(categories == category), rng, resamples)
        for category in np.unique(categories)
    }
    return {
        "benchmark": benchmark.name,
        "protocol": protocol,
        "rules": asdict(rules),
        "buckets": buckets,
        "votes": table.num_votes,
        "overall": overall.to_dict(table.num_votes),
        "macro": _macro(list(by_category.values())).to_dict(table.num_votes),
        "by_category": {category: block.to_dict(table.num_votes) for category, block in by_category.items()},
    }


@dataclass(frozen=True)
class _Block:
    """The numbers of some items: for each name its value and (R,) resamples, and the number of groups behind it."""

    counts: dict[str, int]
    values: dict[str, float | None]
    draws: dict[str, np.ndarray]
    num_groups: dict[str, float | None]

    @classmethod
    def of(
        cls, ratios: dict[str, _Ratio], marks: Marks, chosen: np.ndarray, rng: np.random.Generator, resamples: int
    ) -> "_Block":
        """Of the items at the chosen positions."""
        groups = np.array(marks.groups)[chosen]
        above = group_sums(np.stack([ratio.above[chosen] for ratio in ratios.values()], 1), groups)
        below = group_sums(np.stack([ratio.below[chosen] for ratio in ratios.values()], 1), groups)
        whole = [ratio.whole_groups for ratio in ratios.values()]
        above[:, whole], below[:, whole] = above[:, whole] == below[:, whole], 1
        totals = zip(above.sum(0), below.sum(0), strict=True)
        shares = zip(ratios.values(), below.T, strict=True)
        return cls(
            counts={
                "n": len(chosen),
                "groups": len(above),
                "undecided": int(marks.undecided[chosen].sum()),
                "left_out": int((marks.judged & ~marks.counted)[chosen].sum()),
            },
            values={name: float(a / b) if b else None for name, (a, b) in zip(ratios, totals, strict=True)},
            draws=dict(zip(ratios, resampled_ratios(above, below, rng, resamples).T, strict=True)),
            num_groups=dict(zip(ratios, [int((b > 0).sum()) if r.is_share else None for r, b in shares], strict=True)),
        )

    def to_dict(self, num_votes: int) -> dict:
        def interval(name: str) -> dict | None:
            if self.values.get(name) is None:
                return None
            return percentile_interval(self.values[name], self.draws[name], self.num_groups[name]).to_dict()

        numbers = {name: interval(name) for name in self.values if "@" not in name}
        for name in ("both_orders_correct", "flip_rate"):
            numbers.setdefault(name, None)
        if num_votes > 1:
            numbers["curve"] = [
                {"k": k, "accuracy": interval(f"accuracy@{k}"), "any_correct": interval(f"any_correct@{k}")}
                for k in range(1, num_votes + 1)
            ]
        return self.counts | numbers


def _macro(blocks: list[_Block]) -> _Block:
    """The mean over categories; None where one of them has no value.

    For an interval by Wilson it stands for C^2 / sum(1 / n_c) groups, the number at which a share over all of them has the
    variance of the mean of C shares over n_c groups.
    """
    values, draws, num_groups = {}, {}, {}
    for name in blocks[0].values:
        of_each = [block.values[name] for block in blocks]
        values[name] = None if None in of_each else math.fsum(of_each) / len(blocks)
        draws[name] = np.mean([block.draws[name] for block in blocks], axis=0)
        sizes = [block.num_groups[name] for block in blocks]
        num_groups[name] = len(sizes) ** 2 / sum(1 / n for n in sizes) if all(sizes) else None
    return _Block({"categories": len(blocks)}, values, draws, num_groups)


def _ratios(benchmark: Benchmark, table: Table, marks: Marks, rules: Rules) -> dict[str, _Ratio]:
    """Each reported number by name; that of k of the K votes is called "accuracy@k"."""
    ones = np.ones(len(marks.ids))
    num_orders = marks.judged.sum(1)
    judged = marks.judged[:, :, None]
    votes = np.where(judged, table.choices, 0)
    parsable = (votes > 0).sum((1, 2))
    named_first = (votes == np.array([1, 2])[:, None]).sum((1, 2))
    num_sampled = num_orders * table.num_votes
    ratios = {"accuracy": _Ratio(marks.right.sum(1) / num_orders, marks.counted.sum(1) / num_orders)}
    if (num_orders == 2).all():
        ratios["both_orders_correct"] = _Ratio(marks.right.all(1).astype(float), ones)
        ratios["flip_rate"] = _Ratio((marks.choices[:, 0] != marks.choices[:, 1]).astype(float), ones)
    ratios["first_position_rate"] = _Ratio(named_first / np.maximum(parsable, 1), (parsable > 0).astype(float))
    ratios["unparsable_rate"] = _Ratio((num_sampled - parsable) / num_sampled, ones)
    ratios["malformed_rate"] = _Ratio(np.where(judged, table.malformed, 0).sum((1, 2)) / num_sampled, ones)
    tokens = np.where(judged, table.tokens, 0)  # 0 where not known
    ratios["mean_tokens"] = _Ratio(tokens.sum((1, 2)) / num_sampled, (tokens > 0).sum((1, 2)) / num_sampled, is_share=False)
    if benchmark.name in _WITH_GROUPS:
        ratios["acc_plus"] = _Ratio(marks.right.sum(1).astype(float), num_orders.astype(float), whole_groups=True)
    if table.num_votes > 1:
        labels = labels_of(benchmark)
        chances = np.stack([subset_chances(table.choices[:, order], labels, rules.absolute_majority) for order in (0, 1)], 1)
        chances = np.where(judged[..., None], chances, 0).sum(1) / num_orders[:, None, None]  # (N, K, 3)
        for k in range(1, table.num_votes + 1):
            right, wrong, any_right = chances[:, k - 1].T
            ratios[f"accuracy@{k}"] = _Ratio(right, right + wrong if rules.undecided == "left_out" else ones)
            ratios[f"any_correct@{k}"] = _Ratio(any_right, ones)
    return ratios
