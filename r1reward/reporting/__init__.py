"""Run folders in, report out: a table with intervals, plots, and one HTML page. Reads files only, never torch.

`runs` finds and reads, `summary` computes, `table`, `plots`, `accuracy_plot` and `page` show. They are imported where
they are needed: a training run that only wants its name in the terminal should not wait for matplotlib.
"""

from pathlib import Path


def report(
    folders: list[Path | str] | Path | str,
    output: Path | str,
    baseline: str | None = None,
    title: str | None = None,
    split: str = "held_out",
    question: str | None = None,
) -> dict[str, Path]:
    """Reads the runs at or below `folders`, prints the table, writes the report into `output` and prints where it is.

    Returns:
        The files by name: "table" (Markdown), "json", "accuracy", "curves" and "page".

    Raises:
        ValueError: There is no run, none has finished, or no arm or split has the given name.
    """
    from r1reward.reporting.runs import load_runs
    from r1reward.reporting.summary import summarise
    from r1reward.reporting.table import print_table

    comparison = summarise(load_runs(folders), baseline, split)
    print_table(comparison)
    paths = write_report(comparison, output, title, question)
    for name, path in paths.items():
        print(f"{name:>9}  {path}")
    return paths


def write_report(comparison, output: Path | str, title: str | None = None, question: str | None = None) -> dict[str, Path]:
    """Writes table.md, table.json, accuracy.png, curves.png and index.html into `output`; paths by short name.

    Args:
        comparison: What `r1reward.reporting.summary.summarise` returns.
    """
    from r1reward.reporting import accuracy_plot, page, plots, table

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    paths = table.write_tables(comparison, output)
    figures = {
        "accuracy": accuracy_plot.accuracy(comparison, output / "accuracy.png"),
        "curves": plots.learning_curves({arm.arm: arm.runs for arm in comparison.arms}, output / "curves.png"),
    }
    return paths | figures | {"page": page.write_page(comparison, output, figures, title, question)}
