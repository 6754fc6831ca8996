"""The commands, each in a process of its own that starts warm: forked from one that has imported torch and transformers.

Importing these takes seconds each time, and the tests start about a hundred processes. From there on such a process does what
`python -m r1reward.<module>` does, with its own arguments, folder and exit code; `cold=True` starts Python anew.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TIMEOUT = 300  # seconds
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["r1reward.trainer.job", "r1reward.trainer.stable_reinforce", "r1reward.benchmarks.job"])


def run(
    folder: Path, *arguments: str, module: str = "train", code: int = 0, before: Callable | None = None, cold: bool = False
) -> str:
    """Run `python -m r1reward.<module>` in `folder`, after `before()` in its process; returns what it printed."""
    found, text = (_cold if cold else _warm)(folder, f"r1reward.{module}", list(arguments), before)
    assert found == code, text
    return text


def start(folder: Path, *arguments: str, module: str) -> multiprocessing.Process:
    """Start `python -m r1reward.<module>` in `folder` without waiting for it; what it prints is lost."""
    printed = [os.devnull] * 2
    process = _FORKS.Process(target=_command, args=(folder, f"r1reward.{module}", arguments, printed, dict(os.environ), None))
    process.start()
    return process


def only(folder: Path, pattern: str) -> Path:
    """The one path below the folder that matches."""
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def _cold(folder: Path, module: str, arguments: list[str], before) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=before,
    )
    return done.returncode, done.stdout + done.stderr


def _warm(folder: Path, module: str, arguments: list[str], before) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as outside:
        printed = [os.path.join(outside, name) for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_command, args=(folder, module, arguments, printed, dict(os.environ), before))
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{module} {arguments} still runs after {TIMEOUT} s")
        return process.exitcode, "".join(Path(path).read_text() for path in printed)


def _command(folder: Path, module: str, arguments: list[str], printed: list[str], environment: dict[str, str], before):
    """In the new process: become the command."""
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv[1:] = arguments
    if before is not None:
        before()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out
