"""One process at a time in a folder: a lock that the kernel gives back when its process ends, however it ends."""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
_NAMES = "ENOENT ENOTDIR EEXIST EISDIR EACCES EPERM EROFS ENAMETOOLONG EBUSY"
_UNUSABLE = {getattr(errno, name) for name in _NAMES.split()}
_held: "set[FolderLock]" = set()  # by this process


class FolderGone(OSError):
    """A folder that was deleted or moved while this process was at work in it."""

    def __init__(self, folder: Path):
        super().__init__(f"{folder} was deleted or moved while the run was going; what it held is lost to this run")


class FolderInUse(ValueError):
    """Another process is at work in a folder; the message names it."""


class FolderLock:
    """Holds `folder` for this process until `release` or the end of the process; a context manager.

    It is the kernel's lock on an open file (flock), so it needs no cleaning up after a crash, and it also holds between two
    machines that share the folder where their file system passes locks on. Child processes do not hold it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._descriptor: int | None = None  # of the locked file
        self._place: int | None = None  # of the folder; while it is open, no other folder is given its inode

    def acquire(self) -> None:
        """Take the lock, making the folder if need be; nothing where this object has it already.

        Where the file system knows no locks, warns and goes on.

        Raises:
            FolderInUse: Another process is at work in the folder, or another object of this one; with its host and start.
            ValueError: The folder cannot be made or written to.
        """
        while self._descriptor is None:
            with unusable_refused(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if not self._lock(descriptor):
                    return
                if self._is_current(descriptor):
                    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
                    self._place = os.open(self.folder, os.O_RDONLY)
                    self._descriptor, descriptor = descriptor, -1
                    _held.add(self)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; nothing where it is not held."""
        if self._descriptor is not None:
            _held.discard(self)
            os.close(self._descriptor)
            os.close(self._place)
            self._descriptor = self._place = None

    def check(self) -> None:
        """See that the folder, where it is held, is still the one that was locked.

        Where only its lock file was deleted, warns and takes the lock again.

        Raises:
            FolderGone: It was deleted or moved.
            FolderInUse: Its lock file was deleted, and another process has taken the lock since.
        """
        if self._descriptor is None or self._is_current(self._descriptor):
            return
        if not _is_at(self._place, self.folder):
            raise FolderGone(self.folder)
        logger.warning("%s was deleted while the run was going; it is made anew", self.folder / LOCK_FILE)
        self.release()
        self.acquire()

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def _lock(self, descriptor: int) -> bool:
        """Whether the file could be locked; False where the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f"{self.folder} is in use by {_holder(descriptor)}: wait until that has ended, or end it, or let this one use "
                "another folder (another study=... or hydra.run.dir=...)"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): see that no second process writes to it", self.folder, error.strerror)
            return False
        return True

    def _is_current(self, descriptor: int) -> bool:
        """Whether the locked file is still the folder's: the folder may have been moved aside since it was opened."""
        return _is_at(descriptor, self.folder / LOCK_FILE)


@contextmanager
def unusable_refused(folder: Path) -> Iterator[None]:
    """Turns the error of a folder that cannot be made or written to into a ValueError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNUSABLE:
            raise
        raise ValueError(
            f"{folder} cannot be used as a folder for results ({error.strerror}: {error.filename}): choose a folder that can "
            "be made and written to"
        ) from None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether what is open is what now lies there."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, LookupError, TypeError):  # it has not written it yet
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _after_fork() -> None:
    """A forked child shares the open file, and with it the lock, until it closes its copy. Closing gives nothing back."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_after_fork)
