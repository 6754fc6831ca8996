"""The checkpoints of a run: folders that are written whole or not at all, and verified before they are read.

    checkpoints/checkpoint-16/   weights, optimiser, states, manifest.json (size and SHA-256 of every file)
    checkpoints/.partial/        one that is being written; a leftover of a killed run is overwritten
    checkpoints/.replaced/       one whose place another of the same step is taking

A folder takes its name only when everything in it, the manifest included, lies on the disk: whoever is killed in between leaves
the checkpoints before it as they were.
"""

import hashlib
import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from r1reward.tracking.records import write_whole

PREFIX, PARTIAL, REPLACED, DAMAGED, MANIFEST = "checkpoint-", ".partial", ".replaced", "damaged-", "manifest.json"


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not what was written; the message says what is wrong with it."""


class CheckpointSkipped(UserWarning):
    """A checkpoint could not be used, and the one before it is."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder. One process (rank 0) calls these methods.

    Attributes:
        folder: Where they lie.
        keep_last: So many of the latest stay.
        keep_best: So many with the highest score stay besides.
    """

    folder: Path
    keep_last: int = 2
    keep_best: int = 0
    _verified: set[Path] = field(default_factory=set, repr=False)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of an optimiser step."""
        return self.folder / f"{PREFIX}{step}"

    @property
    def partial(self) -> Path:
        """Where the parts of a checkpoint gather before it is `finish`ed."""
        return self.folder / PARTIAL

    @property
    def replaced(self) -> Path:
        """Where a checkpoint lies while another of the same step takes its place."""
        return self.folder / REPLACED

    def begin(self) -> Path:
        """An empty folder for the parts of a checkpoint."""
        self.abandon()
        self.partial.mkdir(parents=True)
        self.replaced.mkdir()
        return self.partial

    def abandon(self):
        """Delete the parts of a checkpoint that was not finished."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self._put_back()

    def finish(self, parts: Path, step: int, score: float | None = None) -> Path:
        """Make the checkpoint of `step` of what lies in `parts`, then delete those that need not stay.

        Args:
            parts: A folder inside `begin()`'s, or that folder itself.
            score: What `keep_best` compares; None for a checkpoint that was not evaluated.

        Raises:
            OSError: The disk is full or fails; the checkpoints before it stay as they are.
        """
        try:
            files = sorted(path for path in parts.rglob("*") if path.is_file())
            with ThreadPoolExecutor() as pool:
                sums = dict(zip((path.relative_to(parts).as_posix() for path in files), pool.map(_seal, files), strict=True))
            body = {"step": step, "score": score, "files": sums}
            write_whole(parts / MANIFEST, json.dumps({**body, "sha256": _digest(body)}, indent=1))
            _sync_folder(parts)
            target = self.path(step)
            if target.exists():  # of this very step, or of a run that went on from an earlier one
                os.replace(target, self.replaced / target.name)
            os.replace(parts, target)
            self._verified.discard(target)
            _sync_folder(self.folder)
            shutil.rmtree(self.replaced)
        finally:
            self.abandon()
        self.tidy()
        return target

    def steps(self) -> list[int]:
        """Steps of all checkpoints, rising, by their names."""
        found = (path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*") if path.is_dir())
        return sorted(int(number) for number in found if number.isdecimal())

    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None; a damaged one is renamed to damaged-..., with a `CheckpointSkipped` warning."""
        self._put_back()
        for step in reversed(self.steps()):
            path = self.path(step)
            try:
                self.check(path)
            except DamagedCheckpoint as error:
                warnings.warn(f"{error}; it is set aside, and the one before it is used", CheckpointSkipped, stacklevel=2)
                aside = path.with_name(DAMAGED + path.name)
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(path, aside)
                continue
            return path
        return None

    def _put_back(self):
        """A run that was killed while one checkpoint took another's place keeps the former."""
        for former in self.replaced.glob(f"{PREFIX}*"):
            target = self.folder / former.name
            if not target.exists():
                os.replace(former, target)
        shutil.rmtree(self.replaced, ignore_errors=True)

    def check(self, path: Path):
        """`verify` a checkpoint, unless this object has done so: reading large ones takes minutes."""
        if path not in self._verified:
            verify(path)
            self._verified.add(path)

    def tidy(self):
        """Delete what need not stay; a run that was killed in between leaves some of it."""
        self.abandon()
        steps = self.steps()
        scores = {step: score for step in steps if (score := _manifest(self.path(step)).get("score")) is not None}
        best = sorted(scores, key=lambda step: (scores[step], step), reverse=True)[: self.keep_best]
        for step in set(steps) - set(steps[-self.keep_last :]) - set(best):
            shutil.rmtree(self.path(step), ignore_errors=True)
        for path in self.folder.glob(f"{DAMAGED}*"):
            shutil.rmtree(path, ignore_errors=True)


def verify(path: Path):
    """See that a checkpoint is what was written.

    Raises:
        DamagedCheckpoint: A file is missing, shorter, longer or changed, or there is no intact manifest.
    """
    manifest = _manifest(path)
    if not manifest:
        raise DamagedCheckpoint(f"{path}: no intact {MANIFEST}, so it is not a whole checkpoint")
    for name, (size, _) in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise DamagedCheckpoint(f"{path}: {name} is missing")
        if file.stat().st_size != size:
            raise DamagedCheckpoint(f"{path}: {name} has {file.stat().st_size} bytes, {size} were written")
    with ThreadPoolExecutor() as pool:
        sums = pool.map(_sha256, [path / name for name in manifest["files"]])
    for (name, (_, expected)), found in zip(manifest["files"].items(), sums, strict=True):
        if found != expected:
            raise DamagedCheckpoint(f"{path}: {name} is not what was written (its SHA-256 differs)")


def _manifest(path: Path) -> dict:
    """The manifest; empty where there is none, or it is damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.pop("sha256")
        return manifest if digest == _digest(manifest) else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, which is brought onto the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def bring_to_disk(folder: Path):
    """See that all files below a folder, and their names, outlast a crash of the machine."""
    for path in folder.rglob("*"):
        _sync_folder(path)  # a file is opened and synchronised in the same way
    _sync_folder(folder)


def _sync_folder(path: Path):
    """Bring a folder's entries onto the disk; needed for a rename to survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
