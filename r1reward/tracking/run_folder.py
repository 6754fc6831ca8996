"""The run folder: everything a run leaves behind, as plain files that tables and pages are built from.

    config.yaml    the resolved configuration          command.txt    the command line, one line per start
    metrics.jsonl  one JSON object per optimiser step  samples.jsonl  rollouts looked at, one JSON object each
    images/        thumbnails of the sampled rows      summary.json   results, written once at the end

W&B has lost the config and the summary of parallel offline jobs (wandb issue 7227), so these files are the record and
W&B is a view of it. JSON knows no NaN: non-finite numbers are written as the strings "NaN", "Infinity" and "-Infinity"
and come back as floats. One process writes a folder (in distributed training, rank 0).
"""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from r1reward.tracking.provenance import git_commit, versions

__all__ = ["RunFolder", "git_commit", "numbers", "versions"]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
THUMBNAIL_SIDE = 256  # longest side in pixels: enough to look at, a few kilobytes each


class RunFolder:
    """One run folder. `RunFolder(path)` opens a folder to read; `RunFolder.create` starts or resumes a run in it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._started = time.monotonic()
        self._last_step: int | None = None  # of this process

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], command: str, exist_ok: bool = False) -> "RunFolder":
        """Start a run in `path`, or with `exist_ok` resume the one that is there.

        On resume the clock goes on from the last recorded "seconds", half-written last lines are cut off, and a config
        that differs from the one found is written as config.yaml with the former kept as config.before-resume-<n>.yaml.

        Args:
            config: The configuration as plain, resolved Python values (dicts, lists, numbers, strings).
            command: The command line that started the run.

        Raises:
            ValueError: The folder already holds a run and `exist_ok` is false, or `config` is not plain and resolved.
        """
        folder = cls(path)
        text = _to_yaml(config)
        config_path = folder.path / "config.yaml"
        if config_path.exists() and not exist_ok:
            raise ValueError(
                f"{folder.path} already holds a run (config.yaml); choose another folder, or resume that run "
                "(exist_ok=True) so that its files are continued, not mixed"
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        if config_path.exists() and config_path.read_text(encoding="utf-8") != text:
            former = len(list(folder.path.glob("config.before-resume-*.yaml"))) + 1
            config_path.rename(folder.path / f"config.before-resume-{former}.yaml")
        for name in ("metrics.jsonl", "samples.jsonl"):
            _cut_torn_line(folder.path / name)
        recorded = [row.get("seconds", 0.0) for row in folder.read_metrics()]
        folder._started = time.monotonic() - max(recorded, default=0.0)
        _write_whole(config_path, text)
        with open(folder.path / "command.txt", "a", encoding="utf-8") as file:
            file.write(command.rstrip("\n") + "\n")
        return folder

    # Writing

    def write_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line for optimiser step `step`, with "seconds" since the run began; skip what is not a number.

        Raises:
            ValueError: `step` lies before one already written by this process: readers take a step back for a resume.
        """
        if self._last_step is not None and step < self._last_step:
            raise ValueError(f"metrics of step {step} come after those of step {self._last_step}; write steps in order")
        self._last_step = step
        row = {"step": step, "seconds": round(time.monotonic() - self._started, 3)}
        self._append("metrics.jsonl", [row | {k: v for k, v in numbers(metrics).items() if k not in row}])

    def write_samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append rollouts to samples.jsonl, one line each."""
        self._append("samples.jsonl", records)

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
            partial = target.with_suffix(".partial")
            small.save(partial, format="PNG")
            os.replace(partial, target)
        return relative

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json in one step: a reader sees the former file or the new one, never half of it."""
        _write_whole(self.path / "summary.json", json.dumps(_to_json(summary), indent=2, allow_nan=False) + "\n")

    def _append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        lines = [json.dumps(_to_json(record), ensure_ascii=False, allow_nan=False) + "\n" for record in records]
        with open(self.path / name, "a", encoding="utf-8") as file:  # closing flushes: a crash loses no finished step
            file.write("".join(lines))

    # Reading

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics, one dictionary per step in rising order.

        Lines of the same step are merged, later values winning. A step lower than the one before means that the run was
        resumed from a checkpoint: the abandoned steps from there on are left out.
        """
        rows: list[dict[str, Any]] = []
        for row in self._read_lines("metrics.jsonl"):
            row = _from_json(row)
            while rows and rows[-1]["step"] > row["step"]:
                rows.pop()
                if rows and rows[-1]["step"] == row["step"]:  # the abandoned version of this very step
                    rows.pop()
            if rows and rows[-1]["step"] == row["step"]:
                rows[-1] |= row
            else:
                rows.append(row)
        return rows

    def read_samples(self) -> list[dict[str, Any]]:
        """The sampled rollouts. Only their numbers are turned back into floats: a completion may really read "NaN"."""
        records = self._read_lines("samples.jsonl")
        for record in records:
            record |= _from_json({key: record[key] for key in ("reward", "advantage", "terms") if key in record})
        return records

    def read_summary(self) -> dict[str, Any]:
        return _from_json(json.loads(self._read_text("summary.json", "the run has not finished")))

    def read_config(self) -> dict[str, Any]:
        return yaml.safe_load(self._read_text("config.yaml", "this is no run folder"))

    def _read_text(self, name: str, reason: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError(f"{self.path / name} is missing: {reason}") from None

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    records.append(json.loads(line))
            except ValueError as error:
                if number == len(lines):  # no newline after it: the writer was stopped in the middle of the line
                    break
                raise ValueError(f"{path}, line {number}: not JSON ({error}); remove that line") from None
        return records


def numbers(metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """The entries that are one number (Python, numpy, tensor of one element) as Python numbers; True is 1."""
    found = {}
    for name, value in metrics.items():
        if getattr(value, "size", None) == 1 or (hasattr(value, "numel") and value.numel() == 1):
            value = value.item()
        if isinstance(value, (bool, int)):
            found[name] = int(value)
        elif isinstance(value, float):
            found[name] = float(value)
    return found


def _to_json(value: Any) -> Any:
    """Copy with plain numbers, and with strings in place of non-finite floats."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Path):
        return str(value)
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def _to_yaml(config: Mapping[str, Any]) -> str:
    remedy = "pass OmegaConf.to_container(config, resolve=True)"
    try:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        raise ValueError(f"config must be plain dicts, lists, numbers and strings ({error}); {remedy}") from None
    if "${" in text:
        raise ValueError(f"config holds an unresolved ${{...}}; {remedy}")
    return text


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _cut_torn_line(path: Path) -> None:
    """Remove what stands after the last newline, so that the next line does not grow onto half a one."""
    if path.exists():
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            with open(path, "r+b") as file:
                file.truncate(end)
