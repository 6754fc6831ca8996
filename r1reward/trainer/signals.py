"""SIGTERM and SIGINT: stop where nothing is lost; a second one, a second or more later, stops at once."""

import os
import signal
import sys
import time
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOGETHER = 1.0  # seconds; launchers and `timeout` signal a process and its group, which makes two signals of one request


class Stopped(BaseException):
    """A signal asked the run to stop. Not an `Exception`: no handler of errors may swallow it."""


class StopSignals:
    """While entered, a signal raises `Stopped`, or inside `deferred()` is only noted, for the trainer to stop at a good place.

    Attributes:
        received: The signal that came, or None.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._deferred = False
        self._since = 0.0
        self._former: dict = {}

    def __enter__(self) -> "StopSignals":
        self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self):
        """Signals are noted, not raised, until the end, which raises `Stopped` if one came."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.received is not None:
            raise Stopped(self.received.name)

    def _handle(self, number: int, frame):
        if self.received is not None:
            if time.monotonic() - self._since > TOGETHER:
                os._exit(128 + number)
            return
        self.received, self._since = signal.Signals(number), time.monotonic()
        if not self._deferred:
            raise Stopped(self.received.name)
        print(f"\n{self.received.name}: writing a checkpoint after this micro-step; once more to stop at once", file=sys.stderr)
