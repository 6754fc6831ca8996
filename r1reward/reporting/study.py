"""What a finished run and a finished study say in the terminal, and where they left their files."""

import os
from pathlib import Path

from hydra.experimental.callback import Callback


class StudyReport(Callback):
    """Hydra callback: after the last job of a sweep, writes the study's table, plots and page and prints where they are."""

    def on_multirun_end(self, config, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        if not any(folder.rglob("summary.json")):
            return
        from r1reward.reporting import report

        print(f"\nStudy {config.study} in {shown(folder)}")
        report([folder], output=folder / "report", title=config.study)


def print_run(summary: dict, folder: str | Path) -> None:
    """Accuracy before and after, whether the run collapsed, and where its files are."""
    from r1reward.reporting.plots import learning_curve

    for split, after in summary["evaluation"]["after"].items():
        before = summary["evaluation"]["before"][split]
        print(f"\n{split.replace('_', ' ')}: {after['n']} items, each judged in both orders")
        for key, name in (
            ("accuracy", "accuracy"),
            ("both_orders_correct", "right in both orders"),
            ("first_position_rate", "first response preferred"),
            ("format_rate", "well-formed verdicts"),
        ):
            print(f"  {name:<26} {_interval(before[key])}  ->  {_interval(after[key])}")
    if summary["collapse"]["collapsed"]:
        print(f"\ncollapsed at step {summary['collapse']['step']}: {summary['collapse']['reason']}")
    print(f"\nrun folder  {shown(folder)}")
    if summary["steps"]:
        print(f"plot        {shown(learning_curve(folder))}")


def shown(path: str | Path) -> str:
    """A path as the user would type it: relative where it lies below the present folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _interval(value: dict | None) -> str:
    if value is None:  # nothing to measure it on, such as a position rate without a single verdict
        return "    – "
    return f"{100 * value['mean']:5.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
