"""A reward benchmark as items to judge, whichever of its published layouts it comes in.

Each reader (`vl_rewardbench`, `multimodal_rewardbench`, `mm_rlhf_rewardbench`) describes its benchmark by a `Source`: where the
rows lie, what one row means, the official sizes. What is common to all is here, `r1reward.benchmarks.read` puts them together,
with these rules, each counted in `Benchmark.notes`:

    duplicate ids    kept; the second row of an id is named "id#2", and `Item.group` keeps the published id
    ties             left out: a pair without a better response has no right verdict
    missing images   stop with every path (`MissingFiles`), or leave their items out (missing="skip")
    anything else    one ValueError that lists file, row, field and remedy; no row is dropped in silence
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1reward.data.jsonl import checked_text, path_below, unique_ids
from r1reward.data.kinds_of_files import LFS_POINTER
from r1reward.data.marks import without_image_lines
from r1reward.data.prompts import prompt_parts
from r1reward.data.records import Problem, file_or_folder, raise_problems, records_of, visible
from r1reward.data.rows import ImageSource, PreferenceRow
from r1reward.messages import listed


@dataclass(frozen=True)
class Item:
    """One pair to judge.

    Attributes:
        row: The pair, responses in the order of the published data; its id is unique in the benchmark, its category official.
        group: The published id, which pairs of one question share (Acc+ asks for all pairs of a group).
        released_category: Where R1-Reward's released scorer counts the pair; mostly the same as `row.category`.
    """

    row: PreferenceRow
    group: str
    released_category: str


@dataclass(frozen=True)
class Benchmark:
    """The items of a benchmark in published order.

    Attributes:
        name: As in `NAMES`, or of a preference file.
        items: What is to be judged.
        sizes: Official number of items by category, of the edition that the data is closest to.
        notes: Counts of what was met: `rows` read, `duplicate_ids`, `ties_left_out`, `missing_images_skipped`, and what the
            reader adds.
        edition: Which of the published sizes were taken.
    """

    name: str
    items: list[Item]
    sizes: dict[str, int]
    notes: dict[str, int]
    edition: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every category has its official number of items."""
        return not self.size_problems()

    def size_problems(self) -> list[str]:
        """One text for each category whose number of items is not the official one."""
        return size_problems(Counter(item.row.category for item in self.items), self.sizes)


class MissingFiles(ValueError):
    """Files of a benchmark that are not there.

    Attributes:
        missing: All paths, each once, in the order of the rows; the message shows the first ten.
    """

    def __init__(self, name: str, missing: Sequence[str], remedy: str, concerned: str = ""):
        self.missing = list(dict.fromkeys(missing))
        count = len(self.missing)
        head = f"{name}: {count} {'file is' if count == 1 else 'files are'} missing{concerned}:"
        super().__init__(f"{head}\n  {listed(self.missing)}\n{remedy}")


@dataclass(frozen=True)
class Parsed:
    """One row as its reader understands it; `label` is None for a tie, `notes` names what is to be counted."""

    id: str
    images: tuple[ImageSource, ...]
    question: str
    responses: tuple[str, str]
    label: int | None
    category: str
    released_category: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What the common reader must know about a benchmark.

    Attributes:
        name: As in `NAMES`.
        patterns: Where the rows lie in a folder; the first pattern that finds files counts.
        parse: Makes a `Parsed` of a row and the folder that image paths start from; raises `Problem`.
        editions: Official sizes by category, for each published edition.
        fetch: Where the files come from and the commands that fetch them.
        hint: More to say about missing paths, where there is more.
    """

    name: str
    patterns: tuple[str, ...]
    parse: Callable[[dict, Path], Parsed]
    editions: dict[str, dict[str, int]]
    fetch: str
    hint: Callable[[list[str]], str] = lambda missing: ""


def parse_all(source: Source, path: str | Path, image_root: str | Path | None) -> list[Parsed]:
    parsed: list[Parsed] = []
    problems: list[str] = []
    for where, record, folder in read_records(source, path):
        root = folder if image_root is None else Path(os.path.abspath(image_root))
        try:
            if isinstance(record, Problem):
                raise record
            parsed.append(source.parse(record, root))
        except Problem as problem:
            problems.append(f"{where}, {problem}")
    raise_problems(path, problems)
    if not parsed:
        raise ValueError(f"{path}: holds no rows of {source.name}\n{source.fetch}")
    return parsed


def to_benchmark(
    name: str, parsed: list[Parsed], lacking: list[list[str]], prompt: str, sizes: dict[str, int], edition: str
) -> Benchmark:
    notes = {"rows": len(parsed), "duplicate_ids": 0, "ties_left_out": 0, "missing_images_skipped": 0}
    items = []
    for row, id, lost in zip(parsed, unique_ids([row.id for row in parsed]), lacking, strict=True):
        for note in row.notes:
            notes[note] = notes.get(note, 0) + 1
        notes["duplicate_ids"] += id != row.id
        if row.label is None:
            notes["ties_left_out"] += 1
        elif lost:
            notes["missing_images_skipped"] += 1
        else:
            question = without_image_lines(row.question, len(row.images))
            pair = PreferenceRow(
                id=id,
                images=row.images,
                question=question,
                responses=row.responses,
                label=row.label,
                prompt_parts=prompt_parts(prompt, question),
                category=row.category,
            )
            items.append(Item(pair, row.id, row.released_category))
    return Benchmark(name, items, sizes, notes, edition)


def read_records(source: Source, path: str | Path) -> Iterator[tuple[str, dict | Problem, Path]]:
    """Each row of the source's files as ("file, row 3", its fields or what is wrong with it, the file's folder).

    Rows are counted from 1: lines of a JSONL file, positions in a JSON list or a parquet file.
    """
    for file in _data_files(source, path):
        for row, record in _records_of(source, file):
            yield f"{file.name}, row {row}", record, Path(os.path.abspath(file.parent))


def _data_files(source: Source, path: str | Path) -> list[Path]:
    try:
        folder = file_or_folder(path)
    except ValueError as error:
        raise MissingFiles(source.name, [str(path)], f"{error}\n{source.fetch}{source.hint([str(path)])}") from None
    if folder.is_file():
        return [folder]
    for pattern in source.patterns:
        if found := visible(folder, pattern):
            return found
    expected = [str(folder / pattern) for pattern in source.patterns]
    concerned = " (one of these would do)" if len(expected) > 1 else ""
    raise MissingFiles(source.name, expected, source.fetch + source.hint(expected), concerned)


def _records_of(source: Source, file: Path) -> Iterator[tuple[int, dict | Problem]]:
    with open(file, "rb") as opened:
        head = opened.read(len(LFS_POINTER))
    if head == LFS_POINTER:
        remedy = f"It is only a Git LFS pointer: run `git lfs pull` there, or download it again.\n{source.fetch}"
        raise MissingFiles(source.name, [str(file)], remedy)
    try:
        yield from records_of(file, strict=False)
    except ValueError as error:
        raise ValueError(f"{error}\n{source.fetch}") from None


def text_of(record: dict, field: str, may_be_empty: bool = False) -> str:
    """The row's text in that field; `Problem` where there is none."""
    text = record.get(field)
    if not isinstance(text, str) or not (text.strip() or may_be_empty):
        state = "is missing" if field not in record else "is empty" if text == "" else f"must be a text, got {text!r:.60}"
        raise Problem(field, f"{state}; the row has the fields {sorted(map(str, record))}")
    return checked_text(text, field)


def image_of(value: object, field: str, root: Path, folders: Sequence[str] = ("",)) -> ImageSource:
    """The image in a row: a path, or the struct {bytes, path} of a parquet file.

    Args:
        value: The field's value.
        field: Its name.
        root: Folder that paths start from and that none may leave, absolute.
        folders: Folders below the root to look in; the first one that has the file counts, else the first.
    """
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes) and value["bytes"]:
        return ImageSource(data=value["bytes"])
    name = value.get("path") if isinstance(value, dict) else value
    if not isinstance(name, str) or not name:
        raise Problem(field, f"must be an image or its path, got {value!r:.60}; download the file again")
    candidates = [path_below(root, os.path.join(folder, name), field) for folder in folders]
    return ImageSource(path=next(filter(os.path.exists, candidates), candidates[0]))


def is_there(image: ImageSource) -> bool:
    if image.path is None:
        return True
    if not os.path.isfile(image.path):
        return False
    with open(image.path, "rb") as file:
        head = file.read(len(LFS_POINTER))
    return bool(head) and head != LFS_POINTER


def distance(counts: dict[str, int], sizes: dict[str, int]) -> int:
    return sum(abs(counts.get(category, 0) - sizes.get(category, 0)) for category in counts.keys() | sizes.keys())


def size_problems(counts: dict[str, int], sizes: dict[str, int]) -> list[str]:
    categories = [*sizes, *sorted(counts.keys() - sizes.keys())]
    found = [(category, counts.get(category, 0), sizes.get(category, 0)) for category in categories]
    return [f"{category}: {count} items, officially {size}" for category, count, size in found if count != size]
