"""The frame of every reader: records to rows, and one error that lists what is wrong with a file."""

import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from r1reward.data.images import DEFAULT_LIMITS, SHOWN, ImageLimits, image_problems
from r1reward.data.records import Problem, folder_of, records_of, rows_files, shown
from r1reward.data.rows import ImageSource, Row

# Where rows in circulation keep their images: a path, a list of paths, or the encoded image itself.
IMAGE_KEYS = (
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls", "img", "imgs",
    "img_path", "picture", "pictures", "photo",
)  # fmt: skip
COMMON = (*IMAGE_KEYS, "id", "category", "level")
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

    Ids come out unique: the second row of the same id gets "#2".

    Args:
        path: Of the rows.
        parse: Makes a row of an object, its number (from 1) and the folder that image paths start from; raises `Problem`.
        known: The keys that `parse` reads, beside the `COMMON` ones; others are listed in one warning.
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
    ids: set[str] = set()
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
        unread.update(str(key) for key, value in record.items() if key not in (*known, *COMMON) and value is not None)
        row = replace(row, id=_unique(row.id, ids))
        ids.add(row.id)
        rows.append(row)
        places.append((number, line, root))
    if not rows and not problems:
        raise ValueError(f"{path}: the file holds no rows; write one JSON object per line")
    for position, reason in image_problems(rows, check_images, limits).items():
        number, line, root = places[position]
        remedy = f"give a readable image, or set image_root (now {root}) to the folder that image paths start from"
        problems.append((number, line, f"field image: {reason}; {remedy}"))
    if problems:
        problems.sort()
        listed = [f"{files[number].name}, row {line}, {text}" for number, line, text in problems[:SHOWN]]
        rest = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        noun = "row has a problem" if len(problems) == 1 else "rows have problems"
        raise ValueError("\n  ".join([f"{path}: {len(problems)} {noun}:", *listed, *rest]))
    if unread:
        keys = ", ".join(f"{shown(key)} ({count} rows)" for key, count in unread.most_common(SHOWN))
        rest = f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
        logger.warning("%s: keys that are not read: %s%s; images are read from %s", path, keys, rest, ", ".join(IMAGE_KEYS))
    return rows


def checked_text(text: object, field: str, may_be_empty: bool = True) -> str:
    """The value of a field that must be a text which tokenizers take. What a model's own tokenizer reads as a control token is
    seen to where the model is known (`r1reward.data.marks`).

    Raises:
        Problem: It is none.
    """
    if not isinstance(text, str):
        raise Problem(field, f"must be a text, got {shown(text)}; write it as a string")
    if not may_be_empty and not text.strip():
        raise Problem(field, f"must be a text, got {shown(text)}; write one that is not empty")
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
            raise Problem(field, f"must be a text or a whole number, got {shown(value)}; write it so, or leave it out")
    if level is not None and (type(level) is not int or not 0 <= level <= LARGEST_LEVEL):
        raise Problem("level", f"must be a whole number of at least 0, got {shown(level)}; write it so, or leave it out")
    return {
        "id": str(line) if id is None else checked_text(str(id), "id", may_be_empty=False),
        "category": "" if category is None else checked_text(str(category), "category"),
        "level": level or 0,
    }


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    return candidate


def image_field(data: dict) -> tuple[str, list | None]:
    """(The key under which a row has its images, what stands there as a list); None where it has none of `IMAGE_KEYS`.

    Raises:
        Problem: Two keys name different images.
    """
    given = {key: data[key] if isinstance(data[key], list) else [data[key]] for key in IMAGE_KEYS if data.get(key) is not None}
    filled = {key: names for key, names in given.items() if names} or given
    if not filled:
        return IMAGE_KEYS[0], None
    (key, names), *others = filled.items()
    for other, other_names in others:
        if other_names != names:
            raise Problem(other, f"given as well as {key}, and they differ; keep one of them")
    return key, names


def image_sources(names: list, root: Path, field: str = "image") -> tuple[ImageSource, ...]:
    """The images that a row names: paths, relative ones from the root, or structs {bytes, path} with the encoded image."""
    return tuple(_image_source(name, root, field) for name in names)


def _image_source(name: object, root: Path, field: str) -> ImageSource:
    if isinstance(name, dict) and "bytes" in name:
        if isinstance(name["bytes"], bytes) and name["bytes"]:
            return ImageSource(data=name["bytes"])
        name = name.get("path")
    if not isinstance(name, str) or not name:
        raise Problem(field, f"must be a path or a list of paths, got {shown(name)}; write the path of the image file")
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
        raise Problem(field, f"an address, {shown(name)}; download the image and write the path of its file")
    try:
        parts = [len(os.fsencode(part)) for part in name.split("/")]
    except UnicodeEncodeError:
        parts = []
    path = os.path.abspath(os.path.join(root, name))
    if "\0" in name or not parts or max(parts) > _MAX_NAME or len(path) > _MAX_PATH:
        raise Problem(field, f"no file can have the name {shown(name)}; write the path of the image file")
    if os.path.commonpath([root, path]) != str(root):
        remedy = "set data.image_root (for benchmarks: benchmark.image_root) to a folder that holds all images"
        raise Problem(field, f"{shown(name)} lies outside of {root}; {remedy}")
    return path
