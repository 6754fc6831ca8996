"""Learning curves as small multiples, one panel per metric and one colour per arm.

A number that is not finite is never drawn as if it were: the curve ends there, and a cross marks its last finite value.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r1reward.reporting.runs import Run, load_run
from r1reward.reporting.style import INK, MUTED, below, figure_of, in_our_look, label, look, note, put_title, save


@dataclass(frozen=True)
class Panel:
    """One metric: its key in metrics.jsonl, a title in plain words, the unit of the y axis and how it is scaled.

    `kind` is "share" (drawn as per cent), "log" (absolute value on a log scale; zeros have no place on it) or "linear".
    """

    key: str
    title: str
    unit: str
    kind: str = "linear"


PANELS = (
    Panel("reward", "Reward", "mean over rollouts"),
    Panel("rewards/result/mean", "Right verdicts", "% of rollouts", "share"),
    Panel("rewards/format/mean", "Well-formed completions", "% of rollouts", "share"),
    Panel("rewards/consistency/mean", "Consistency term", "mean over rollouts"),
    Panel("completions/mean_length", "Completion length", "tokens"),
    Panel("entropy", "Entropy of the policy", "nats per token"),
    Panel("log_ratio/max_abs", "Largest |log-ratio|", "nats, log scale", "log"),
    Panel("pre_clip/fraction", "Pre-clipped tokens", "% of tokens", "share"),
    Panel("clip_ratio/region_mean", "Tokens outside the clip range", "% of tokens", "share"),
    Panel("advantage_filter/fraction", "Filtered advantages", "% of rollouts", "share"),
    Panel("advantages/max_abs", "Largest |advantage|", "standard deviations"),
    Panel("loss", "Size of the loss", "|loss|, log scale", "log"),
    Panel("grad_norm", "Gradient norm", "log scale", "log"),
)


_TASK_TERM = re.compile(r"rewards/(.+)/([^/]+)/mean")


def panels(metrics: Iterable[dict]) -> list[Panel]:
    """`PANELS`, and after the first one those of the tasks whose terms are in the metrics (`RoutedReward`)."""
    found = {}
    for key in dict.fromkeys(key for row in metrics for key in row):
        if match := _TASK_TERM.fullmatch(key):
            is_share = match[2] in ("format", "result")
            unit, kind = ("% of rollouts", "share") if is_share else ("mean over rollouts", "linear")
            found[key] = Panel(key, f"{match[1]}: {match[2]}", unit, kind)
    return [PANELS[0], *(found[key] for key in sorted(found, key=lambda key: key.split("/")[1])), *PANELS[1:]]


@dataclass(frozen=True)
class Series:
    """One metric of one run: `steps` (N,) and `values` (N,), NaN where not finite; `crosses` are (step, value)."""

    steps: np.ndarray
    values: np.ndarray
    crosses: list[tuple[float, float]]


def series(run: Run, panel: Panel) -> Series | None:
    """The panel's metric of one run; None where the run never logged it.

    A cross stands at the run's first value that is not finite, else where its summary says that it collapsed, at the
    height of the last finite value before (or the first one after, when there is none before).
    """
    points = [(row["step"], row[panel.key]) for row in run.metrics if isinstance(row.get(panel.key), int | float)]
    if not points:
        return None
    steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    finite = np.isfinite(values)
    values = np.where(finite, values, np.nan) * (100 if panel.kind == "share" else 1)
    zero = np.all(values == 0)  # then the panel is not drawn, and there is nothing to leave out of a log scale
    if panel.kind == "log" and not zero:  # the curve passes over zeros, such as the log-ratio of each first update
        shown = values != 0
        steps, values, finite = steps[shown], np.abs(values[shown]), finite[shown]
    marks = {steps[~finite][0]} if not finite.all() else set()
    collapse = run.collapse
    if collapse.get("collapsed") and collapse.get("step") is not None and not marks:
        marks.add(min(float(collapse["step"]), steps[-1]))
    drawable = np.isfinite(values)
    crosses = []
    for mark in marks:
        before = np.flatnonzero(drawable & (steps <= mark))
        after = np.flatnonzero(drawable)
        if len(before) or len(after):
            crosses.append((mark, values[before[-1]] if len(before) else values[after[0]]))
    return Series(steps, values, crosses)


def smooth(values: np.ndarray, log: bool = False) -> np.ndarray:
    """Centred moving mean (geometric with `log`) over about a fifteenth of the run; NaN stays where it is.

    Where a run stops being finite the window narrows towards the last value, so that the line ends on the data.
    """
    half = min(12, len(values) // 30)
    if half == 0:
        return values
    source = np.log(values) if log else values
    result = np.full(len(values), np.nan)
    present = np.flatnonzero(np.isfinite(source))
    for index in present:
        reach = min(half, present[-1] - index) if present[-1] < len(source) - 1 else half
        window = source[max(0, index - reach) : index + reach + 1]
        result[index] = np.mean(window[np.isfinite(window)])
    return np.exp(result) if log else result


def over_seeds(members: list[Series], log: bool = False) -> tuple[np.ndarray, ...]:
    """(steps, raw mean, smooth mean, lowest, highest) over the runs of an arm, on the union of their steps.

    At a step that some runs do not have (or where they are not finite) the others are averaged.
    """
    steps = np.unique(np.concatenate([member.steps for member in members]))
    raw = np.full((len(members), len(steps)), np.nan)
    calm = raw.copy()
    for row, member in enumerate(members):
        where = np.searchsorted(steps, member.steps)
        raw[row, where] = member.values
        calm[row, where] = smooth(member.values, log)
    return steps, _mean(raw, log), _mean(calm, log), np.fmin.reduce(calm), np.fmax.reduce(calm)


def _mean(values: np.ndarray, log: bool) -> np.ndarray:
    """Mean over axis 0 without NaN (NaN where a column has nothing else)."""
    source = np.log(values) if log else values
    present = np.isfinite(source)
    count = present.sum(axis=0)
    mean = np.where(count > 0, np.where(present, source, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return np.exp(mean) if log else mean


@in_our_look
def learning_curves(arms: dict[str, list[Run]], path: Path, title: str = "Learning curves") -> Path:
    """Small multiples of every metric that the runs logged, one colour per arm; writes a PNG and returns its path."""
    drawn, flat = _panels_to_draw(arms)
    if not drawn:
        return note(path, title, "No optimiser steps were recorded, so there is nothing to draw.")
    width = min(len(drawn), 3 if len(drawn) != 4 else 2)
    height = math.ceil(len(drawn) / width)
    figure = figure_of(4.3 * width, 2.65 * height + 1.0)
    axes = figure.subplots(height, width, squeeze=False, sharex=True)
    shown = [arm for arm, runs in arms.items() if any(run.metrics for run in runs)]
    for axis, (panel, members) in zip(axes.flat, drawn, strict=False):
        for index, arm in enumerate(arms):
            if arm in members:
                _draw_series(axis, members[arm], panel, *look(index))
        _style_panel(axis, panel)
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
    for column in range(width):  # the lowest visible panel of each column carries the label
        lowest = max(row for row in range(height) if row * width + column < len(drawn))
        axes[lowest, column].set_xlabel("optimiser step", color=MUTED)
    members = [found for _, by_arm in drawn for found in by_arm.values()]
    caption = _curves_caption(arms, shown, flat, members)
    _legend(figure, arms, shown, any(s.crosses for found in members for s in found), title, below(figure, caption))
    return save(figure, path, caption)


def learning_curve(run_folder: Path | str) -> Path:
    """Draws `curves.png` into one run folder and returns its path; for the end of training."""
    run = load_run(run_folder)
    return learning_curves({run.arm: [run]}, run.folder / "curves.png", title=f"Learning curves, seed {run.seed}")


def _draw_series(axis, members: list[Series], panel: Panel, colour: str, style) -> None:
    """One arm in one panel: its mean with a band, or its seeds one by one if a run collapsed.

    A mean over collapsed and healthy runs would show a value that no run has, and would jump where a run drops out.
    """
    log = panel.kind == "log"
    if any(member.crosses for member in members):
        for member in members:
            axis.plot(member.steps, member.values, color=colour, alpha=0.3, linewidth=0.7, zorder=2)
            axis.plot(member.steps, smooth(member.values, log), color=colour, linestyle=style, linewidth=1.2, zorder=3)
            for step, value in member.crosses:
                axis.plot(step, value, "x", color=colour, markersize=8, markeredgewidth=2.2, zorder=4, clip_on=False)
        return
    steps, raw, calm, low, high = over_seeds(members, log)
    if not np.array_equal(raw, calm, equal_nan=True):
        axis.plot(steps, raw, color=colour, alpha=0.3, linewidth=0.7, zorder=2)
    if len(members) > 1:
        axis.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    alone = "o" if np.isfinite(calm).sum() == 1 else None  # a line of one point is invisible
    axis.plot(steps, calm, color=colour, linestyle=style, linewidth=1.9, marker=alone, zorder=3)


def _panels_to_draw(arms: dict[str, list[Run]]) -> tuple[list[tuple[Panel, dict[str, list[Series]]]], list[str]]:
    """Panels with their series by arm, and the titles of those that are zero at every step of every run."""
    drawn, flat = [], []
    for panel in panels(row for runs in arms.values() for run in runs for row in run.metrics):
        members = {arm: [s for run in runs if (s := series(run, panel)) is not None] for arm, runs in arms.items()}
        members = {arm: found for arm, found in members.items() if found}
        if not members:
            continue
        everything = np.concatenate([s.values for found in members.values() for s in found])
        if np.all(everything == 0):
            flat.append(panel.title.lower())
        elif np.isfinite(everything).any():
            drawn.append((panel, members))
    return drawn, flat


def _style_panel(axis, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_title(panel.title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axis.text(1.0, 1.02, panel.unit, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=MUTED)
    axis.margins(x=0.02, y=0.08)
    axis.tick_params(labelbottom=True)
    if panel.kind == "log":
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        if high / low < 100:  # less than two decades: powers of ten alone would leave the axis without labels
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 10 else (1, 2, 3, 5, 7)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.get_major_locator().set_params(integer=True)
    if panel.kind == "share":  # no room for what cannot be: less than 0 or more than 100 per cent
        low, high = axis.get_ylim()
        low, high = max(low, -1.5), min(high, 102)
        axis.set_ylim(low, high)
        axis.set_yticks([tick for tick in axis.get_yticks() if max(low, 0) <= tick <= min(high, 100)])


def _legend(figure, arms: dict[str, list[Run]], shown: list[str], crossed: bool, title: str, bottom: float) -> None:
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for index, arm in enumerate(arms):
        if arm not in shown:
            continue
        colour, style = look(index)
        n = len(arms[arm])
        labels.append(label(f"{arm}  ({n} seed{'s' if n > 1 else ''})", int((figure.get_figwidth() - 0.7) / 0.085)))
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=2.6))
    if crossed:
        labels.append("a run collapsed, or its value is not finite")
        handles.append(Line2D([], [], color=MUTED, marker="x", linestyle="", markersize=8, markeredgewidth=2.2))
    entries = [0.7 + 0.085 * max(map(len, text.split("\n"))) for text in labels]  # inches, handle and gap included
    one_row = sum(entries) < figure.get_figwidth()
    columns = len(handles) if one_row else max(1, int(figure.get_figwidth() // max(entries)))
    lines = math.ceil(sum(text.count("\n") + 1 for text in labels) / columns)
    inches = figure.get_figheight()
    place = (0.006, 1 - 0.36 / inches)
    legend = figure.legend(handles, labels, loc="upper left", bbox_to_anchor=place, ncols=columns, frameon=False)
    legend.set_in_layout(False)
    put_title(figure, title)
    figure.tight_layout(rect=(0, bottom, 1, 1 - (0.42 + 0.24 * lines) / inches), h_pad=1.4, w_pad=1.6)


def _curves_caption(arms: dict, shown: list[str], flat: list[str], members: list[list[Series]]) -> str:
    parts = []
    means = [found for found in members if len(found) > 1 and not any(s.crosses for s in found)]
    if means:
        parts.append("Line: mean over seeds; band: lowest to highest seed")
    if any(len(found) > 1 and any(s.crosses for s in found) for found in members):
        parts.append("arms with a collapsed run: one line per seed")
    if any(len(s.values) >= 30 for found in members for s in found):
        parts.append("lightly smoothed; faint: not smoothed")
    if flat:
        parts.append(f"zero at every step, not drawn: {', '.join(flat)}")
    missing = [arm for arm in arms if arm not in shown]
    if missing:
        parts.append(f"no optimiser steps: {', '.join(missing)}")
    caption = "; ".join(parts)
    return caption[:1].upper() + caption[1:]
