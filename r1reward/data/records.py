"""Where the rows of a file, folder or hub id lie, and each of them as a dictionary: the ground under every reader.

    .jsonl                one JSON object per line; empty lines are skipped
    .json                 a list of objects
    either with .gz       the same, compressed
    .parquet              also in several shards
    a folder              as `save_to_disk` of the datasets library leaves it, or one that holds one of the above
    org/name              a data set on the hub: downloaded, or taken from the cache

The content decides, not the name. A file that is something else is named for what it is. Rows are counted from 1: lines,
positions in a list, rows of a table.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from r1reward.data.kinds_of_files import what_it_is
from r1reward.messages import listed, short_repr

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".jsonl", ".json", ".parquet", ".gz")
# In a folder, the first of these that finds files counts: training rows before others, tables before texts.
_PATTERNS = (
    "**/train*.parquet",
    "**/train/*.parquet",
    "**/*.parquet",
    "train*.json*",
    "*.jsonl*",
    "*.json",
    "*.json.gz",
    "*/train*.json*",
    "*/*.jsonl*",
)
_HUB_KINDS = ("*.parquet", "*.json", "*.jsonl", "*.gz", "*.jpg", "*.jpeg", "*.png", "*.webp")
# What tells the shards of one table apart: "-00000-of-00002" (the number of shards stays: it must be the same), the hub's
# older "-00000-of-00002-0a1b2c3d4e5f6071", and "_000" or "0000"; not a year.
_SHARD = re.compile(r"(?:^|(?<!-of)[-_])(?:\d+(?=-of-\d)|(?!(?:19|20)\d\d\.)\d{3,5}(?=\.))|(?<=\d)-[0-9a-f]{16}(?=\.)")
_BATCH = 64  # rows of a table in memory at a time: with images inside, some 10 MB


class Problem(Exception):
    """One thing wrong with one field of one row, with its remedy."""

    def __init__(self, field: str, text: str):
        super().__init__(f"field {field}: {text}")


def raise_problems(path: str | Path, problems: list[str]) -> None:
    """One `ValueError` that lists the first ten problems and counts the rest, if there are any."""
    if problems:
        noun = "row has a problem" if len(problems) == 1 else "rows have problems"
        raise ValueError(f"{path}: {len(problems)} {noun}:\n  {listed(problems)}")


def file_or_folder(path: str | Path) -> Path:
    """The file or folder of that path, else the folder of the data set of the hub with that id: downloaded, or in the cache.

    Raises:
        ValueError: There is none.
    """
    found = Path(path)
    if found.exists():
        return found
    if not _HUB_ID.fullmatch(str(path)) or found.suffix in SUFFIXES or found.parent.is_dir():
        raise ValueError(f"{path}: there is no such file; give the path of a file of rows, such as rows.jsonl")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), repo_type="dataset", allow_patterns=list(_HUB_KINDS)))
    except (OSError, ValueError) as error:  # not found, not reachable, not in the cache, not a legal id
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path}: there is no such file here, and the hub: {reason}; give the path of a file") from None


def rows_files(path: str | Path) -> list[Path]:
    """The files that hold the rows of a path, in order; a folder of the datasets library counts as one file.

    Raises:
        ValueError: There are none, or it is not clear which.
    """
    found = file_or_folder(path)
    if found.is_file() or _is_dataset(found):
        return [found]
    for pattern in _PATTERNS:
        files = visible(found, pattern)
        if len({(file.parent, _SHARD.sub("", file.name)) for file in files}) > 1:
            names = listed([str(file.relative_to(found)) for file in files], ", ", 5)
            remedy = "name one of them, or the folder of one that is in several shards"
            raise ValueError(f"{path}: a folder with several files of rows ({names}); {remedy}")
        if files:
            return files
    raise ValueError(
        f"{path}: a folder that holds no rows, neither as {', '.join(SUFFIXES)} nor as `save_to_disk` of the datasets library "
        "leaves them; name the file with the rows"
    )


def folder_of(file: Path) -> Path:
    """The folder that image paths in a file of `rows_files` start from."""
    return file if file.is_dir() else file.parent


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder by a pattern, sorted; not those in hidden folders, which hold a downloader's own records."""
    files = (file for file in sorted(folder.glob(pattern)) if file.is_file())
    return [file for file in files if not re.search(r"(^|/)\.", str(file.relative_to(folder)))]


def records_of(file: Path, strict: bool = True) -> Iterator[tuple[int, dict | Problem]]:
    """Each row of one of `rows_files` with its number: its fields, or what is wrong with it.

    Args:
        file: The file, or the folder of the datasets library.
        strict: Whether NaN and keys that stand twice are problems; published benchmarks are taken as they are.

    Raises:
        ValueError: The file is none that holds rows.
    """
    if file.is_dir():
        yield from enumerate(_dataset(file), start=1)
        return
    try:
        with open(file, "rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); give a file that you may read") from None
    if file.suffix.lower() in (".csv", ".tsv"):
        raise ValueError(f"{file}: a table as {file.suffix[1:].upper()}; write its rows as JSON lines or parquet")
    if found := what_it_is(head):
        raise ValueError(f"{file}: not a file of rows but {found}")
    if head.startswith(b"PAR1"):
        yield from enumerate(_parquet(file), start=1)
        return
    decoder = _STRICT if strict else _LENIENT
    for row, record in _json(file, gzip.open if head.startswith(b"\x1f\x8b") else open, decoder):
        if not isinstance(record, dict | Problem):
            record = Problem("(whole row)", f"a JSON {type(record).__name__}, not an object; write {{...}} with the fields")
        yield row, record


def load_json(text: str) -> object:
    """A JSON text, as the standard has it: without NaN and Infinity, and no key twice in one object.

    Raises:
        ValueError, RecursionError: Not JSON, or nested too deeply.
        Problem: A key that stands twice.
    """
    return _STRICT.decode(text)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Problem(short_repr(twice).strip("'"), "stands twice in one object, and which one counts is unclear; keep one")
    return data


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON number")


_STRICT = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse)
_LENIENT = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def _json(file: Path, open_file: Callable, decoder: json.JSONDecoder) -> Iterator[tuple[int, object]]:
    try:
        with open_file(file, "rb") as opened:
            first = next((line for line in opened if line.strip()), b"")
        begins_as_list = first.lstrip(b"\xef\xbb\xbf \t").startswith(b"[")
        if begins_as_list or isinstance(_line(first, decoder), Problem):
            with open_file(file, "rb") as opened:
                content = opened.read()
            try:
                if begins_as_list:
                    yield from _items(content, decoder)
                    return
                _refuse_one_object(content)
            except ValueError as error:
                if not begins_as_list or isinstance(_line(first, decoder), Problem):  # else each row is a list by itself
                    raise ValueError(f"{file}: {error}") from None
        with open_file(file, "rb") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, _line(line, decoder)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}: cannot be unpacked ({error}); download the file again") from None


def _line(content: bytes, decoder: json.JSONDecoder) -> object:
    try:
        return decoder.decode(content.decode("utf-8-sig"))
    except Problem as problem:
        return problem
    except UnicodeDecodeError as error:
        return Problem("(whole row)", f"not UTF-8 ({error}); save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return Problem("(whole row)", f"not JSON ({error}); write one JSON object per line")


def _items(content: bytes, decoder: json.JSONDecoder) -> list[tuple[int, object]]:
    """The items of a JSON list, each decoded by itself, so that what is wrong is said of its row.

    Raises:
        ValueError: It is no list, or not a whole one.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error}); save the file as UTF-8") from None
    items: list[tuple[int, object]] = []
    try:
        place = _SPACE.match(text, text.index("[") + 1).end()
        separator = ""
        while text[place] != "]" or separator == ",":
            try:
                value, end = decoder.raw_decode(text, place)
            except (Problem, ValueError) as error:
                _, end = _LENIENT.raw_decode(text, place)
                value = error if isinstance(error, Problem) else Problem("(whole row)", f"not JSON ({error})")
            items.append((len(items) + 1, value))
            place = _SPACE.match(text, end).end()
            separator = text[place]
            if separator not in ",]":
                raise ValueError("neither a comma nor the end")
            place = _SPACE.match(text, place + (separator == ",")).end()
        if text[place + 1 :].strip():
            raise ValueError("more after the end")
    except (ValueError, RecursionError, IndexError):
        raise ValueError(f"a JSON list that is cut off or damaged after row {len(items)}; download or write it again") from None
    return items


def _refuse_one_object(content: bytes):
    """Raise a ValueError where a file holds one object over several lines."""
    if b"\n" not in content.strip():
        return
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        annotations = {"images", "annotations", "categories"} <= value.keys()
        remedy = (
            "such annotations are read by benchmark=detection and benchmark=referring"
            if annotations
            else "write a list of rows"
        )
        raise ValueError(f"one JSON object with the keys {short_repr(sorted(value))}, not rows; {remedy}")


def _parquet(file: Path) -> Iterator[dict]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        for batch in ParquetFile(file).iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a valid Parquet file ({error}); download the file again") from None


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _dataset(folder: Path) -> Iterator[dict]:
    """The rows of a folder that `save_to_disk` wrote; images stay encoded. Of several splits, `train`."""
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except Exception as error:  # the library lets through whatever pyarrow and JSON raise
        raise ValueError(f"{folder}: not a valid folder of the datasets library ({error}); save it again") from None
    if isinstance(dataset, DatasetDict):
        if "train" not in dataset and len(dataset) > 1:
            raise ValueError(f"{folder}: has the splits {', '.join(dataset)}; name the folder of one of them")
        dataset = dataset["train"] if "train" in dataset else next(iter(dataset.values()))
    for batch in dataset.with_format("arrow").iter(batch_size=_BATCH):
        yield from batch.to_pylist()
