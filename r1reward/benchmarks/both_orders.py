"""Judging every item in both orders of its responses, and what that says about a reward model.

One order alone rewards a judge for its habits: one that always answers "1" scores 100 % where the better response is always
shown first (as in the released evaluation of R1-Reward), and 50 % here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from r1reward.benchmarks.statistics import bootstrap_interval
from r1reward.data.rows import PreferenceRow
from r1reward.inference.reward_model import Judgement, RewardModel


@dataclass(frozen=True)
class BothOrders:
    """The judgements of n items: `forward[i]` with the responses as row i gives them, `backward[i]` with them swapped."""

    rows: list[PreferenceRow]
    forward: list[Judgement]
    backward: list[Judgement]

    def summary(self) -> dict:
        """Rates with 95 % bootstrap intervals over items.

        `accuracy` is the mean of the two orders, `both_orders_correct` the share of items right in both, `flip_rate` the share
        whose preferred response changes with the order (an unparsable verdict counts as wrong, and as a flip where only one
        of the two is unparsable), `first_position_rate` the share of parsable verdicts that name response 1, averaged per
        item, `format_rate` the share of parsable verdicts.
        """
        labels = np.array([row.label for row in self.rows])
        first = np.array([j.verdict.choice or 0 for j in self.forward])
        second = np.array([j.verdict.choice or 0 for j in self.backward])
        right = np.stack([first == labels, second == 3 - labels], 1)  # (n, 2)
        preferred = np.stack([first, np.where(second > 0, 3 - second, 0)], 1)  # numbering of the forward order
        parsable = np.stack([first > 0, second > 0], 1)
        named_first = np.stack([first == 1, second == 1], 1)
        judged = parsable.any(1)
        values = {
            "accuracy": right.mean(1),
            "both_orders_correct": right.all(1),
            "flip_rate": preferred[:, 0] != preferred[:, 1],
            "first_position_rate": named_first[judged].sum(1) / parsable[judged].sum(1),
            "format_rate": parsable.mean(1),
        }
        summary = {"n": len(self.rows)}
        for name, per_item in values.items():
            summary[name] = bootstrap_interval(np.asarray(per_item, dtype=float)).to_dict() if len(per_item) else None
        tokens = [judgement.tokens for judgement in self.forward + self.backward]
        summary["mean_completion_tokens"] = float(np.mean(tokens))
        summary["by_category"] = {
            category: {"n": int(chosen.sum()), "accuracy": bootstrap_interval(right[chosen].mean(1)).to_dict()}
            for category in sorted({row.category for row in self.rows})
            if (chosen := np.array([row.category == category for row in self.rows])).any()
        }
        return summary


def judge_both_orders(
    reward_model: RewardModel,
    rows: list[PreferenceRow],
    batch_size: int,
    max_new_tokens: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> BothOrders:
    """Judge each row as given and with its responses swapped, 2n verdicts in all."""
    judgements = reward_model.judge(rows + [row.swapped() for row in rows], batch_size, max_new_tokens, on_progress=on_progress)
    return BothOrders(rows, judgements[: len(rows)], judgements[len(rows) :])
