"""Where the rows of a file, folder or hub id lie, and each of them as a dictionary: the ground under every reader.

    .jsonl                one JSON object per line; empty lines are skipped
    .json                 a list of objects
    either with .gz       the same, compressed
    .parquet              also in several shards
    a folder              as `save_to_disk` of the library datasets leaves it, or one that holds one of the above
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

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".jsonl", ".json", ".parquet", ".gz")
# In a folder, the first of these that finds files counts: training rows before others, tables before texts.
_PATTERNS = (
    "**/train*.parquet",
    "**/*.parquet",
    "train*.json*",
    "*.jsonl*",
    "*.json",
    "*.json.gz",
    "*/train*.json*",
    "*/*.jsonl*",
)
_HUB_KINDS = ("*.parquet", "*.json", "*.jsonl", "*.gz", "*.jpg", "*.jpeg", "*.png", "*.webp")
_SHARD = re.compile(r"-\d+-of-\d+")
_BATCH = 64  # rows of a table in memory at a time: with images inside, some 10 MB


class Problem(Exception):
    """One thing wrong with one field of one row, with its remedy."""

    def __init__(self, field: str, text: str):
        super().__init__(f"field {field}: {text}")


def shown(value: object, most: int = 100) -> str:
    """A value of a file in an error message: its `repr`, cut."""
    try:
        text = repr(value)
    except RecursionError:
        text = "a deeply nested value"
    return text if len(text) <= most else f"{text[:most]}..."


def rows_files(path: str | Path) -> list[Path]:
    """The files that hold the rows of a path, in order; a folder of the library datasets counts as one file.

    Raises:
        ValueError: There are none, or it is not clear which.
    """
    found = Path(path)
    if found.is_file():
        return [found]
    if not found.exists():
        if not HUB_ID.fullmatch(str(path)) or found.suffix in SUFFIXES or found.parent.is_dir():
            raise ValueError(f"{path}: there is no such file; give the path of a file of rows, such as rows.jsonl")
        try:
            found = from_hub(str(path))
        except (OSError, ValueError) as error:  # not found, not reachable, not in the cache, not a legal id
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{path}: there is no such file here, and the hub: {reason}; give the path of a file") from None
    if _is_dataset(found):
        return [found]
    for pattern in _PATTERNS:
        files = visible(found, pattern)
        if len({_SHARD.sub("", file.name) for file in files}) > 1:
            names = ", ".join(str(file.relative_to(found)) for file in files[:5])
            raise ValueError(
                f"{path}: a folder with several files of rows ({names}{' ...' * (len(files) > 5)}); name one of them"
            )
        if files:
            return files
    raise ValueError(
        f"{path}: a folder that holds no rows, neither as {', '.join(SUFFIXES)} nor as `save_to_disk` of the library datasets "
        "leaves them; name the file with the rows"
    )


def folder_of(file: Path) -> Path:
    """The folder that image paths in a file of `rows_files` start from."""
    return file if file.is_dir() else file.parent


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder by a pattern, sorted; not those in hidden folders, which hold a downloader's own records."""
    files = (file for file in sorted(folder.glob(pattern)) if file.is_file())
    return [file for file in files if not re.search(r"(^|/)\.", str(file.relative_to(folder)))]


def from_hub(id: str) -> Path:
    """The folder of a data set of the hub, downloaded or from the cache."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(id, repo_type="dataset", allow_patterns=list(_HUB_KINDS)))


def records_of(file: Path, strict: bool = True) -> Iterator[tuple[int, dict | Problem]]:
    """Each row of one of `rows_files` with its number: its fields, or what is wrong with it.

    Args:
        file: The file, or the folder of the library datasets.
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
        raise ValueError(f"{file}: no file of rows but {found}")
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
        raise Problem(shown(twice).strip("'"), "stands twice in one object, and which one counts is unclear; keep one")
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
            items = _items(content, decoder) if begins_as_list else None
            if items is not None:
                yield from items
                return
            _refuse_one_object(file, content)
        with open_file(file, "rb") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, _line(line, decoder)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}: cannot be unpacked ({error}); fetch the file anew") from None


def _line(content: bytes, decoder: json.JSONDecoder) -> object:
    try:
        return decoder.decode(content.decode("utf-8-sig"))
    except Problem as problem:
        return problem
    except UnicodeDecodeError as error:
        return Problem("(whole row)", f"not UTF-8 ({error}); save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return Problem("(whole row)", f"not JSON ({error}); write one JSON object per line")


def _items(content: bytes, decoder: json.JSONDecoder) -> list[tuple[int, object]] | None:
    """The items of a JSON list, each decoded by itself, so that what is wrong is said of its row; None if it is no list."""
    items: list[tuple[int, object]] = []
    try:
        text = content.decode("utf-8-sig")
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
                return None
            place = _SPACE.match(text, place + (separator == ",")).end()
    except (ValueError, RecursionError, IndexError):
        return None
    return items if not text[place + 1 :].strip() else None


def _refuse_one_object(file: Path, content: bytes):
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
        raise ValueError(f"{file}: one JSON object with the keys {shown(sorted(value))}, not rows; {remedy}")


def _parquet(file: Path) -> Iterator[dict]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        for batch in ParquetFile(file).iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise ValueError(f"{file}: no sound parquet file ({error}); fetch the file anew") from None


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _dataset(folder: Path) -> Iterator[dict]:
    """The rows of a folder that `save_to_disk` wrote; images stay encoded. Of several splits, `train`."""
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except Exception as error:  # the library lets through whatever pyarrow and JSON raise
        raise ValueError(f"{folder}: no sound folder of the library datasets ({error}); save it anew") from None
    if isinstance(dataset, DatasetDict):
        if "train" not in dataset and len(dataset) > 1:
            raise ValueError(f"{folder}: has the splits {', '.join(dataset)}; name the folder of one of them")
        dataset = dataset["train"] if "train" in dataset else next(iter(dataset.values()))
    for batch in dataset.with_format("arrow").iter(batch_size=_BATCH):
        yield from batch.to_pylist()
