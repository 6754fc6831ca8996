"""When a run collapsed, told from its metrics."""

import math
from dataclasses import dataclass

WINDOW = 5  # steps over which the format rate is averaged
FORMAT_FLOOR = 0.5  # of the rate over the first WINDOW steps


@dataclass(frozen=True)
class Collapse:
    """Whether a run collapsed, at which optimiser step, and how it showed."""

    collapsed: bool = False
    step: int | None = None
    reason: str | None = None


def find_collapse(metrics: list[dict]) -> Collapse:
    """The first step at which the loss or the gradient was not finite, or the share of well-formed verdicts had halved.

    The latter compares the mean over the last five steps with that over the first five: a policy that no longer writes
    verdicts has collapsed, whatever its loss says (R1-Reward, figure 1: length grows to the limit, text turns to garbage).
    """
    rates = []
    for row in metrics:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row.get(name, 0.0)):
                return Collapse(True, row["step"], f"{name} is not finite")
        if "rewards/format/mean" in row:
            rates.append(row["rewards/format/mean"])
            start, now = sum(rates[:WINDOW]) / len(rates[:WINDOW]), sum(rates[-WINDOW:]) / len(rates[-WINDOW:])
            if len(rates) >= 2 * WINDOW and now < FORMAT_FLOOR * start:
                return Collapse(True, row["step"], f"share of well-formed verdicts fell from {start:.2f} to {now:.2f}")
    return Collapse()
