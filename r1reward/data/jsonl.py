"""The frame of every reader: records to rows, and one error that lists what is wrong with a file."""

import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from r1reward.data.images import DEFAULT_LIMITS, ImageLimits, image_problems
from r1reward.data.records import Problem, folder_of, raise_problems, records_of, rows_files
from r1reward.data.rows import ImageSource, Row
from r1reward.messages import listed, short_repr

# Where rows in circulation keep their images: a path, a list of paths, or the encoded image itself.
IMAGE_KEYS = (
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls", "img", "imgs",
    "img_path", "picture", "pictures", "photo",
)  # fmt: skip
_COMMON = ("id", "category", "level")
LARGEST_LEVEL = 2**31 - 1
_MAX_NAME, _MAX_PATH = 255, 4095  # bytes, of the file systems in use
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|data:)")
_FILE = re.compile(r"file:(?://(?:localhost(?=/))?)?")

logger = logging.getLogger(__name__)


def read_rows(
    path: str | Path,
    parse: Callable[[dict, int, Path], Row],
    known: Collection[str],
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[Row]:
    """Read the rows of a file, a folder or a data set of the hub (`r1reward.data.records`).

    Ids come out unique (`unique_ids`).

    Args:
        path: Of the rows.
        parse: Makes a row of an object, its number (from 1) and the folder that image paths start from; raises `Problem`.
        known: The keys that `parse` reads, beside images, id, category and level; others are listed in one warning.
        image_root: Folder that relative image paths start from, and that no path may leave; by default the folder of the file.
        limit: Read only this many rows, from the top.
        check_images: Decode every image once (about 10 ms each, in threads); else only see that the files are there.
        limits: Largest images, and their formats.

    Raises:
        ValueError: One error for the whole file that lists the first ten problems, each with its file, row (the line,
            from 1), field and remedy, and counts the rest. A row is listed with the first thing wrong with it.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 row, got {limit}; leave it out to read all rows")
    rows: list[Row] = []
    places: list[tuple[int, int, Path]] = []  # number of the file, row in it, image root
    problems: list[tuple[int, int, str]] = []
    unread: Counter[str] = Counter()
    files = rows_files(path)
    records = ((number, file, *record) for number, file in enumerate(files) for record in records_of(file))
    for number, file, line, record in itertools.islice(records, limit):
        root = Path(os.path.abspath(folder_of(file) if image_root is None else image_root))
        try:
            if isinstance(record, Problem):
                raise record
            row = parse(record, line, root)
        except Problem as problem:
            problems.append((number, line, str(problem)))
            continue
        read = (*known, *_COMMON, image_field(record)[0])
        unread.update(str(key) for key, value in record.items() if key not in read and value not in (None, []))
        rows.append(row)
        places.append((number, line, root))
    if not rows and not problems:
        raise ValueError(f"{path}: the file holds no rows; write one JSON object per line")
    for position, reason in image_problems(rows, check_images, limits).items():
        number, line, root = places[position]
        remedy = f"give a readable image, or set image_root (now {root}) to the folder that image paths start from"
        problems.append((number, line, f"field image: {reason}; {remedy}"))
    raise_problems(path, [f"{files[number].name}, row {line}, {text}" for number, line, text in sorted(problems)])
    if unread:
        keys = listed([f"{short_repr(key)} ({count} rows)" for key, count in unread.most_common()], ", ")
        logger.warning("%s: keys that are not read: %s; images are read from one of %s", path, keys, ", ".join(IMAGE_KEYS))
    return [replace(row, id=id) for row, id in zip(rows, unique_ids([row.id for row in rows]), strict=True)]


def see_fields(data: dict, *fields: str):
    """Raise a `Problem` for the first of the fields that the row does not have."""
    for field in fields:
        if field not in data:
            raise Problem(field, f"missing, the row has {short_repr(sorted(data))}; add it")


def checked_text(text: object, field: str, may_be_empty: bool = True) -> str:
    """The value of a field that must be a text which tokenizers take. What a model's own tokenizer reads as a control token is
    handled where the model is known (`r1reward.data.marks`).

    Raises:
        Problem: It is none.
    """
    if not isinstance(text, str):
        raise Problem(field, f"must be a text, got {short_repr(text)}; write it as a string")
    if not may_be_empty and not text.strip():
        raise Problem(field, f"must be a text, got {short_repr(text)}; write one that is not empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise Problem(field, f"holds {half}, half of a surrogate pair and no character; mend or remove it") from None
    return text


def common_fields(data: dict, line: int) -> dict:
    """The optional fields of every format, as arguments of a row: `id` (by default the line), `category`, `level`.

    Raises:
        Problem: One of them is given but cannot be used.
    """
    id, category, level = (data.get(field) for field in ("id", "category", "level"))
    for field, value in (("id", id), ("category", category)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise Problem(field, f"must be a text or a whole number, got {short_repr(value)}; write it so, or leave it out")
    if level is not None and (type(level) is not int or not 0 <= level <= LARGEST_LEVEL):
        raise Problem("level", f"must be a whole number of at least 0, got {short_repr(level)}; write it so, or leave it out")
    return {
        "id": str(line) if id is None else checked_text(str(id), "id", may_be_empty=False),
        "category": "" if category is None else checked_text(str(category), "category"),
        "level": level or 0,
    }


def unique_ids(ids: Sequence[str]) -> list[str]:
    """The ids in order, where the second of the same name is "name#2", or the next number that no other id has."""
    given = set(ids)
    taken: set[str] = set()
    next_number: dict[str, int] = {}
    unique = []
    for name in ids:
        candidate = name
        while candidate in taken or (candidate != name and candidate in given):
            number = next_number.get(name, 2)
            candidate, next_number[name] = f"{name}#{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique


def image_field(data: dict) -> tuple[str, list | None]:
    """(The key under which a row has its images, what stands there as a list); None where it has none of `IMAGE_KEYS`.

    Data sets keep an image and its path or address side by side: of several keys the first counts that holds encoded images,
    else the first with paths, else the first with anything.
    """
    given = {key: data[key] if isinstance(data[key], list) else [data[key]] for key in IMAGE_KEYS if data.get(key) is not None}
    return min(given.items(), key=lambda field: _remoteness(field[1]), default=(IMAGE_KEYS[0], None))


def _remoteness(names: list) -> int:
    """How far the images of a row are: 0 encoded in it, 1 in files, 2 elsewhere, 3 nowhere."""
    return max((_remoteness_of_one(name) for name in names), default=3)


def _remoteness_of_one(name: object) -> int:
    if isinstance(name, dict) and "bytes" in name:
        if _is_encoded(name):
            return 0
        name = name.get("path")
    if not isinstance(name, str) or not name:
        return 2
    return 2 if _ADDRESS.match(name) and not _FILE.match(name) else 1


def _is_encoded(name: dict) -> bool:
    return isinstance(name.get("bytes"), bytes) and bool(name["bytes"])


def image_sources(names: list, root: Path, field: str = "image") -> tuple[ImageSource, ...]:
    """The images that a row names: paths, relative ones from the root, or structs {bytes, path} with the encoded image."""
    return tuple(_image_source(name, root, field) for name in names)


def _image_source(name: object, root: Path, field: str) -> ImageSource:
    if isinstance(name, dict) and "bytes" in name:
        if _is_encoded(name):
            return ImageSource(data=name["bytes"])
        name = name.get("path")
    if not isinstance(name, str) or not name:
        raise Problem(field, f"must be a path or a list of paths, got {short_repr(name)}; write the path of the image file")
    return ImageSource(path=path_below(root, name, field))


def path_below(root: Path, name: str, field: str) -> str:
    """The absolute path that a row's `name` stands for, which must lie below the root, an absolute path itself.

    A row may come from anywhere; it must not make a run open, show and log whatever lies on the machine. The names alone are
    looked at: links below the root were put there by the user (the cache of the hub is made of links).

    Raises:
        Problem: It lies elsewhere, or no file can have that name.
    """
    if name.startswith("file:"):
        name = unquote(name[_FILE.match(name).end() :])
    if _ADDRESS.match(name):
        remedy = "save it as a file" if name.startswith("data:") else "download the image"
        raise Problem(field, f"an address, {short_repr(name)}; {remedy} and write the path of its file")
    try:
        parts = [len(os.fsencode(part)) for part in name.split("/")]
    except UnicodeEncodeError:
        parts = []
    path = os.path.abspath(os.path.join(root, name))
    if "\0" in name or not parts or max(parts) > _MAX_NAME or len(path) > _MAX_PATH:
        raise Problem(field, f"no file can have the name {short_repr(name)}; write the path of the image file")
    if os.path.commonpath([root, path]) != str(root):
        remedy = "set data.image_root (for benchmarks: benchmark.image_root) to a folder that holds all images"
        raise Problem(field, f"{short_repr(name)} lies outside of {root}; {remedy}")
    return path
