"""Two evaluations of the same items, compared item by item: `python -m r1reward.compare A B`.

Needed of a folder: config.yaml, results.json, verdicts*.jsonl and items.jsonl, which holds of each item what marking it takes
(id, group, label, categories), so that comparing reads neither the benchmark nor its images.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import yaml

from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.protocols import Marks, mark, requests
from r1reward.benchmarks.significance import RESAMPLES, compare
from r1reward.benchmarks.verdicts import Table, Vote
from r1reward.data.rows import PreferenceRow
from r1reward.messages import listed
from r1reward.reporting.config_diff import flatten

ITEMS = "items.jsonl"
_AGAIN = "run its evaluation again with the same settings: only what is missing is made"


def write_items(path: Path, benchmark: Benchmark) -> None:
    """One line per item: `id`, `group`, `label`, `category`, `released_category`, and `digest` of question and responses."""
    path.write_text("".join(json.dumps(_record(item)) + "\n" for item in benchmark.items), encoding="utf-8")


def _record(item: Item) -> dict:
    row = item.row
    texts = json.dumps([row.question, *row.responses])
    return {
        "id": row.id,
        "group": item.group,
        "label": row.label,
        "category": row.category,
        "released_category": item.released_category,
        "digest": hashlib.sha256(texts.encode()).hexdigest()[:16],
    }


@dataclass(frozen=True)
class Evaluation:
    """What a folder holds.

    Attributes:
        folder: The folder.
        config: Its settings, nested.
        results: Its results.json.
        items: The lines of items.jsonl by id.
        votes: All verdicts that it holds.
    """

    folder: Path
    config: dict
    results: dict
    items: dict[str, dict]
    votes: list[Vote]

    def marks(self, ids: list[str]) -> Marks:
        """The items, in the order of the ids, marked by the protocol that judged them.

        Raises:
            ValueError: The verdicts are not those of the items.
        """
        benchmark = Benchmark(self.results["benchmark"], [_item(self.items[id]) for id in ids], {}, {})
        protocol, seed = self.results["protocol"], self.config["seed"]
        wanted = requests(benchmark, protocol, seed)
        asked = set(wanted)  # the folder may hold the other order too, from another protocol
        votes = [vote for vote in self.votes if (vote.item, vote.order) in asked or vote.item not in self.items]
        try:
            table = Table.build(benchmark.items, votes, wanted, self.results["votes"])
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}\n{_AGAIN}") from None
        return mark(benchmark, table, protocol, seed)


def _item(record: dict) -> Item:
    texts = {"question": "", "responses": ("", ""), "prompt_parts": ("", "", "")}
    row = PreferenceRow(record["id"], images=(), label=record["label"], category=record["category"], **texts)
    return Item(row, record["group"], record["released_category"])


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read a finished evaluation.

    Raises:
        ValueError: A file is missing or cannot be read.
    """
    folder = Path(folder)
    results = _read(folder, "results.json", json.loads)
    if "protocol" not in results:
        raise ValueError(f"{folder} is an evaluation of {results['benchmark']}; only those of pairs compare item by item")
    config = _read(folder, "config.yaml", yaml.safe_load)
    items = _read(folder, ITEMS, lambda text: {(record := json.loads(line))["id"]: record for line in text.splitlines()})
    return Evaluation(folder, config, results, items, _votes(folder))


def _read(folder: Path, name: str, parse: Callable[[str], dict]) -> dict:
    try:
        return parse((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a finished evaluation: {name} is missing; {_AGAIN}") from None
    except (yaml.YAMLError, ValueError, KeyError) as error:
        raise ValueError(f"{folder / name} is damaged ({type(error).__name__}: {error}); {_AGAIN}") from None


def _votes(folder: Path) -> list[Vote]:
    """The verdicts of all processes, each once. Of one that several files hold, because one of them belongs to a process that
    was killed and not started again, the copy in the longest piece counts: that is the whole unit."""
    best: dict[tuple, tuple[int, int, Vote]] = {}
    for path in sorted(folder.glob("verdicts*.jsonl")):
        units: dict[int, list[Vote]] = {}
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
                units.setdefault(record["unit"], []).append(Vote.from_dict(record))
            except (ValueError, TypeError, KeyError):  # torn when the process was killed
                continue
        for unit, votes in units.items():
            for vote in votes:
                key = (vote.item, vote.order, vote.vote)
                if key not in best or len(votes) > best[key][1]:
                    best[key] = unit, len(votes), vote
    return [vote for _, _, vote in sorted(best.values(), key=lambda found: found[0])]


def compare_evaluations(folder_a: str | Path, folder_b: str | Path, resamples: int = RESAMPLES) -> dict:
    """Whether one of two evaluations of the same items is better, overall and by category.

    They may differ in model, votes, prompt and sampling, not in items and protocol.

    Args:
        folder_a, folder_b: Folders of finished evaluations.
        resamples: Number of bootstrap resamples.

    Returns:
        JSON-able: `benchmark`, `protocol`, `orders` (`protocols.Rules`), `complete`, and `buckets`, which are those of both
        or else official; of a and b in this order `folders`, `models` and `votes`; `settings`, name -> two values, of those
        that differ; `overall` and `by_category`, each as `significance.compare` gives it, or None where no item of a category
        counts for both.

    Raises:
        ValueError: A folder is not a finished evaluation, or the two are of other benchmarks, protocols or items.
    """
    a, b = read_evaluation(folder_a), read_evaluation(folder_b)
    for name in ("benchmark", "protocol"):
        if a.results[name] != b.results[name]:
            raise ValueError(f"the {name} differs: {a.folder} has {a.results[name]}, {b.folder} has {b.results[name]}")
    _check_same_items(a, b)
    ids = list(a.items)
    marks_a, marks_b = a.marks(ids), b.marks(ids)
    buckets = a.results["buckets"] if a.results["buckets"] == b.results["buckets"] else "official"
    field = "category" if buckets == "official" else "released_category"
    categories = np.array([a.items[id][field] for id in ids])
    overall = compare(marks_a, marks_b, resamples)
    chosen = {str(category): np.flatnonzero(categories == category) for category in np.unique(categories)}
    settings_a, settings_b = flatten(a.config), flatten(b.config)
    return {
        "benchmark": a.results["benchmark"],
        "protocol": a.results["protocol"],
        "orders": a.results["rules"]["orders"],
        "buckets": buckets,
        "complete": a.results["complete"],
        "folders": [str(a.folder), str(b.folder)],
        "models": [a.config["model"]["path"], b.config["model"]["path"]],
        "votes": [a.results["votes"], b.results["votes"]],
        "settings": {
            name: [settings_a.get(name), settings_b.get(name)]
            for name in sorted(settings_a.keys() | settings_b.keys())
            if settings_a.get(name) != settings_b.get(name)
        },
        "overall": overall,
        "by_category": {category: _compare_some(marks_a, marks_b, places, resamples) for category, places in chosen.items()},
    }


def _check_same_items(a: Evaluation, b: Evaluation) -> None:
    for one, other in ((a, b), (b, a)):
        lacking = [id for id in one.items if id not in other.items]
        if lacking:
            raise ValueError(f"{len(lacking)} items of {one.folder} are not in {other.folder}: {listed(lacking, ', ')}")
    unlike = [id for id, record in a.items.items() if record != b.items[id]]
    if unlike:
        raise ValueError(
            f"{len(unlike)} items of {a.folder} have another text, label, group or category in {b.folder}: "
            f"{listed(unlike, ', ')}"
        )


def _compare_some(a: Marks, b: Marks, places: np.ndarray, resamples: int) -> dict | None:
    a, b = _some(a, places), _some(b, places)
    return compare(a, b, resamples) if (a.counted & b.counted).any() else None


def _some(marks: Marks, places: np.ndarray) -> Marks:
    """The marks of the items at those places."""
    names = {name: tuple(getattr(marks, name)[i] for i in places) for name in ("ids", "groups")}
    arrays = {field.name: getattr(marks, field.name)[places] for field in fields(Marks) if field.name not in names}
    return replace(marks, **names, **arrays)


def print_comparison(comparison: dict, console=None) -> None:
    """What `compare_evaluations` returns, for a terminal of 80 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    # Into a file or a pipe rich assumes 80 characters and would break words to fit; a log has no such border.
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{comparison['benchmark']}, {comparison['protocol']}, paired by item", style="bold"))
    for letter, model, votes, folder in zip(
        "AB", comparison["models"], comparison["votes"], comparison["folders"], strict=True
    ):
        console.print(Text(f"{letter}  {model}, {votes} vote{'s' * (votes != 1)}\n   {folder}"), soft_wrap=True)
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, int(console.width >= 100), 0, 0))
    grid.add_column("category", overflow="fold")
    for title in ("n", "A, %", "B, %", "A − B, points", "only A\nright", "only B\nright", "p"):
        grid.add_column(title, justify="right", no_wrap=True)
    for category, block in comparison["by_category"].items():
        grid.add_row(Text(category), *_cells(block))
    grid.add_section()
    grid.add_row(Text("overall", style="bold"), *_cells(comparison["overall"]))
    console.print(grid)
    for note in _notes(comparison):
        console.print(Text(note, style="dim"))


def _cells(block: dict | None) -> list[str]:
    if block is None:
        return ["0"] + ["–"] * 6
    d, test = block["difference"], block["mcnemar"]
    return [
        f"{block['n']:,}",
        f"{100 * block['accuracy_a']:.1f}",
        f"{100 * block['accuracy_b']:.1f}",
        f"{_signed(d['mean'])} [{_signed(d['low'])}, {_signed(d['high'])}]",
        str(test["only_a_right"]),
        str(test["only_b_right"]),
        "<0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}",
    ]


def _signed(share: float) -> str:
    """A difference of shares in points, with its sign; one that rounds to zero has none."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def _notes(comparison: dict) -> list[str]:
    overall = comparison["overall"]
    d = overall["difference"]
    if d["low"] > 0 or d["high"] < 0:
        found = f"{'A' if d['low'] > 0 else 'B'} is better overall: the interval of the difference leaves out 0."
    else:
        found = "Not separated overall: the interval of the difference contains 0."
    trial = "right in both orders" if comparison["orders"] == "both" else "right"
    notes = [
        found,
        "Brackets: 95 % bootstrap interval, questions resampled with all their pairs. p: McNemar's exact test, where an item "
        f"counts as right if it is {trial}; “only A right” are such items. Neither is adjusted for the number of categories.",
    ]
    if overall["left_out"]:
        notes.append(f"{overall['left_out']} verdicts do not count for both and are left out.")
    if not comparison["complete"]:
        notes.append("These are not all items of the benchmark: no benchmark scores.")
    if comparison["protocol"] == "released":
        notes.append("The better response is always shown first: a judge that favours that place looks better here.")
    notes += [f"{name}: {a!r} (A), {b!r} (B)" for name, (a, b) in comparison["settings"].items() if name != "model.path"]
    return notes
