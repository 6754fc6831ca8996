"""The frame of every JSONL reader: lines to rows, and one error that lists what is wrong with a file."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from r1reward.data.images import DEFAULT_LIMITS, SHOWN, ImageLimits, image_problems
from r1reward.data.rows import ImageSource, Row

LARGEST_LEVEL = 2**31 - 1
_MAX_NAME, _MAX_PATH = 255, 4095  # bytes, of the file systems in use
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|data:)")


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


def read_rows(
    path: str | Path,
    parse: Callable[[dict, int, Path], Row],
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[Row]:
    """Read a JSONL file, one object per line; empty lines are skipped.

    Ids come out unique: the second row of the same id gets "#2".

    Args:
        path: The JSONL file.
        parse: Makes a row of an object, its line (from 1) and the folder that image paths start from; raises `Problem`.
        image_root: Folder that relative image paths start from, and that no path may leave; by default the folder of the file.
        limit: Read only this many rows, from the top.
        check_images: Decode every image once (about 10 ms each, in threads); else only see that the files are there.
        limits: Largest images, and their formats.

    Raises:
        ValueError: One error for the whole file that lists the first ten problems, each with its file, row (the line,
            from 1), field and remedy, and counts the rest. A row is listed with the first thing wrong with it.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 row, got {limit}; leave it out to read all rows")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give the path of a JSONL file")
    root = Path(os.path.abspath(path.parent if image_root is None else image_root))
    rows: list[Row] = []
    lines: list[int] = []  # line of each row
    problems: list[tuple[int, str]] = []
    ids: set[str] = set()
    with _open(path) as file:
        for line, content in enumerate(file, start=1):
            if limit is not None and len(lines) + len(problems) >= limit:
                break
            if not content.strip():
                continue
            try:
                row = parse(_object(content), line, root)
            except Problem as problem:
                problems.append((line, str(problem)))
                continue
            row = replace(row, id=_unique(row.id, ids))
            ids.add(row.id)
            rows.append(row)
            lines.append(line)
    if not rows and not problems:
        raise ValueError(f"{path}: the file holds no rows; write one JSON object per line")
    remedy = f"give a readable image, or set image_root (now {root}) to the folder that image paths start from"
    for position, reason in image_problems(rows, check_images, limits).items():
        problems.append((lines[position], f"field image: {reason}; {remedy}"))
    if problems:
        problems.sort()
        listed = [f"{path.name}, row {line}, {text}" for line, text in problems[:SHOWN]]
        rest = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        noun = "row has a problem" if len(problems) == 1 else "rows have problems"
        raise ValueError("\n  ".join([f"{path}: {len(problems)} {noun}:", *listed, *rest]))
    return rows


def _open(path: Path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a file that you may read") from None


def _object(content: bytes) -> dict:
    try:
        data = load_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Problem("(whole row)", f"not UTF-8 ({error}); save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Problem("(whole row)", f"not JSON ({error}); write one JSON object per line") from None
    if not isinstance(data, dict):
        raise Problem("(whole row)", f"a JSON {type(data).__name__}, not an object; write {{...}} with the fields")
    return data


def load_json(text: str) -> object:
    """A JSON text, as the standard has it: without NaN and Infinity, and no key twice in one object.

    Raises:
        ValueError, RecursionError: Not JSON, or nested too deeply.
        Problem: A key that stands twice.
    """
    return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Problem(shown(twice).strip("'"), "stands twice in one object, and which one counts is unclear; keep one")
    return data


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON number")


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


def image_sources(names: list, root: Path) -> tuple[ImageSource, ...]:
    """The images that a row's paths name, relative ones from the root."""
    if not all(isinstance(name, str) and name for name in names):
        raise Problem("image", f"must be a path or a list of paths, got {shown(names)}; write the path of the image file")
    return tuple(ImageSource(path=path_below(root, name, "image")) for name in names)


def path_below(root: Path, name: str, field: str) -> str:
    """The absolute path that a row's `name` stands for, which must lie below the root, an absolute path itself.

    A row may come from anywhere; it must not make a run open, show and log whatever lies on the machine. The names alone are
    looked at: links below the root were put there by the user (the cache of the hub is made of links).

    Raises:
        Problem: It lies elsewhere, or no file can have that name.
    """
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
