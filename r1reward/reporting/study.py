"""What a finished run and a finished study say in the terminal, and where they left their files."""

import os
import shlex
import sys
import tempfile
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from r1reward.configs import folder_name, keys_that_name_no_arm, typed
from r1reward.data.rows import PREFERENCE
from r1reward.tracking.disk import disk_error
from r1reward.tracking.lock import unusable_refused
from r1reward.tracking.redaction import redact, refuse_secrets

WRONG_INPUT, DISK = 2, 5  # exit codes, as r1reward.train has them
SMALLEST_RECORD = 65536  # bytes that a run's first files need


class NoSecrets(Callback):
    """Hydra callback: ends a command whose config holds a secret, or whose folder cannot be used, before anything is written.

    Hydra makes the run's folder, and of a sweep writes the whole config to multirun.yaml, before the job sees its settings.
    """

    def on_run_start(self, config, **kwargs) -> None:
        HydraConfig.instance().set_config(config)  # the folder's name asks for it; Hydra does the same next
        self._check(config, "run")

    def on_multirun_start(self, config, **kwargs) -> None:
        self._check(config, "sweep")

    def _check(self, config, kind: str) -> None:
        values = OmegaConf.to_container(config, resolve=False)  # Hydra writes interpolations as they stand, too
        overrides = values["hydra"].pop("overrides")
        try:
            given = [override.partition("=") for part in ("task", "hydra") for override in overrides[part]]
            refuse_secrets({name.lstrip("+~"): value for name, _, value in given})
            refuse_secrets(values)
            self._check_folder(config, kind)
        except ValueError as error:
            end(WRONG_INPUT, error)
        except OSError as error:
            message = disk_error(error)
            if message is None:
                raise
            end(DISK, message)

    def _check_folder(self, config, kind: str) -> None:
        """Make the folder, as Hydra would, and see that files can be written to it."""
        folder = OmegaConf.select(config, f"hydra.{kind}.dir")
        if folder is None:
            return
        refuse_secrets({f"hydra.{kind}.dir": folder})
        with unusable_refused(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * SMALLEST_RECORD)


def end(code: int, error) -> None:
    """Leave the process with a message; of an ordinary exception of a callback Hydra makes a warning."""
    print(f"error: {redact(str(error))}", file=sys.stderr)
    sys.exit(code)


class StudyReport(NoSecrets):
    """Hydra callback: names a sweep's arms by what is swept; after its last job writes the study's table, plots and page."""

    def on_multirun_start(self, config, **kwargs) -> None:
        super().on_multirun_start(config, **kwargs)
        constant = keys_that_name_no_arm(list(config.hydra.overrides.task))
        if constant:  # as if given on the command line, which is what Hydra composes each job from
            never = OmegaConf.select(config, "hydra.job.config.override_dirname.exclude_keys") or []
            excluded = dict.fromkeys([*never, *constant])
            names = ",".join(f"'{name}'" for name in excluded)
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{names}]")

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
    place = shown(folder)
    print(f"\nrun folder  {place}")
    if summary["steps"]:
        print(f"plot        {shown(learning_curve(folder))}")
    if (Path(folder) / "model").is_dir():
        print(f"evaluate    python -m r1reward.evaluate {typed('model.path', f'{place}/model')}")
    study = Path(folder).parent
    if study.name != folder_name(str(summary["run"]["study"])):  # hydra.run.dir put the run elsewhere
        study = Path(folder)
    print(f"compare     {shlex.join(['python', '-m', 'r1reward.compare', shown(study)])}")


def longer(config, steps: int, folder: Path) -> str:
    """The command that trains the finished run on, to twice its steps, in the same folder."""
    changed = ("trainer.max_steps=", "arm=")
    given = [override for override in HydraConfig.get().overrides.task if not override.startswith(changed)]
    more = [typed("arm", str(config.arm)), f"trainer.max_steps={2 * steps}"]
    usual = f"runs/{folder_name(str(config.study))}/{folder_name(str(config.arm))}-s{config.seed}"
    if (place := shown(folder)) != usual:
        more.append(typed("hydra.run.dir", place))
    return " ".join([shlex.join(["python", "-m", "r1reward.train", *given]), *more])


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
