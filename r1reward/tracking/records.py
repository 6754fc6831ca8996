"""The formats of the run folder's files, and writing them so that a crash or a full disk leaves no half file.

JSON knows no NaN: non-finite numbers are written as the strings "NaN", "Infinity" and "-Infinity" and come back as floats.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


# Values


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


def to_json(value: Any) -> Any:
    """Copy with plain numbers, and with strings in place of non-finite floats."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Path):
        return str(value)
    return value


def from_json(value: Any) -> Any:
    """The floats behind `to_json`'s strings, in a copy."""
    if isinstance(value, dict):
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def to_line(value: Any, **options: Any) -> str:
    """One value as JSON with a newline at its end."""
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, **options) + "\n"


def to_yaml(config: Mapping[str, Any]) -> str:
    """A plain, resolved config as YAML. Raises a ValueError for one that is not."""
    remedy = "pass OmegaConf.to_container(config, resolve=True)"
    try:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        raise ValueError(f"config must be plain dicts, lists, numbers and strings ({error}); {remedy}") from None
    if "${" in text:
        raise ValueError(f"config holds an unresolved ${{...}}; {remedy}")
    return text


# Files


def write_whole(path: Path, content: str | bytes, is_synced: bool = True) -> None:
    """Write a file in one step: a reader, also after a crash of the machine, sees the former file or the new one.

    Args:
        path: The file.
        content: All of it.
        is_synced: Whether it must survive a crash of the machine; of the process it does in any case.

    Raises:
        OSError: As it comes (`r1reward.tracking.disk`); the former file is untouched and nothing half-written stays behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if is_synced:
                sync(file)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append(path: Path, text: str) -> None:
    """Append whole lines; what a failed write has left of them is taken away again. Raises an OSError as it comes."""
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        left = memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise


def sync(file) -> None:
    """See an open file onto the disk, not only into the operating system's memory."""
    file.flush()
    os.fsync(file.fileno())


def cut_lines(path: Path, size: int | None = None) -> int:
    """Shorten a file of lines to the last whole line within its first `size` bytes (None: all); returns its length then."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    end = content[:size].rfind(b"\n") + 1
    if end < len(content):
        with open(path, "r+b") as file:
            file.truncate(end)
            sync(file)
    return end


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none where there is no file. A last line without its newline was never finished: left out.

    Raises:
        ValueError: With the line that is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                records.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: not JSON ({error}); remove that line") from None
    return records
