"""What the rows of a run are, in few bytes: a digest per row over its content and its images' files.

A run that goes on with other data is another run. Paths play no part: the same images in another folder are the same data.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from hashlib import file_digest, sha256

from r1reward.data.rows import ImageSource, Row
from r1reward.data.split import Splits
from r1reward.messages import listed

SHOWN = 3  # ids listed per kind of change
LENGTH = 16  # hexadecimal digits of a row's digest: 64 bits tell changes apart, they need not withstand an attack

Fingerprint = dict[str, dict[str, str]]


def fingerprint(splits: Splits) -> Fingerprint:
    """Digest by row id, by split ("train" and the names of the evaluation splits), rows in their order; plain JSON values.

    Every image file is read once, in threads. One that cannot be read counts as different from any that can.
    """
    named = {"train": splits.train, **splits.evaluation}
    sources = list({image: None for rows in named.values() for row in rows for image in row.images})
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        files = [source for source in sources if source.path is not None]
        digests = dict(zip(files, pool.map(_file_digest, files), strict=True))
    digests |= {source: sha256(source.data).digest() for source in sources if source.path is None}
    return {split: {row.id: _row_digest(row, digests) for row in rows} for split, rows in named.items()}


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """What differs, one line per split, such as "train: 2 rows changed (a, b), 1 row added (c), order changed"."""
    lines = []
    for split in sorted(old.keys() | new.keys()):
        parts = list(_differences(old.get(split, {}), new.get(split, {})))
        if parts:
            lines.append(f"{split}: {', '.join(parts)}")
    return lines


def _differences(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    both = [row for row in old if row in new]
    for ids, what in (
        ([row for row in both if old[row] != new[row]], "changed"),
        ([row for row in new if row not in old], "added"),
        ([row for row in old if row not in new], "removed"),
    ):
        if ids:
            yield f"{len(ids)} {'row' if len(ids) == 1 else 'rows'} {what} ({listed(ids, ', ', SHOWN)})"
    if both != [row for row in new if row in old]:
        yield "order changed"


def _file_digest(source: ImageSource) -> bytes:
    try:
        with open(source.path, "rb") as file:
            return file_digest(file, "sha256").digest()
    except OSError as error:
        return f"unreadable ({error.errno})".encode()


def _row_digest(row: Row, digests: dict[ImageSource, bytes]) -> str:
    # The representation keeps values apart that a joined text would not, such as None and "None".
    content = sha256(repr([getattr(row, field.name) for field in fields(row) if field.name != "images"]).encode())
    for image in row.images:
        content.update(digests[image])
    return content.hexdigest()[:LENGTH]
