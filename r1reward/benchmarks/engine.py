"""Runs a reward model over the requests of a protocol, and keeps every verdict as it comes.

The work is cut into units, each one batch: which requests make a unit, and with which seed it is sampled, follows from the
benchmark, the protocol, the votes and the batch size alone. A unit's verdicts are appended to the file in one piece. A killed
evaluation therefore resumes at its first unfinished unit and ends with the same verdicts as one that was never killed, and
several processes can share the units.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r1reward.benchmarks.verdicts import Vote
from r1reward.data.rows import Row
from r1reward.inference.backend import Sampling
from r1reward.inference.readings import read_verdict
from r1reward.inference.reward_model import RewardModel

SEEDS = 1_000_003  # units of another seed never share a random state


@dataclass(frozen=True)
class Unit:
    """One batch of work.

    Attributes:
        number: Its place in the plan, from 0.
        requests: The (item id, order) pairs that it judges.
    """

    number: int
    requests: tuple[tuple[str, str], ...]


def plan(rows: Sequence[Row], requests: Sequence[tuple[str, str]], votes: int, batch_size: int) -> list[Unit]:
    """The units: rows sorted by the length of their prompts, both orders of an item side by side.

    Args:
        rows: The rows of the items.
        requests: What is to be judged (`protocols.requests`).
        votes: Completions per request.
        batch_size: Completions per unit, at most; at least one item per unit.
    """
    lengths = {row.id: len(row.text()) for row in rows}
    orders: dict[str, list[tuple[str, str]]] = {}
    for request in requests:
        orders.setdefault(request[0], []).append(request)
    ids = sorted(orders, key=lambda id: lengths[id])  # stable: equal lengths keep the benchmark's order
    units: list[Unit] = []
    batch: list[tuple[str, str]] = []
    for id in ids:
        if batch and (len(batch) + len(orders[id])) * votes > batch_size:
            units.append(Unit(len(units), tuple(batch)))
            batch = []
        batch += orders[id]
    return [*units, Unit(len(units), tuple(batch))] if batch else units


class Verdicts:
    """The verdicts in a folder: one JSON object per line with the fields of `Vote` and the unit that made it.

    Each process has a file of its own, verdicts-<rank>.jsonl; the first one's is verdicts.jsonl. A unit is finished where all
    that it asks for is there. Opening the verdicts drops what a killed process left of an unfinished unit; verdicts that the
    plan does not ask for (of the other order, under another protocol) stay.

    Args:
        folder: The folder.
        units: The whole plan.
        votes: Completions per request.
        rank: Number of this process.
    """

    def __init__(self, folder: Path, units: Sequence[Unit], votes: int, rank: int = 0):
        self.folder, self._units, self._votes = folder, units, votes
        self.path = folder / ("verdicts.jsonl" if rank == 0 else f"verdicts-{rank}.jsonl")
        folder.mkdir(parents=True, exist_ok=True)
        done = self.finished()
        dropped = {request for unit in units if unit.number not in done for request in unit.requests}
        own = _whole_requests(self.path, votes)
        kept = [line for request, lines in own.items() if request not in dropped for line in lines]
        _write_lines(self.path, kept)

    def append(self, unit: Unit, votes: Iterable[Vote]):
        """Add a finished unit, in one piece."""
        text = "".join(_line(unit.number, vote) for vote in votes)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def finished(self) -> dict[int, list[str]]:
        """The lines of the units that are finished, in the order of the units and of what they ask for."""
        found: dict[tuple[str, str], list[str]] = {}
        for path in self._paths():
            found |= _whole_requests(path, self._votes)
        return {
            unit.number: [line for request in unit.requests for line in found[request]]
            for unit in self._units
            if all(request in found for request in unit.requests)
        }

    def votes(self) -> list[Vote]:
        """All votes in the order of the units: the same however many processes and restarts wrote them."""
        return [Vote.from_dict(json.loads(line)) for lines in self.finished().values() for line in lines]

    def read_again(self, read: Callable[[Vote], Vote]):
        """Put what `read` makes of each vote in its place; files in which nothing changes are left alone."""
        for path in self._paths():
            lines = [line for lines in _whole_requests(path, self._votes).values() for line in lines]
            records = [json.loads(line) for line in lines]
            again = [_line(record["unit"], read(Vote.from_dict(record))) for record in records]
            if again != lines:
                _write_lines(path, again)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("verdicts*.jsonl"))


def _line(unit: int, vote: Vote) -> str:
    return json.dumps({"unit": unit} | vote.to_dict()) + "\n"


def _write_lines(path: Path, lines: Iterable[str]):
    partial = path.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, path)


def _whole_requests(path: Path, votes: int) -> dict[tuple[str, str], list[str]]:
    """The lines of each (item id, order) of which the file holds all votes, in their order."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:  # the last line may be torn, a damaged one is as good as missing
            text = line.decode("utf-8")
            record = json.loads(text)
            vote = Vote.from_dict(record)
            if type(record["unit"]) is int:
                found.setdefault((vote.item, vote.order), {})[vote.vote] = text + "\n"
        except (ValueError, TypeError, KeyError):
            continue
    return {
        request: [lines[number] for number in range(votes)]
        for request, lines in found.items()
        if sorted(lines) == list(range(votes))
    }


def read_vote(vote: Vote, pattern: str) -> Vote:
    """The vote as its text reads under a pattern (`inference.readings`)."""
    verdict = read_verdict(vote.text, pattern)
    return replace(vote, choice=verdict.choice, rejection=vote.failure or verdict.rejection)


def judge(
    reward_model: RewardModel,
    rows: Sequence[Row],
    units: Sequence[Unit],
    verdicts: Verdicts,
    votes: int,
    sampling: Sampling,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda verdicts: None,
) -> None:
    """Judge units and add them to the verdicts.

    Args:
        rows: The rows of the items.
        units: Those of this process that are not finished.
        votes: Completions per request.
        seed: A unit is sampled from this seed and its number.
        on_progress: Called with the number of verdicts just made.
    """
    by_id = {row.id: row for row in rows}
    for unit in units:
        shown = [_shown(by_id[id], order) for id, order in unit.requests]
        judgements = reward_model.vote(shown, votes, sampling, seed * SEEDS + unit.number)
        verdicts.append(unit, _votes(unit, judgements))
        on_progress(len(unit.requests) * votes)


def _shown(row: Row, order: str) -> Row:
    return row if order == "forward" else row.swapped()


def _votes(unit: Unit, judgements) -> list[Vote]:
    return [
        Vote(id, order, number, j.verdict.choice, j.failure or j.verdict.rejection, j.tokens, j.text, j.failure)
        for (id, order), drawn in zip(unit.requests, judgements, strict=True)
        for number, j in enumerate(drawn)
    ]
