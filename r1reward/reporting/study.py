"""What a finished run and a finished study say in the terminal, and where they left their files."""

import os
import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from r1reward.data.rows import PREFERENCE
from r1reward.tracking.redaction import refuse_secrets


class NoSecrets(Callback):
    """Hydra callback: ends a run or a sweep whose config holds a secret before Hydra names a folder after it, or writes it all
    to multirun.yaml."""

    def on_run_start(self, config, **kwargs) -> None:
        self._refuse(config, "run")

    def on_multirun_start(self, config, **kwargs) -> None:
        self._refuse(config, "sweep")

    def _refuse(self, config, mode: str) -> None:
        values = OmegaConf.to_container(config, resolve=False)  # Hydra writes interpolations as they stand, too
        overrides = values["hydra"].pop("overrides")
        try:
            given = [override.partition("=") for kind in ("task", "hydra") for override in overrides[kind]]
            refuse_secrets({name.lstrip("+~"): value for name, _, value in given})
            refuse_secrets(values)
            refuse_secrets({f"hydra.{mode}.dir": str(OmegaConf.select(config, f"hydra.{mode}.dir"))})  # as it resolves
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)  # of an ordinary exception Hydra makes a warning


class StudyReport(NoSecrets):
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
        print_split(split, summary["evaluation"]["before"][split], after)
    if summary["collapse"]["collapsed"]:
        print(f"\ncollapsed at step {summary['collapse']['step']}: {summary['collapse']['reason']}")
    if skipped := summary["collapse"]["skipped_steps"]:
        print(f"\nskipped {skipped} of {summary['steps']} steps, whose loss or gradient was not finite: {shown(folder)}/debug")
    print(f"\nrun folder  {shown(folder)}")
    if summary["steps"]:
        print(f"plot        {shown(learning_curve(folder))}")


def print_split(split: str, before: dict, after: dict) -> None:
    """One split's results before and after training: as a whole, and by task where it has other rows than pairs."""
    tasks = after.get("by_task", {})
    how = "each answered once" if tasks else "each judged in both orders"
    if PREFERENCE in tasks:
        how = f"{tasks[PREFERENCE]['n']} of them pairs, judged in both orders, the others answered once"
    print(f"\n{split.replace('_', ' ')}: {after['n']} items, {how}")
    if failed := after.get("unscored"):
        print(f"  {failed} of them in no accuracy: their reward failed")
    for key, name in (
        ("accuracy", "accuracy"),
        ("both_orders_correct", "right in both orders"),
        ("first_position_rate", "first response preferred"),
        ("format_rate", "well-formed completions" if tasks else "well-formed verdicts"),
    ):
        if key in after:
            print(f"  {name:<26} {_interval(before[key])}  ->  {_interval(after[key])}")
    for task, result in tasks.items():
        former = before["by_task"][task]
        if len(tasks) > 1:
            print(f"  {f'{task}: accuracy':<26} {_interval(former['accuracy'])}  ->  {_interval(result['accuracy'])}")
        for name, value in result["terms"].items():
            print(f"  {f'{task}: {name}':<26} {_mean(former['terms'][name])}  ->  {_mean(value)}")


def shown(path: str | Path) -> str:
    """A path as the user would type it: relative where it lies below the present folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _interval(value: dict | None) -> str:
    if value is None:  # nothing to measure it on, such as a position rate without a single verdict
        return "    – "
    return f"{100 * value['mean']:5.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _mean(value: dict | None) -> str:
    return "    – " if value is None else f"{value['mean']:7.3f} [{value['low']:.3f}, {value['high']:.3f}]"
