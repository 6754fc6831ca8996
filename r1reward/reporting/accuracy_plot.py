"""Accuracy before and after training as a dot plot with intervals: one row per arm, one panel per split."""

import math
from pathlib import Path

from r1reward.data.rows import PREFERENCE
from r1reward.reporting.runs import Run
from r1reward.reporting.style import INK, MUTED, below, figure_of, in_our_look, label, look, note, put_title, save
from r1reward.reporting.summary import Comparison, Estimate


@in_our_look
def accuracy(comparison: Comparison, path: Path, title: str = "Accuracy before and after training") -> Path:
    """A dot plot of accuracy with intervals, a row per arm, a panel per split; writes a PNG and returns its path."""
    splits = [(comparison.split, [(arm, arm.before, arm.after) for arm in comparison.arms])]
    if any(arm.other_before or arm.other_after for arm in comparison.arms):
        splits.append((comparison.other_split, [(arm, arm.other_before, arm.other_after) for arm in comparison.arms]))
    if not any(before or after for _, members in splits for _, before, after in members):
        return note(path, title, "No run was evaluated.")
    failed = [f", {arm.collapsed} collapsed" if arm.collapsed else "" for arm in comparison.arms]
    labels = [f"{label(arm.arm, 34)}\nn={len(arm.runs)}{more}" for arm, more in zip(comparison.arms, failed, strict=True)]
    heights = [max(0.52, 0.18 * text.count("\n") + 0.28) for text in labels]  # of the rows, in inches
    places = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    figure = figure_of(4.9 * len(splits) + 1.6, sum(heights) + 1.95)
    axes = figure.subplots(1, len(splits), sharey=True, sharex=True, squeeze=False)
    only_pairs = comparison.tasks == [PREFERENCE]
    of = "pairs (each judged in both orders)" if only_pairs else "rows"
    ends = [50.0] if only_pairs else []
    for axis, (split, members) in zip(axes.flat, splits, strict=True):
        for row, (arm, before, after) in enumerate(members):
            ends += _draw_arm(axis, places[row], look(row)[0], before, after, [_after(run, split) for run in arm.runs])
        if only_pairs:
            axis.axvline(50, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        axis.set_title(split.replace("_", " ").capitalize(), loc="left", fontsize=10.5, fontweight="bold", color=INK)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(f"{comparison.accuracy_name}, % of {of}", color=MUTED)
    first = axes[0, 0]
    first.set_ylim(sum(heights), 0)  # first arm on top
    span = max(ends) - min(ends)
    # Room on the right for the number; nothing outside 0 to 100 % needs room, however wide an interval is.
    first.set_xlim(max(-1, min(ends) - 0.06 * span - 1), min(109, max(ends) + 0.2 * span + 1))
    first.set_xticks([tick for tick in first.get_xticks() if 0 <= tick <= 100 and first.get_xlim()[0] <= tick])
    first.set_yticks(places, labels, fontsize=9.5, color=INK)
    several = any(len(arm.runs) > 1 for arm in comparison.arms)
    single = any(len(arm.runs) == 1 for arm in comparison.arms)
    bars = ["t-interval across seeds" if several else "", "bootstrap interval over items where n=1" if single else ""]
    caption = f"Hollow: before training; filled: after; bars: 95 % {', '.join(bar for bar in bars if bar)}"
    caption += "; small dots: seeds" if several else ""
    caption += "; dashed: guessing, 50 %" if only_pairs else ""
    put_title(figure, title)
    height = figure.get_figheight()
    figure.tight_layout(rect=(0, below(figure, caption), 1, 1 - 0.4 / height), w_pad=2)
    return save(figure, path, caption)


def _draw_arm(axis, row: float, colour: str, before: Estimate | None, after: Estimate | None, seeds: list) -> list[float]:
    """Draws one arm at the height `row` (inches) and returns the per cents that the axis has to show."""
    ends = []
    if before and after:
        axis.plot([100 * before.mean, 100 * after.mean], [row, row], color=colour, alpha=0.35, linewidth=1.6, zorder=2)
    for value, filled in ((before, False), (after, True)):
        if value is None:
            continue
        ends.append(100 * value.mean)
        if value.low is not None and value.high is not None and filled:
            low, high = (min(100.0, max(0.0, 100 * bound)) for bound in (value.low, value.high))
            axis.plot([low, high], [row, row], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt", zorder=2)
            ends += [low, high]
        # The ring is wider than the dot, so that both show where nothing changed.
        marker = {"markersize": 6, "zorder": 5} if filled else {"markersize": 10.5, "markerfacecolor": "white", "zorder": 4}
        axis.plot(100 * value.mean, row, "o", color=colour, markeredgewidth=1.4, **marker)
    seeds = [100 * seed for seed in seeds if seed is not None]
    if len(seeds) > 1:
        axis.plot(seeds, [row + 0.13] * len(seeds), ".", color=colour, markersize=5, alpha=0.8, zorder=3)
    if after:
        right = max(ends)
        axis.annotate(
            f"{100 * after.mean:.1f}",
            (right, row),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color=INK,
        )
    return ends


def _after(run: Run, split: str) -> float | None:
    mean = ((run.evaluation("after", split) or {}).get("accuracy") or {}).get("mean")
    return mean if isinstance(mean, int | float) and math.isfinite(mean) else None
