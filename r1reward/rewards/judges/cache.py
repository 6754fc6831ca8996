"""Replies of a judge, kept in a file: an equal prompt costs no second call, neither in the next epoch nor in the next run."""

import hashlib
import json
import logging
import sqlite3
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

BUSY_TIMEOUT = 2.0  # seconds that a read or write waits for another process; their transactions take milliseconds


class ReplyCache:
    """A table of replies by the server's address, model, prompt, temperature and length limit.

    Several threads and processes of one machine may share a file. A cache is a convenience: a file that cannot be opened or
    read (damaged, no database, locked for longer than `BUSY_TIMEOUT`) is one warning, and from then on no cache; one that
    cannot be written (a full disk, locked) is one warning, and from then on only read.

    Args:
        path: The SQLite file; it and its folder are made where they do not exist.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._read_only = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: every write is its own transaction, so no process holds the lock for longer than one row.
            self._connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers
            self._connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last rows, never the file
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def get(self, address: str, model: str, prompt: str, temperature: float, max_tokens: int) -> str | None:
        """The reply that was kept; None if there is none."""
        rows = self._execute("SELECT reply FROM replies WHERE key = ?", _key(address, model, prompt, temperature, max_tokens))
        return rows[0][0] if rows else None

    def put(self, address: str, model: str, prompt: str, temperature: float, max_tokens: int, reply: str) -> None:
        """Keep a reply; an earlier one to the same prompt is replaced."""
        reply = reply.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in a file
        key = _key(address, model, prompt, temperature, max_tokens)
        self._execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", key, reply, writes=True)

    def _execute(self, statement: str, *values: str, writes: bool = False) -> list[tuple]:
        with self._lock:
            if self._connection is None or (writes and self._read_only):
                return []
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if writes and isinstance(error, sqlite3.OperationalError):  # locked, full, read only: not damaged
                    self._read_only = True
                    logger.warning(
                        "the cache of judge replies %s takes no more, going on with what it has: %s", self.path, error
                    )
                else:
                    self._give_up(error)
                return []

    def _give_up(self, error: Exception):
        logger.warning("the cache of judge replies %s cannot be used, going on without: %s", self.path, error)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _key(address: str, model: str, prompt: str, temperature: float, max_tokens: int) -> str:
    """SHA-256, in hexadecimal digits, of all that decides the reply."""
    request = json.dumps(
        [address.rstrip("/"), model, prompt, float(temperature), max_tokens]
    )  # escapes all but ASCII, also half surrogate pairs
    return hashlib.sha256(request.encode()).hexdigest()
