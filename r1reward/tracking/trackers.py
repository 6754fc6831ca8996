"""Where metrics are shown: W&B, trackio or nowhere, behind one small interface.

The run folder is the record (see `run_folder.py`); a tracker is a view of it. Nothing leaves the machine unless asked:
W&B is offline unless the environment says WANDB_MODE=online, and trackio writes to its own local storage.
"""

import logging
import os
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r1reward.tracking.records import numbers, write_whole
from r1reward.tracking.redaction import redact, redact_tree

logger = logging.getLogger(__name__)

# How the trainer's metric names become sections of a dashboard. First names that move as a whole, then the prefixes;
# a name with another section stays, and every other name goes to train/. One to one: no two metrics share a chart.
SECTIONS = {
    "reward": "reward/mean",
    "reward_std": "reward/std",
    "frac_reward_zero_std": "reward/fraction_of_groups_without_spread",
    "seconds": "time/seconds",
    "step_time": "time/step",
    "num_tokens": "rollout/num_tokens",
    "rewards/": "reward/",
    "advantage_filter/": "stability/advantage_filter/",
    "pre_clip/": "stability/pre_clip/",
    "log_ratio/": "stability/log_ratio/",
    "clip_ratio/": "stability/clip_ratio/",
    "advantages/": "stability/advantages/",
    "completions/": "rollout/",
    "sampling/": "rollout/sampling/",
    "eval_": "evaluation/",
}


TAG_LENGTH = 64  # characters; W&B refuses longer tags


def section(name: str) -> str:
    """The dashboard name of a metric: "rewards/result/mean" -> "reward/result/mean", "loss" -> "train/loss"."""
    if name in SECTIONS:
        return SECTIONS[name]
    for prefix, target in SECTIONS.items():
        if prefix.endswith(("/", "_")) and name.startswith(prefix):
            return target + name.removeprefix(prefix)
    return name if "/" in name else f"train/{name}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"after": {"held_out": {"n": 8}}} -> {"after/held_out/n": 8}; W&B tables show and sort only flat keys."""
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, name + "/") if isinstance(value, Mapping) else {name: value}
    return flat


class TrackerFailed(ValueError):
    """A tracker could not begin; the message says why."""


class Tracker:
    """Shows one run. Use it as a context manager, so that the run is finished (and marked failed) whatever happens.

    This base class shows nothing.
    """

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Show the metrics of optimiser step `step`; what is not a number is skipped, NaN and infinities are kept."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Show the run's results; nested dictionaries become keys joined by "/"."""

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; calling it again does nothing. `exit_code` other than 0 marks the run as failed."""

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        self.finish(exit_code=0 if error_type is None else 1)


class NullTracker(Tracker):
    """Shows nothing: the run folder is all there is."""

    def __init__(self, **_: Any):
        pass


class WandbTracker(Tracker):
    """One W&B run per job, grouped by study.

    `step` is logged as a metric of its own and is every chart's x axis. W&B's built-in step must rise, so a run resumed
    from an earlier checkpoint would silently lose the steps it repeats. The run's id is kept in the run folder
    (wandb_id.<job_type>.txt): a resumed job continues the same W&B run.

    Args:
        project: W&B project.
        study: Name of the study; the W&B group.
        name: Name of the run, such as "paper-s0".
        arm: The variant in the study; becomes the first tag.
        seed: Kept in the config as job.seed (study and arm beside it), so that runs can be grouped over seeds.
        config: The resolved configuration as plain Python values.
        folder: The run folder, which gets W&B's files too.
        tags: Further tags.
        job_type: "train", "evaluate" or "serve".
        mode: "offline", "online" or "disabled"; by default WANDB_MODE, or offline.

    Attributes:
        sync_command: The command that uploads the finished offline run; None while it runs and when online.
    """

    def __init__(
        self,
        project: str,
        study: str,
        name: str,
        arm: str,
        seed: int,
        config: Mapping[str, Any],
        folder: str | Path,
        tags: Sequence[str] = (),
        job_type: str = "train",
        mode: str | None = None,
    ):
        import wandb  # heavy: only when a run starts

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        id_file = folder / f"wandb_id.{job_type}.txt"
        if not id_file.exists() or not id_file.read_text(encoding="utf-8").strip():
            write_whole(id_file, secrets.token_hex(4) + "\n")
        self.sync_command: str | None = None
        mode = mode or os.environ.get("WANDB_MODE") or "offline"
        with _arguments_redacted(), _refusals_explained(mode):
            self._run = wandb.init(
                project=project,
                group=study,
                name=name,
                id=id_file.read_text(encoding="utf-8").strip(),
                resume="allow" if mode == "online" else None,  # offline files of one id are joined when they are synced
                tags=list(dict.fromkeys(tag[:TAG_LENGTH] for tag in [arm, *tags])),
                job_type=job_type,
                config={**config, "job": {"study": study, "arm": arm, "seed": seed}},
                dir=str(folder),
                mode=mode,
                settings=wandb.Settings(silent=mode == "offline", console="off"),
                # Without it a second init returns the run still open and both jobs land in one (wandb issue 1314). Unlike
                # "create_new" it also sets wandb.run, so a callback that logs to W&B by itself joins this run.
                reinit="finish_previous",
            )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._run.log({section(key): value for key, value in numbers(metrics).items()} | {"step": step})

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(flatten(redact_tree(values)))

    def finish(self, exit_code: int = 0) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        offline, sync_dir = run.settings.mode == "offline", run.settings.sync_dir
        run.finish(exit_code=exit_code)
        if offline:
            self.sync_command = f"wandb sync {shlex.quote(sync_dir)}"
            logger.info("upload this run with: %s", self.sync_command)


class TrackioTracker(Tracker):
    """One trackio run per job, grouped by study; `trackio show` opens the dashboard.

    Runs go to trackio's own storage, where `trackio show` looks for them (environment variable TRACKIO_DIR moves it; it
    is read when trackio is first imported). trackio has no summary: results are logged once more as "summary/...". Nor
    has it an exit code: `finish` logs "summary/failed" as 1 after an exception. The arguments are those of
    `WandbTracker`; `folder` and `mode` have no meaning here.
    """

    def __init__(
        self,
        project: str,
        study: str,
        name: str,
        arm: str,
        seed: int,
        config: Mapping[str, Any],
        folder: str | Path | None = None,
        tags: Sequence[str] = (),
        job_type: str = "train",
        mode: str | None = None,
    ):
        try:
            import trackio
        except ImportError:
            raise ImportError("trackio is not installed; run: pip install trackio") from None
        facts = {"study": study, "arm": arm, "seed": seed, "job_type": job_type, "tags": list(tags)}
        self._run = trackio.init(project=project, name=name, group=study, config={**config, "job": facts}, embed=False)
        self._last_step = 0

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._last_step = step
        self._run.log({section(key): value for key, value in numbers(metrics).items()}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        flat = numbers(flatten(values))
        self._run.log({f"summary/{key}": value for key, value in flat.items()}, step=self._last_step)

    def finish(self, exit_code: int = 0) -> None:
        if self._run is None:
            return
        if exit_code:
            self.summary({"failed": 1})
        run, self._run = self._run, None
        run.finish()


TRACKERS = {"wandb": WandbTracker, "trackio": TrackioTracker, "none": NullTracker}


def build_tracker(kind: str, **arguments: Any) -> Tracker:
    """The tracker named "wandb", "trackio" or "none"; all take the arguments of `WandbTracker`, shown without secrets."""
    if kind not in TRACKERS:
        raise ValueError(f"unknown tracker {kind!r}; choose one of {sorted(TRACKERS)}")
    shown = {name: value if name == "folder" else redact_tree(value) for name, value in arguments.items()}
    return TRACKERS[kind](**shown)


WANDB_MODES = ("offline", "online", "disabled", "shared", "dryrun", "run")


def check_tracker(kind: str) -> None:
    """See that the tracker can begin, before anything is computed.

    Raises:
        ValueError: WANDB_MODE is none of W&B's modes, or it sends runs to a server for which there is no key.
        TrackerFailed: The server does not take the key, or does not answer.
    """
    if kind != "wandb":
        return
    mode = os.environ.get("WANDB_MODE") or "offline"
    if mode not in WANDB_MODES:
        raise ValueError(f"the environment variable WANDB_MODE={mode}: choose one of offline, online, disabled, or unset it")
    if mode not in ("online", "shared", "run"):
        return
    import wandb

    with _refusals_explained(mode):
        has_key = wandb.login(prompt=False)  # wherever W&B looks for one; the server is asked whether it is right
    if not has_key:
        raise ValueError(
            f"WANDB_MODE={mode} sends runs to W&B, and there is no key: set WANDB_API_KEY or run `wandb login`, or unset "
            "WANDB_MODE to keep them on this machine (`wandb sync` uploads them later)"
        )


@contextmanager
def _arguments_redacted() -> Iterator[None]:
    """W&B notes the command line that it finds when a run starts."""
    given = sys.argv
    sys.argv = [redact(argument) for argument in given]
    try:
        yield
    finally:
        sys.argv = given


@contextmanager
def _refusals_explained(mode: str) -> Iterator[None]:
    """W&B's errors of an unreachable server or a refused key as a `TrackerFailed`."""
    import wandb

    try:
        yield
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        raise TrackerFailed(
            f"W&B could not begin the run (WANDB_MODE={mode}): {str(error).rstrip('.')}; fix that, or unset WANDB_MODE to keep "
            "runs on this machine"
        ) from error
