"""The run folder: everything a run leaves behind, as plain files that tables and pages are built from.

    config.yaml    the resolved configuration          command.txt    the command line, one line per start
    metrics.jsonl  one JSON object per optimiser step  samples.jsonl  rollouts looked at, one JSON object each
    images/        thumbnails of the sampled rows      summary.json   results, written once at the end
    run.json       when each start was, and with which versions and commit
    .lock          held by the process at work (`r1reward.tracking.lock`)

W&B has lost the config and the summary of parallel offline jobs (wandb issue 7227), so these files are the record and
W&B is a view of it. One process writes a folder (in distributed training, rank 0). No secret gets into config, command or
summary (`r1reward.tracking.redaction`); samples are data and stay as they are. Durations are measured by the monotonic clock:
setting the machine's clock changes only what is written as a time of day.
"""

import hashlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from r1reward.messages import listed
from r1reward.tracking.config_changes import config_changes
from r1reward.tracking.lock import FolderLock, unusable_refused
from r1reward.tracking.provenance import git_commit, versions
from r1reward.tracking.records import append, cut_lines, from_json, numbers, read_lines, sync, to_line, to_yaml, write_whole
from r1reward.tracking.redaction import redact, redact_tree

__all__ = ["RunFolder", "git_commit", "numbers", "versions"]

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 256  # longest side in pixels: enough to look at, a few kilobytes each
ROWS = ("metrics.jsonl", "samples.jsonl")  # files that grow with the run; a checkpoint remembers how far they were


class RunFolder:
    """One run folder. `RunFolder(path)` opens it to read; `open_run` begins or continues the run in it.

    folder = RunFolder(path)
    folder.open_run(config, command)      # locks it
    if not folder.finished:
        folder.rewind(position)           # of the checkpoint that training goes on from; None: from the start
        ...
    folder.unlock()
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = FolderLock(path)
        self._started = time.monotonic()
        self._last_step: int | None = None

    # Beginning, continuing

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: its results are there."""
        return (self.path / "summary.json").is_file()

    def lock(self) -> None:
        """Keep other processes out until `unlock` or the end of this one; for what is raised see `FolderLock.acquire`."""
        self._lock.acquire()

    def unlock(self) -> None:
        """Let others in again."""
        self._lock.release()

    def open_run(
        self, config: Mapping[str, Any], command: str, on_change: Literal["refuse", "accept"] = "refuse"
    ) -> "RunFolder":
        """Begin the run of `config` in this folder, or continue the one that is there; a finished one is left as it is.

        Locks the folder, except for a finished run. Settings that cannot change the result (`WITHOUT_EFFECT` in
        r1reward.tracking.config_changes) may differ; whatever differs, the former file is kept as
        config.before-resume-<n>.yaml. On continuing, a package version or commit other than at the latest start is logged as
        a warning.

        Args:
            config: The configuration as plain, resolved Python values (dicts, lists, numbers, strings).
            command: The command line that started the run.
            on_change: Whether an unfinished run may go on with another config than it began with.

        Returns:
            The folder itself.

        Raises:
            ValueError: The config differs, with what differs; it is not plain and resolved; the folder cannot be used, or
                another process is at work in it.
        """
        config = redact_tree(yaml.safe_load(to_yaml(config)))
        if not self.finished:
            self.lock()
        try:
            is_other = self._compare(config, on_change)
            if not self.finished:
                self._begin(config, command, is_other)
        except BaseException:
            self.unlock()
            raise
        return self

    def begun(self) -> dict[str, Any]:
        """The run's first start: `{"started": ISO time in UTC, "versions": {package: version}, "git_commit": str | None}`.

        run.json holds every start, in order.

        Raises:
            ValueError: run.json is missing or damaged.
        """
        starts = self._starts()
        if not starts:
            raise ValueError(f"{self.path / 'run.json'} does not say when the run began")
        return starts[0]

    def set_aside(self) -> Path | None:
        """Move what the folder holds to <folder>.former-<n>, whole, so that a run can begin anew; locks the folder.

        Returns:
            Where it is now; None where there was no run.

        Raises:
            ValueError: Another process is at work in the folder, or it cannot be moved.
        """
        self.lock()
        if not (self.path / "config.yaml").exists():
            return None
        number = 1
        while (former := self.path.with_name(f"{self.path.name}.former-{number}")).exists():
            number += 1
        with unusable_refused(self.path):
            self.path.rename(former)
        self.unlock()  # the lock went with the folder
        self.lock()
        return former

    def _compare(self, config: dict[str, Any], on_change: str) -> bool:
        """Whether the folder holds a run of another config; refused where that changes its result."""
        if not (self.path / "config.yaml").exists():
            return False
        former = self.read_config()
        changes = config_changes(former, config)
        if changes and (self.finished or on_change == "refuse"):
            raise ValueError(self._other_config(changes))
        for line in changes:
            logger.warning("%s goes on with another setting: %s", self.path, line)
        return former != config

    def _begin(self, config: dict[str, Any], command: str, is_other: bool) -> None:
        """Write down this start. config.yaml comes last: with it the folder holds a run."""
        path = self.path / "config.yaml"
        if is_other:
            number = 1 + len(list(self.path.glob("config.before-resume-*.yaml")))
            write_whole(self.path / f"config.before-resume-{number}.yaml", path.read_bytes())
        for name in ROWS:
            cut_lines(self.path / name)
        self._go_on()
        self._record_start()
        append(self.path / "command.txt", redact(command).rstrip("\n") + "\n")
        write_whole(path, to_yaml(config))

    def _other_config(self, changes: list[str]) -> str:
        remedies = "name another study=..., or give the old settings"
        if self.finished:
            state, last = "a finished run", "trainer.resume=restart, which moves the former run aside and begins anew"
        else:
            state, last = "a run begun", "trainer.resume=force to go on with the new ones"
        return f"{self.path} holds {state} with other settings:\n  {listed(changes)}\n{remedies}, or set {last}"

    def _record_start(self) -> None:
        start = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "git_commit": git_commit(),
        }
        starts = self._starts()
        if starts:
            before, now = (entry["versions"] | {"commit of the code": entry["git_commit"]} for entry in (starts[-1], start))
            differences = [
                f"{name} {before.get(name) or '(none)'} -> {now.get(name) or '(none)'}"
                for name in before | now
                if before.get(name) != now.get(name)
            ]
            if differences:
                logger.warning(
                    "%s goes on with other versions than it was started with, so its numbers may differ from an uninterrupted "
                    "run's: %s", self.path, ", ".join(differences),
                )  # fmt: skip
        self.write_state("run.json", {"starts": [*starts, start]})

    def _starts(self) -> list[dict[str, Any]]:
        return (self.read_state("run.json") or {}).get("starts", [])

    def _go_on(self) -> None:
        """Take up the clock and the steps where the record ends."""
        rows = self.read_metrics()
        self._started = time.monotonic() - max((row.get("seconds", 0.0) for row in rows), default=0.0)
        self._last_step = rows[-1]["step"] if rows else None

    # What a checkpoint remembers

    def position(self) -> dict[str, int]:
        """How far metrics.jsonl and samples.jsonl are, in bytes, once these bytes are on the disk."""
        sizes = {}
        for name in ROWS:
            sizes[name] = 0
            if (self.path / name).exists():
                with open(self.path / name, "rb") as file:
                    sync(file)
                    sizes[name] = file.seek(0, os.SEEK_END)
        return sizes

    def rewind(self, position: Mapping[str, int] | None) -> None:
        """Cut both files back to a checkpoint's `position` (None: to nothing), and the run's clock with them.

        What came after it is done again, so that every step is recorded once. A file that is shorter than the position, or was
        edited, keeps its whole lines up to there; the log says that some are missing.
        """
        for name in ROWS:
            wanted = 0 if position is None else position[name]
            if cut_lines(self.path / name, wanted) != wanted:
                logger.warning(
                    "%s: rows are missing, a crash of the machine or an edit took them; the run goes on without them",
                    self.path / name,
                )
        self._go_on()

    def write_state(self, name: str, value: Any) -> None:
        """Keep one JSON value in the file `name`, such as "before.json", in one step."""
        write_whole(self.path / name, to_line(value, separators=(",", ":")))

    def read_state(self, name: str) -> Any | None:
        """The value kept in the file `name`; None where there is none, or, with a warning, where the file is damaged."""
        try:
            return from_json(json.loads((self.path / name).read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("%s is damaged (%s) and is not used", self.path / name, error)
            return None

    # Writing

    def write_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line for optimiser step `step`, with "seconds" since the run began; skip what is not a number.

        Raises:
            ValueError: `step` does not come after the last one written: every step is recorded once, in order.
            FolderGone: The folder was deleted or moved since the run began.
        """
        self._lock.check()
        if self._last_step is not None and step <= self._last_step:
            raise ValueError(
                f"metrics of step {step} come after those of step {self._last_step}; write each step once, in order"
            )
        row = {"step": step, "seconds": round(time.monotonic() - self._started, 3)}
        append(self.path / "metrics.jsonl", to_line(row | {k: v for k, v in numbers(metrics).items() if k not in row}))
        self._last_step = step

    def write_samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append rollouts to samples.jsonl, one line each."""
        append(self.path / "samples.jsonl", "".join(map(to_line, records)))

    def save_thumbnail(self, image, name: str) -> str:
        """Save a PIL image as an RGB PNG of at most 256 pixels a side, once per name.

        Returns:
            The path relative to the run folder, "images/<name>.png"; characters a file name cannot hold are replaced.
        """
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
        if safe != name:  # "a/b" and "a_b" stay apart
            safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        relative = f"images/{safe}.png"
        target = self.path / relative
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            small = image.convert("RGB")
            small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            buffer = io.BytesIO()
            small.save(buffer, format="PNG")
            write_whole(target, buffer.getvalue(), is_synced=False)
        return relative

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json in one step: a reader sees the former file or the new one, never half of it."""
        self._lock.check()
        write_whole(self.path / "summary.json", to_line(redact_tree(summary), indent=2))

    # Reading

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics, one dictionary per step in rising order.

        Raises:
            ValueError: A line is not JSON, or its step does not come after the one before.
        """
        rows = [from_json(row) for row in read_lines(self.path / "metrics.jsonl")]
        for before, row in zip(rows, rows[1:], strict=False):
            if row["step"] <= before["step"]:
                raise ValueError(
                    f"{self.path / 'metrics.jsonl'}: step {row['step']} comes after step {before['step']}; each step must be "
                    "there once, in rising order: remove the lines that do not belong to the run"
                )
        return rows

    def read_samples(self) -> list[dict[str, Any]]:
        """The sampled rollouts. Only their numbers are turned back into floats: a completion may really read "NaN"."""
        records = read_lines(self.path / "samples.jsonl")
        for record in records:
            record |= from_json({key: record[key] for key in ("reward", "advantage", "terms") if key in record})
        return records

    def read_summary(self) -> dict[str, Any]:
        return from_json(json.loads(self._read_text("summary.json", "the run has not finished")))

    def read_config(self) -> dict[str, Any]:
        path = self.path / "config.yaml"
        try:
            config = yaml.safe_load(self._read_text("config.yaml", "this is no run folder"))
        except yaml.YAMLError:
            config = None
        if not isinstance(config, dict):
            raise ValueError(f"{path} is damaged: mend it, or move {self.path} away")
        return config

    def _read_text(self, name: str, reason: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError(f"{self.path / name} is missing: {reason}") from None
