"""The table of a comparison for the terminal, Markdown and JSON.

Shares are per cent and differences percentage points in what people read; table.json keeps shares, unrounded.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1reward.data.rows import PREFERENCE
from r1reward.reporting.runs import Run
from r1reward.reporting.style import wrapped
from r1reward.reporting.summary import ArmSummary, Comparison, Estimate

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place: the number, its interval below or beside it, and a remark."""

    text: str
    interval: str = ""
    remark: str = ""

    def line(self) -> str:
        parts = [self.text, f"[{self.interval}]" if self.interval else "", self.remark]
        return " ".join(part for part in parts if part)


ACCURACY_COLUMNS = ("arm", "seeds", "accuracy before", "accuracy after", "change", "difference to baseline")
ORDER_COLUMNS = ("both orders correct", "flips", "picks first")  # of preference pairs
BEHAVIOUR_COLUMNS = ("format", "tokens", "other", "collapsed", "minutes")
TASK_COLUMNS = ("arm", "task", "accuracy before, %", "accuracy after, %", "means of the reward's terms, before → after")


def columns(comparison: Comparison) -> list[str]:
    """Column titles, units included."""
    other, accuracy = comparison.other_split.replace("_", "-"), comparison.accuracy_name
    units = {
        "accuracy before": f"{accuracy} before, %",
        "accuracy after": f"{accuracy} after, %",
        "change": "change, points",
        "difference to baseline": "difference to baseline, points",
        "both orders correct": "both orders correct, %",
        "flips": "flip rate, %",
        "picks first": "first-position rate, %",
        "format": "format rate, %",
        "tokens": "mean tokens",
        "other": f"{other} {accuracy} after, %",
        "collapsed": "collapsed runs",
    }
    orders = ORDER_COLUMNS if comparison.has_pairs else ()
    return [units.get(column, column) for column in (*ACCURACY_COLUMNS, *orders, *BEHAVIOUR_COLUMNS)]


def rows(comparison: Comparison) -> list[list[Cell]]:
    """One row per arm, cells in the order of `columns`."""
    return [_row(summary, comparison) for summary in comparison.arms]


def _row(summary: ArmSummary, comparison: Comparison) -> list[Cell]:
    n = len(summary.runs)
    is_baseline = summary.arm == comparison.baseline
    seeds = ", ".join("?" if seed is None else str(seed) for seed in summary.seeds)
    orders = [
        share(summary.both_orders_correct, n),
        share(summary.flip_rate, n, interval=False),
        share(summary.first_position_rate, n, interval=False),
    ]
    return [
        Cell(summary.arm, remark="(baseline)" if is_baseline else ""),
        Cell(f"n={n}", remark=f"({seeds})"),
        share(summary.before, n),
        share(summary.after, n),
        points(summary.change, n),
        Cell(DASH) if is_baseline else points(summary.difference, n, separated=True),
        *(orders if comparison.has_pairs else []),
        share(summary.format_rate, n, interval=False),
        Cell(f"{summary.tokens.mean:.1f}" if summary.tokens else DASH),
        share(summary.other_after, n),
        Cell(f"{summary.collapsed} of {n}"),
        Cell(f"{summary.minutes:.1f}" if summary.minutes is not None else DASH),
    ]


def task_rows(comparison: Comparison) -> list[list[Cell]]:
    """One row per arm and task, cells in the order of `TASK_COLUMNS`; none for preference pairs alone."""

    def term(name: str, values: tuple[Estimate | None, Estimate | None]) -> str:
        return f"{name} {' → '.join(DASH if value is None else f'{value.mean:.3f}' for value in values)}"

    return [
        [
            Cell(arm.arm),
            Cell(task),
            share(summary.before, len(arm.runs)),
            share(summary.after, len(arm.runs)),
            Cell(", ".join(term(name, values) for name, values in summary.terms.items())),
        ]
        for arm in comparison.arms
        for task, summary in arm.by_task.items()
    ]


def share(value: Estimate | None, runs: int, interval: bool = True) -> Cell:
    """A share as per cent. A remark says when fewer than `runs` seeds have it; † marks the bootstrap of one run."""
    if value is None:
        return Cell(DASH)
    remark = f"(n={value.n})" if value.n != runs else ""
    if not interval or value.low is None or value.high is None:
        return Cell(f"{100 * value.mean:.1f}", remark=remark)
    mark = "†" if value.over == "items" else ""
    bounds = f"{100 * value.low:.1f}, {100 * value.high:.1f}".replace("-", "−")
    return Cell(f"{100 * value.mean:.1f}{mark}", bounds, remark)


def points(value: Estimate | None, runs: int, separated: bool = False) -> Cell:
    """A difference of shares in percentage points; `separated`: a remark says whether its interval contains zero."""
    if value is None:
        return Cell(DASH, remark="no shared seed" if separated else "")
    remarks = [f"(n={value.n})"] if value.n != runs and value.n > 1 else []
    if value.low is None or value.high is None:
        return Cell(_signed(value.mean), remark="one seed, no interval")
    if separated:
        remarks.append("not separated" if value.contains_zero else f"interval {'above' if value.low > 0 else 'below'} 0")
    return Cell(_signed(value.mean), f"{_signed(value.low)}, {_signed(value.high)}", ", ".join(remarks))


def _signed(share: float) -> str:
    """A difference of shares in points, with its sign; a difference that rounds to zero has none."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader needs to know to read the table, and what it leaves out."""
    items = " or ".join(str(n) for n in comparison.items) or "an unknown number of"
    notes = [_measured(comparison, f"{items} {comparison.split.replace('_', '-')}")]
    estimates = [value for arm in comparison.arms for value in (arm.before, arm.after, arm.other_after) if value]
    if any(value.over == "seeds" for value in estimates):
        notes.append("Brackets: 95 % t-interval across seeds. All seeds judge the same items; it says nothing of other items.")
    if any(value.over == "items" for value in estimates):
        notes.append("† one seed: 95 % bootstrap interval over the items of that run; other seeds may differ by more.")
    if len(comparison.arms) > 1:
        notes.append(
            f"Difference: accuracy after training minus that of {comparison.baseline} with the same seed; “not "
            "separated” means that the interval contains 0. Intervals are not widened for the number of arms."
        )
    if comparison.unfinished:
        places = ", ".join(str(run.folder) for run in comparison.unfinished)
        notes.append(f"{_count(comparison.unfinished)} not finished and in no number: {places}.")
    if comparison.replaced:
        places = ", ".join(str(run.folder) for run in comparison.replaced)
        notes.append(f"{_count(comparison.replaced)} replaced by a later one of the same arm and seed: {places}.")
    return notes


def _measured(comparison: Comparison, items: str) -> str:
    """What the accuracy is measured on and how."""
    tasks = [task for task in comparison.tasks if task != PREFERENCE]
    if not tasks:
        return f"Accuracy is on {items} pairs, each judged in both orders; guessing gives 50 %."
    right = "each answered once and right where the first term of its reward is 0.5 or more (of boxes, the IoU)"
    if not comparison.has_pairs:
        return f"Accuracy is on {items} rows of the {_listed(tasks)}, {right}."
    return (
        f"Accuracy is on {items} rows: pairs, each judged in both orders (guessing gives 50 %), and rows of the "
        f"{_listed(tasks)}, {right}. Both orders, flips and first position are of the pairs."
    )


def _listed(tasks: list[str]) -> str:
    return f"task{'s' if len(tasks) > 1 else ''} {', '.join(tasks)}"


def _count(runs: list[Run]) -> str:
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}"


def print_table(comparison: Comparison, console=None) -> None:
    """The table for the terminal: as many columns beside each other as it has room for, the others in tables below."""
    from rich.console import Console

    console = console or Console()
    print_columns([wrapped(title, 12) for title in columns(comparison)], rows(comparison), console)
    if by_task := task_rows(comparison):
        print_columns([wrapped(title, 20) for title in TASK_COLUMNS], by_task, console)
    for note in footnotes(comparison):
        console.print(note, style="dim", markup=False, highlight=False)


def print_columns(titles: list[str], rows: list[list[Cell]], console) -> None:
    """Tables side by side no wider than the console, each with the first column; a column wider than that is wrapped."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    def text(cell: Cell, width: int) -> Text:
        # Text, not markup: an arm may be called "[x]".
        result = Text().append(wrapped(cell.text, width), style="bold")
        for extra in (cell.interval, cell.remark):
            result.append(f"\n{wrapped(extra, width)}" if extra else "", style="dim")
        return result

    width = max(10, console.width // 3)  # of one column
    body = [[text(cell, width) for cell in row] for row in rows]
    options = console.options
    widths = [
        1 + max(Measurement.get(console, options, cell).maximum for cell in [Text(title), *(row[index] for row in body)])
        for index, title in enumerate(titles)
    ]
    groups, room = [], 0
    for index in range(1, len(titles)):
        if widths[index] > room:
            groups.append([0])
            room = console.width - widths[0] - 2
        groups[-1].append(index)
        room -= widths[index]
    for chosen in groups:
        table = Table(box=box.SIMPLE_HEAD, show_lines=True, padding=(0, 1, 0, 0))
        for index in chosen:
            table.add_column(Text(titles[index]), justify="left" if index == 0 else "right", overflow="fold")
        for row in body:
            table.add_row(*(row[index] for index in chosen))
        console.print(table)


def markdown(comparison: Comparison) -> str:
    """The whole table as GitHub Markdown, with its footnotes."""
    tables = [_markdown_table(columns(comparison), rows(comparison))]
    if by_task := task_rows(comparison):
        tables.append(_markdown_table(TASK_COLUMNS, by_task))
    return "\n\n".join([*tables, "\n".join(f"- {_escape(note)}" for note in footnotes(comparison))]) + "\n"


def _markdown_table(titles: Sequence[str], rows: list[list[Cell]]) -> str:
    lines = [[_escape(title) for title in titles], ["---"] + ["---:"] * (len(titles) - 1)]
    lines += [[_escape(cell.line()) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def to_json(comparison: Comparison) -> str:
    """All numbers of the comparison, as shares and unrounded, including the intervals that the tables leave out."""
    arms = []
    for summary in comparison.arms:
        values = {key: value for key, value in vars(summary).items() if key not in ("runs", "by_category", "by_task")}
        arms.append(
            {key: asdict(value) if isinstance(value, Estimate) else value for key, value in values.items()}
            | {"seeds": summary.seeds, "runs": [run.folder.name for run in summary.runs]}
            | {"by_category": {category: asdict(value) for category, value in summary.by_category.items()}}
            | {"by_task": {task: asdict(value) for task, value in summary.by_task.items()}}
        )
    document = {
        "baseline": comparison.baseline,
        "split": comparison.split,
        "other_split": comparison.other_split,
        "items": comparison.items,
        "tasks": comparison.tasks,
        "arms": arms,
        "config_differences": {difference.key: difference.values for difference in comparison.config},
        "unfinished": [run.folder.name for run in comparison.unfinished],
        "replaced": [run.folder.name for run in comparison.replaced],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def write_tables(comparison: Comparison, output: Path) -> dict[str, Path]:
    """Writes table.md and table.json into `output`."""
    paths = {"table": output / "table.md", "json": output / "table.json"}
    paths["table"].write_text(markdown(comparison), encoding="utf-8")
    paths["json"].write_text(to_json(comparison), encoding="utf-8")
    return paths
