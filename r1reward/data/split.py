"""From the rows of one file to training rows and held-out rows, such that no image is in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from os.path import relpath
from pathlib import Path
from typing import TypeVar

from r1reward.data.rows import PreferenceRow, Row

AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Splits:
    """Training rows, and evaluation rows by the name of their split; both may hold preference and task rows."""

    train: list[Row]
    evaluation: dict[str, list[Row]]


def split(
    rows: Sequence[AnyRow], held_out_fraction: float, seed: int, image_root: str | Path
) -> tuple[list[AnyRow], list[AnyRow]]:
    """Split into (train, held_out) so that no image is in both; rows without images are kept together by question.

    A hash of the seed and the image's name decides, so the split depends neither on the order of the rows nor on the
    machine, and a row stays on its side when others come or go (`limit`). The fraction is met on average, not exactly; of
    two images or more, at least one is on either side.

    Args:
        rows: The rows; both parts keep their order.
        held_out_fraction: Expected part of the images that is held out, at least 0 and below 1; 0 holds nothing out.
        seed: Another seed gives another split.
        image_root: Images are named by their path from here.

    Raises:
        ValueError: The fraction is out of range, or all rows hang together by their images.
    """
    if not 0 <= held_out_fraction < 1:
        raise ValueError(f"data.held_out_fraction must be at least 0 and below 1, got {held_out_fraction}")
    if held_out_fraction == 0:
        return list(rows), []
    groups = _groups([_keys(row, image_root) for row in rows])
    draws = {group: int.from_bytes(sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64 for group in groups}
    if len(draws) < 2:
        raise ValueError(
            f"{len(rows)} rows cannot be split into training and held-out rows, as they show the same image or are tied by "
            "rows with several images; data.held_out_fraction=0 trains on all of them, and then nothing is evaluated"
        )
    # A small file may have no draw below the fraction, or none above: its extremes are moved over.
    held = {group for group, draw in draws.items() if draw < held_out_fraction} or {min(draws, key=draws.get)}
    if len(held) == len(draws):
        held.remove(max(draws, key=draws.get))
    train, held_out = [], []
    for row, group in zip(rows, groups, strict=True):
        (held_out if group in held else train).append(row)
    return train, held_out


def at_most(rows: Sequence[AnyRow], count: int) -> list[AnyRow]:
    """So many of the rows, evenly spaced in their order: a file that is sorted by task is represented in all its parts."""
    taken = min(count, len(rows))
    return [rows[index * len(rows) // taken] for index in range(taken)]


def _groups(keys: list[list[str]]) -> list[str]:
    """For each row, the name of the group that its keys tie it to: the least key of the group, whatever the order of rows."""
    leaders = {key: key for found in keys for key in found}

    def leader(key: str) -> str:
        while leaders[key] != key:
            leaders[key] = leaders[leaders[key]]
            key = leaders[key]
        return key

    for found in keys:
        for key in found[1:]:
            first, second = sorted((leader(found[0]), leader(key)))
            leaders[second] = first
    return [leader(found[0]) for found in keys]


def _keys(row: Row, image_root: str | Path) -> list[str]:
    """Names that do not depend on the machine: of the row's images, or of its question if it has none."""
    keys = [
        "bytes:" + sha256(image.data).hexdigest()
        if image.path is None
        else "file:" + Path(relpath(image.path, image_root)).as_posix()
        for image in row.images
    ]
    return keys or ["question:" + (row.question if isinstance(row, PreferenceRow) else row.prompt)]
