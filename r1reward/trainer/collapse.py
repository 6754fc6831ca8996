"""When a run collapsed, told from its metrics."""

from dataclasses import dataclass

WINDOW = 5  # steps over which the format rate is averaged
FORMAT_FLOOR = 0.5  # of the rate over the first WINDOW steps


@dataclass(frozen=True)
class Collapse:
    """Whether a run collapsed, at which optimiser step, and how it showed.

    Attributes:
        collapsed: Whether it did.
        step: The first step at which it showed, counted from 1; None for a sound run.
        reason: How it showed, in words; None for a sound run.
        skipped_steps: Steps of the whole run that `StepGuard` kept away from the weights.
    """

    collapsed: bool = False
    step: int | None = None
    reason: str | None = None
    skipped_steps: int = 0


def find_collapse(metrics: list[dict]) -> Collapse:
    """The first step at which the share of well-formed completions had halved, the mean over tasks.

    It compares the mean over the last five steps with that over the first five: a policy that no longer writes answers has
    collapsed, whatever its loss says (R1-Reward, figure 1: length grows to the limit, text turns to garbage). A loss that is
    not finite is no collapse by itself: `StepGuard` skips the step, and says when too many in a row were skipped.
    """
    rates = []
    skipped = int(metrics[-1].get("skipped_steps") or 0) if metrics else 0
    for row in metrics:
        formats = [value for name, value in row.items() if name.startswith("rewards/") and name.endswith("/format/mean")]
        if formats:  # one per task
            rates.append(sum(formats) / len(formats))
            start, now = sum(rates[:WINDOW]) / len(rates[:WINDOW]), sum(rates[-WINDOW:]) / len(rates[-WINDOW:])
            if len(rates) >= 2 * WINDOW and now < FORMAT_FLOOR * start:
                reason = f"share of well-formed completions fell from {start:.2f} to {now:.2f}"
                return Collapse(True, row["step"], reason, skipped)
    return Collapse(skipped_steps=skipped)
