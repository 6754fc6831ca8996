"""Train a multimodal reward model: `python -m r1reward.train`. Compose the config, prepare, run, report.

Only Hydra is imported here; torch loads when a job starts, so that `--help` answers at once.
"""

import os
import shlex
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from r1reward.configs import CONFIG_FOLDER, check_processes, check_sweep, command_line, compose_settings, quiet_libraries
from r1reward.unknown_settings import start, started

WRONG_INPUT = 2
UNRELIABLE = 3  # a judge does not answer, or it or a reward function failed too often
DIVERGED = 4  # too many steps in a row without a finite loss and gradient
DISK = 5  # full, or it failed, or the run folder is gone
BAD_IMAGE = 6  # an image turned bad during the run
BLIND = 7  # a path through the model does not see its images
STOPPED = 75  # by a signal (EX_TEMPFAIL of sysexits.h: try again later)


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="train")
def main(config: DictConfig) -> float | None:
    """Run one job and return its held-out accuracy, which an optimising sweeper can maximise."""
    started()
    from r1reward.trainer.signals import Stopped, StopSignals

    try:
        with StopSignals() as signals:
            summary, folder = _run(config, signals)
    except Stopped as stop:
        same = "the same command without trainer.resume=restart" if _restarts(config) else "the same command"
        _exit(STOPPED, f"stopped by {stop}; {same} goes on from here")
    if int(os.environ.get("RANK") or 0) == 0:
        from r1reward.reporting.study import longer, print_run

        print_run(summary, folder)
        if any((folder / "checkpoints").glob("checkpoint-*")) and summary["steps"] == config.trainer.max_steps:
            print(f"train on    {longer(config, summary['steps'], folder)}")
    accuracy = summary["evaluation"]["after"].get("held_out", {}).get("accuracy")
    return accuracy["mean"] if accuracy else None


def _run(config: DictConfig, signals) -> tuple[dict, Path]:
    """Prepare and run the job: its summary and folder. Every foreseeable trouble is one message and an exit code."""
    from hydra.core.hydra_config import HydraConfig

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        check_processes()
        check_sweep(hydra_config)
        settings = compose_settings(config)
        quiet_libraries()
        from r1reward.trainer.job import Job

        job = Job.prepare(settings, folder, command_line())
    except ValueError as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        _exit(WRONG_INPUT, f"error: {error}")
    except Exception as error:
        code, message = _trouble(error, folder)
        if code is None:
            raise
        _exit(code, f"error: {message}")
    if job.finished:
        summary = job.run_folder.read_summary()
        print(f"This run, begun {summary['run']['started']}, is finished; trainer.resume=restart begins it anew.")
        return summary, folder
    try:
        return job.run(signals), folder
    except Exception as error:
        code, message = _trouble(error, folder)
        if code is None:
            raise
        _exit(code, f"error: {message}" + (_how_to_go_on(config, folder) if code != WRONG_INPUT and folder.is_dir() else ""))


def _restarts(config: DictConfig) -> bool:
    return config.trainer.get("resume") == "restart"


def _how_to_go_on(config: DictConfig, folder: Path) -> str:
    """The same settings find the run by themselves; others need its name."""
    same = "The same command without trainer.resume=restart" if _restarts(config) else "The same command"
    others = shlex.join([f'arm="{config.arm}"', "trainer.resume=force"])
    newest = f"{same} goes on from its newest checkpoint; to go on with other settings, add: {others}"
    return f"\nwhat was recorded is in {folder}. {newest}"


def _trouble(error: Exception, folder: Path) -> tuple[int | None, str]:
    """Exit code and message of what can go wrong in a sound run; None for an error of the program."""
    from r1reward.data.images import ImageError
    from r1reward.models.image_check import ImagesNotSeen
    from r1reward.models.loading import UnusableModel
    from r1reward.rewards.judges.opinion import TooManyFailures
    from r1reward.tracking.disk import disk_error
    from r1reward.tracking.lock import FolderGone, FolderInUse
    from r1reward.tracking.trackers import TrackerFailed
    from r1reward.trainer.step_guard import NumericalTrouble

    if not folder.is_dir():  # whatever could not be written or read then, this is why
        return DISK, str(FolderGone(folder))
    codes = {
        UnusableModel: WRONG_INPUT,
        TrackerFailed: WRONG_INPUT,
        FolderInUse: WRONG_INPUT,
        FolderGone: DISK,
        TooManyFailures: UNRELIABLE,
        NumericalTrouble: DIVERGED,
        ImageError: BAD_IMAGE,
        ImagesNotSeen: BLIND,
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return code, str(error)
    message = disk_error(error)
    return (None, "") if message is None else (DISK, message)


def _exit(code: int, message: str):
    from r1reward.tracking.redaction import redact

    print(f"\n{redact(message)}", file=sys.stderr)
    sys.exit(code)


def _settings() -> type:
    from r1reward.settings import TrainSettings

    return TrainSettings


if __name__ == "__main__":
    start(main, _settings)
