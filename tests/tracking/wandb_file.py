"""Reads W&B's local run-*.wandb files, to see what a run really left on disk.

The format is LevelDB's log: after a file header of 7 bytes, blocks of 32 KiB with records of checksum (4 bytes), length
(2, little endian), type (1) and payload. Type 1 is a whole record; 2, 3 and 4 are its first, a middle and its last
piece.
"""

import json
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32 * 1024, 7


@dataclass
class WandbRun:
    """One run: its init record, config, history (one dictionary per log call), summary and exit code."""

    run: Any = None
    config: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    exit_code: int | None = None


def records(path: Path) -> list[Record]:
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    found, pieces, position = [], b"", HEADER
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + HEADER])
        pieces += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(pieces)
            found.append(record)
            pieces = b""
    return found


def _finished_records(path: Path, patience: float = 20.0) -> list[Record]:
    """W&B writes from a process of its own, which ends its file some milliseconds after `finish` has returned."""
    deadline = time.monotonic() + patience
    while True:
        try:
            found = records(path)
        except DecodeError:  # the file ends within a record
            found = []
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} has no exit record after {patience} s")
        time.sleep(0.02)


def read_run(folder: Path) -> WandbRun:
    """The one W&B run below `folder`, which must have been finished: its last record is the exit code."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found = _finished_records(path)
    result = WandbRun()

    def values(items) -> dict:
        return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

    for record in found:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            result.run = record.run
            result.config |= values(record.run.config.update)
        elif kind == "history":
            result.history.append(values(record.history.item))
        elif kind == "summary":
            result.summary |= values(record.summary.update)
        elif kind == "exit":
            result.exit_code = record.exit.exit_code
    return result
