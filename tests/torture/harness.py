"""Runs one training command again and again, strikes it down at drawn moments, and compares what is left with a quiet run.

A run is struck in a phase at a step, after a drawn fraction of the CPU time that this phase took in the quiet run: unlike the
clock's, it hardly depends on what else the machine does. The worker (`tests.torture.worker`) does not leave the phase before
the strike. What is struck when follows from a seed alone.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import torch

from r1reward.train import STOPPED
from r1reward.trainer.signals import TOGETHER

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 400  # seconds until a start that does not come to its strike, or to its end, counts as hanging
TIMES = ("seconds", "step_time")  # metrics that are durations


@dataclass(frozen=True)
class Segment:
    """One stretch of a run.

    Attributes:
        phase: What the worker did.
        step: The trainer's optimiser step; None where there is no trainer yet.
        epoch: Its epoch, counted from 0; None where it does not train yet.
        seconds: Its CPU time; None for the one in which a run ended.
    """

    phase: str
    step: int | None
    epoch: int | None
    seconds: float | None


@dataclass(frozen=True)
class Strike:
    """What is done to a start, and when.

    Attributes:
        phase: In which phase.
        step: At which step; None: where the phase first occurs, whatever the step.
        fraction: After which part of `seconds`, between 0 and 1.
        seconds: CPU time of the phase in the quiet run.
        signals: What is sent, one after another; a later one once the one before was handled.
    """

    phase: str
    step: int | None
    fraction: float
    seconds: float
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)


@dataclass
class Start:
    """What became of one start of the command.

    Attributes:
        strike: What struck it; None where it was left in peace.
        code: Exit status, as `subprocess` gives it.
        segments: Its phases in order; the last one is that in which it ended.
        resumed: Step of the checkpoint from which it went on, or None.
        held: Whether the phase was over by the time of the strike, which then came at its very end.
        output: What it printed.
    """

    strike: Strike | None
    code: int = 0
    segments: list[Segment] = field(default_factory=list)
    resumed: int | None = None
    held: bool = False
    output: str = ""

    @property
    def struck(self) -> Segment | None:
        """The segment in which it was struck; None where it did not come to it."""
        wanted = self.strike
        return next((s for s in self.segments if s.phase == wanted.phase and wanted.step in (None, s.step)), None)


class Command:
    """A training command in a folder of its own; each start leaves its log and what it printed there.

    Args:
        folder: Where it runs; its run folder is found below `runs/`.
        arguments: The overrides, as a user types them.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]):
        folder.mkdir()
        self.folder, self.arguments = folder, list(arguments)
        self.starts: list[Start] = []

    @property
    def run_folder(self) -> Path:
        (found,) = self.folder.glob("runs/*/*/")  # one: every start found the same
        return found

    def start(self, strike: Strike | None = None) -> Start:
        """Start the command, strike, and wait until it has ended."""
        number = len(self.starts)
        log, printed = self.folder / f"phases-{number}.jsonl", self.folder / f"printed-{number}.txt"
        hold = None
        if strike is not None:  # SIGKILL is never handled: held for ever
            handled = 0 if signal.SIGKILL in strike.signals else len(strike.signals)
            hold = {"phase": strike.phase, "step": strike.step, "signals": handled}
        command = [sys.executable, "-m", "tests.torture.worker", str(log), json.dumps(hold), *self.arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
        with open(printed, "wb") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                if strike is not None:
                    self._strike(process, log, strike)
                code = process.wait(PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        entries = read(log)
        self.starts.append(
            Start(
                strike,
                code,
                segments(entries),
                next((entry["resumed"] for entry in entries if "resumed" in entry), None),
                any("held" in entry for entry in entries),
                printed.read_text(errors="replace"),
            )
        )
        return self.starts[-1]

    def _strike(self, process: subprocess.Popen, log: Path, strike: Strike):
        """Wait for the phase, then for the drawn moment in it, and send the signals."""
        clock = psutil.Process(process.pid)

        def begun(entries: list[dict]) -> bool:
            last = [entry for entry in entries if "phase" in entry][-1:]
            return bool(last) and last[0]["phase"] == strike.phase and strike.step in (None, last[0]["step"])

        entries = self._wait(process, log, begun, f"{strike.phase} at step {strike.step}")
        moment = max(entry["cpu"] for entry in entries if "phase" in entry) + strike.fraction * strike.seconds

        def come(entries: list[dict]) -> bool:
            times = clock.cpu_times()
            return times.user + times.system >= moment or any("held" in entry for entry in entries)

        self._wait(process, log, come, f"{moment} s of CPU time")
        for number, sent in enumerate(strike.signals):
            # Of two equal signals that wait, the kernel keeps one.
            self._wait(process, log, lambda entries, n=number: sum("signals" in entry for entry in entries) == n, "a handler")
            if number:
                time.sleep(TOGETHER + 0.2)  # another request, not the same one again
            os.killpg(process.pid, sent)

    def _wait(self, process: subprocess.Popen, log: Path, come: Callable[[list[dict]], bool], what: str) -> list[dict]:
        """Wait until `come(entries of the log)`; returns them."""
        size, entries, end = 0, [], time.monotonic() + PATIENCE
        while True:
            grown = log.stat().st_size if log.exists() else 0
            if grown != size:
                size, entries = grown, read(log)
            assert process.poll() is None, f"it ended with {process.returncode} before {what}; see {log}"
            if come(entries):
                return entries
            assert time.monotonic() < end, f"{what} did not come in {PATIENCE} s; see {log}"
            time.sleep(0.002)


def read(log: Path) -> list[dict]:
    """Entries of a worker's log; a last line that is not whole yet is left out."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]


def segments(entries: list[dict]) -> list[Segment]:
    """The phases that a log tells of."""
    phases = [entry for entry in entries if "phase" in entry]
    ends = [*(entry["cpu"] for entry in phases[1:]), None][: len(phases)]
    return [
        Segment(entry["phase"], entry["step"], entry["epoch"], None if end is None else end - entry["cpu"])
        for entry, end in zip(phases, ends, strict=True)
    ]


# ---- drawing ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A strike to draw: in one of `phases`, in an epoch (None: any, or none), with these signals."""

    phases: tuple[str, ...]
    epoch: int | None = None
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)


def draw(
    quiet: list[Segment], wanted: Sequence[Wanted], seed: int, again: Sequence[str] = (), steps_between: int = 0
) -> list[Strike]:
    """Strikes in the order in which the run comes by them, no phase of a step twice.

    Args:
        quiet: Segments of the undisturbed run.
        wanted: What to draw; in any order.
        seed: Of the draw.
        again: Phases that every start of a run with a checkpoint has; one such start each is killed there.
        steps_between: Optimiser steps at least from one strike to the next. A run killed in one segment comes by every later
            one, so 0 will do; one stopped by a signal goes on beyond the step at which it was asked to, so that needs 2.
    """
    generator = random.Random(seed)
    for _ in range(10_000):
        chosen: dict[int, Wanted] = {}
        for one in wanted:
            fitting = [
                index
                for index, segment in enumerate(quiet)
                if segment.phase in one.phases and one.epoch in (None, segment.epoch) and index not in chosen
            ]
            assert fitting, f"the quiet run never is in {one}"
            chosen[generator.choice(fitting)] = one
        order = sorted(chosen)
        steps = [quiet[index].step for index in order if quiet[index].step is not None]
        if all(b - a >= steps_between for a, b in pairwise(steps)):
            break
    else:
        raise AssertionError(f"no room for {len(wanted)} strikes {steps_between} steps apart")
    strikes = [Strike(quiet[i].phase, quiet[i].step, generator.random(), quiet[i].seconds, chosen[i].signals) for i in order]
    first_checkpoint = next(index for index, segment in enumerate(quiet) if segment.phase == "sealing")
    earliest = 1 + sum(index <= first_checkpoint for index in order)
    for phase in again:
        place = generator.randint(earliest, len(strikes))
        strikes.insert(place, Strike(phase, None, generator.random(), 0.2))
    return strikes


# ---- judging --------------------------------------------------------------------------------------------------------------


def check_starts(starts: Sequence[Start]):
    """See that all starts but the last were struck where they were to be, and went on from the newest whole checkpoint."""
    possible: set[int | None] = {None}  # steps of the checkpoint that the next start may go on from
    for number, start in enumerate(starts):
        shown = f"start {number}:\n{table(starts)}\n{start.output[-3000:]}"
        assert start.resumed in possible, f"a checkpoint of {possible} was there for {shown}"
        possible = {start.resumed}
        strike = start.strike
        if strike is None:
            assert start.code == 0 and number == len(starts) - 1, shown
            continue
        killed = signal.SIGKILL in strike.signals
        assert start.code == (-signal.SIGKILL if killed else STOPPED if len(strike.signals) == 1 else 128 + signal.SIGTERM), (
            shown
        )
        if killed:
            assert start.segments[-1] == start.struck, shown
        whole = [segment.step for segment in start.segments[:-1] if segment.phase == "sealing"]
        if whole:
            possible = {whole[-1]}
        if start.segments[-1].phase == "sealing":  # it was killed before or after the folder took its name
            possible.add(start.segments[-1].step)


def differences(quiet: Path, struck: Path) -> list[str]:
    """In what two run folders of one command differ, times aside; empty if one is as good as the other."""
    found = []

    def compare(what: str, measure: Callable[[Path], object]):
        a, b = measure(quiet), measure(struck)
        if a != b:
            found.append(f"{what}: {a} and {b}")

    compare("weights", lambda folder: sha256(folder / "model" / "model.safetensors"))
    compare("files", lambda folder: sorted(path.relative_to(folder).as_posix() for path in files(folder)))
    compare("number of metrics", lambda folder: len(rows(folder)))
    for a, b in zip(rows(quiet), rows(struck), strict=False):
        differing = [name for name in a | b if name not in a or name not in b or a[name] != b[name]]
        found.extend(f"metrics of step {a['step']}, {name}: {a.get(name)} and {b.get(name)}" for name in differing)
    compare("samples", lambda folder: sha256(folder / "samples.jsonl"))
    for part in ("evaluation", "collapse", "steps"):
        compare(f"summary's {part}", lambda folder, part=part: json.loads((folder / "summary.json").read_text())[part])
    compare("checkpoints", lambda folder: [path.name for path in checkpoints(folder)])
    for name in ("optimizer.pt", "scheduler.pt"):
        a, b = (flat(torch.load(checkpoints(folder)[-1] / name, weights_only=True)) for folder in (quiet, struck))
        found.extend(f"{name}, {key}" for key in a | b if not same(a.get(key), b.get(key)))
    for name in ("model.safetensors", "trainer_state.json", "state-0.safetensors"):  # the last has the random states
        compare(name, lambda folder, name=name: sha256(checkpoints(folder)[-1] / name))
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def checkpoints(run_folder: Path) -> list[Path]:
    """All folders in checkpoints/, the latest last."""
    return sorted((run_folder / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))


def rows(run_folder: Path) -> list[dict]:
    """The metrics without durations."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flat(value, name: str = "") -> dict:
    """The leaves of nested dictionaries and lists by their path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, item in items for path, leaf in flat(item, f"{name}/{key}").items()}
    return {name: value}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


# ---- showing ---------------------------------------------------------------------------------------------------------------


def table(starts: Sequence[Start]) -> str:
    """One line for each start: from where it went on, and where it was struck."""
    lines = [
        f"{'start':>5}  {'went on from':13}  {'struck by':15}  {'in':17}  {'step':>4}  {'epoch':>5}  {'after':23}  {'exit':>4}"
    ]
    for number, start in enumerate(starts):
        origin = "the beginning" if start.resumed is None else f"checkpoint-{start.resumed}"
        line = f"{number:>5}  {origin:13}  "
        if start.strike is None:
            line += f"{'nothing':69}"
        else:
            strike, place = start.strike, start.struck
            moment = f"{strike.fraction:.2f} of {strike.seconds:.2f} s{', its end' * start.held}"
            step, epoch = (("-" if x is None else x) for x in ((place.step, place.epoch) if place else (None, None)))
            by = "+".join(sent.name for sent in strike.signals)
            line += f"{by:15}  {strike.phase:17}  {step:>4}  {epoch:>5}  {moment:23}"
        lines.append(f"{line}  {start.code:>4}")
    return "\n".join(lines)
