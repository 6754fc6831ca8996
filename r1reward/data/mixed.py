"""Several sources in one run: files of either format, each with a task and a folder of images of its own, and generated rows.

VLM-R1's lists `data_file_paths`, `image_folders` and `reward_method` are `path`, `image_root` and `task` of each source here.
"""

import logging
import os
import re
from dataclasses import replace

from r1reward.data.rows import ImageSource, PreferenceRow, Row
from r1reward.data.split import Splits
from r1reward.data.used import IMAGES, check_used
from r1reward.settings import DataSettings

logger = logging.getLogger(__name__)


def source_settings(settings: DataSettings) -> dict[str, DataSettings]:
    """The settings of each source, with what the mix sets for all of them.

    Raises:
        ValueError: There are no sources, or one of them is named or set in a way that cannot work.
    """
    if not settings.sources:
        raise ValueError(
            "data.sources is empty: name what is mixed, for example '+data.sources.rec={reader: vlm_r1_jsonl, path: rec.jsonl, "
            "task: rec}'"
        )
    defaults = DataSettings("mixed")
    shared = {field: getattr(settings, field) for field in IMAGES}
    for name, source in settings.sources.items():
        where = f"data.sources.{name}"
        if not re.fullmatch(r"[\w\-]+", str(name)):
            raise ValueError(f"{where}: a source's name stands before its rows' ids; use letters, digits, _ and -")
        if source.reader == "mixed":
            raise ValueError(f"{where}.reader=mixed: a mix cannot hold another; write that one's sources beside this one's")
        check_used(source, where)
        for field, value in shared.items():
            if getattr(source, field) not in (getattr(defaults, field), value):
                raise ValueError(f"{where}.{field} has no effect: data.{field} holds for the images of all sources")
    return {name: replace(source, **shared) for name, source in settings.sources.items()}


def join(sources: dict[str, Splits]) -> Splits:
    """One run's rows: splits of the same name are joined in the order of the sources, and ids get their source in front.

    A training row that shows what another source holds out is left out with a warning, since each source is split by itself.
    """
    train: list[Row] = []
    evaluation: dict[str, list[Row]] = {}
    shown = {key for splits in sources.values() for rows in splits.evaluation.values() for row in rows for key in _content(row)}
    for name, splits in sources.items():
        kept = [row for row in splits.train if not shown & _content(row)]
        if len(kept) < len(splits.train):
            logger.warning(
                "data.sources.%s: %d of %d training rows show an image or question that another source holds out, and are left "
                "out; large sources with the same held_out_fraction, seed and image_root hold out the same images",
                name, len(splits.train) - len(kept), len(splits.train),
            )  # fmt: skip
        if not kept:
            raise ValueError(f"data.sources.{name}: no training rows are left; hold out less (held_out_fraction)")
        train += _named(name, kept)
        for split, rows in splits.evaluation.items():
            evaluation.setdefault(split, []).extend(_named(name, rows))
    return Splits(train, evaluation)


def _named(source: str, rows: list[Row]) -> list[Row]:
    return [replace(row, id=f"{source}/{row.id}") for row in rows]


def _content(row: Row) -> set[ImageSource | str]:
    """What must not be in training and evaluation: the row's images (copies of a file are others), or its question if it has
    none."""
    images = {image if image.path is None else os.path.realpath(image.path) for image in row.images}
    return images or {row.question if isinstance(row, PreferenceRow) else row.prompt}
