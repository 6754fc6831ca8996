"""Judging every item in both orders of its responses, and what that says about a reward model.

One order alone rewards a judge for its habits: one that always answers "1" scores 100 % where the better response is always
shown first (as in the released evaluation of R1-Reward), and 50 % here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.protocols import requests
from r1reward.benchmarks.scores import summarise
from r1reward.benchmarks.sharing import in_shared_batches
from r1reward.benchmarks.verdicts import ORDERS, Table, Vote
from r1reward.data.rows import PreferenceRow
from r1reward.inference.reward_model import Judgement, RewardModel


@dataclass(frozen=True)
class BothOrders:
    """The judgements of n items: `forward[i]` with the responses as row i gives them, `backward[i]` with them swapped."""

    rows: list[PreferenceRow]
    forward: list[Judgement]
    backward: list[Judgement]

    def summary(self) -> dict:
        """The rates of `r1reward.benchmarks.scores.summarise` (protocol both_orders) with 95 % bootstrap intervals over items,
        `format_rate` (the share of well-formed verdicts) in the place of `malformed_rate`, and accuracy by category.
        """
        items = [Item(row, row.id, row.category) for row in self.rows]
        judged = zip(ORDERS, (self.forward, self.backward), strict=True)
        votes = [
            Vote(row.id, order, 0, judgement.verdict.choice, judgement.verdict.rejection, judgement.tokens, judgement.text)
            for order, judgements in judged
            for row, judgement in zip(self.rows, judgements, strict=True)
        ]
        benchmark = Benchmark("rows", items, sizes={}, notes={})
        scores = summarise(benchmark, Table.build(items, votes, requests(benchmark, "both_orders")))
        overall, malformed = scores["overall"], scores["overall"]["malformed_rate"]
        formatted = {"mean": 1 - malformed["mean"], "low": 1 - malformed["high"], "high": 1 - malformed["low"]}
        return {
            "n": overall["n"],
            **{name: overall[name] for name in ("accuracy", "both_orders_correct", "flip_rate", "first_position_rate")},
            "format_rate": formatted,
            "unparsable_rate": overall["unparsable_rate"],
            "mean_completion_tokens": overall["mean_tokens"] and overall["mean_tokens"]["mean"],
            "by_category": {
                category: {"n": block["n"], "accuracy": block["accuracy"]} for category, block in scores["by_category"].items()
            },
        }


def judge_both_orders(
    reward_model: RewardModel,
    rows: list[PreferenceRow],
    batch_size: int,
    max_new_tokens: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> BothOrders:
    """Judge each row as given and with its responses swapped, 2n verdicts in all.

    Processes of one training share the batches (`in_shared_batches`), and all must call this.

    Args:
        rows: The rows, the same on all processes.
        batch_size: Verdicts per generated batch.
        max_new_tokens: Longest completion in tokens.
        on_progress: Called with the number of verdicts just made, on each process with those of all.
    """
    shown = rows + [row.swapped() for row in rows]

    def judged(batch: list[int]) -> list[Judgement]:
        return reward_model.judge([shown[i] for i in batch], batch_size, max_new_tokens)

    judgements = in_shared_batches([len(row.text()) for row in shown], batch_size, judged, on_progress)
    return BothOrders(rows, judgements[: len(rows)], judgements[len(rows) :])
