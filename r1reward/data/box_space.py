"""True boxes in pixels of their image, from whichever space the data has them in (`data.box_space`).

    null               they must be pixels, and look like pixels: else every box of a file in another space has IoU 0 for ever.
                       One warning where all could be thousandths of large photographs as well
    pixels             they are pixels, whatever they look like: edges outside of the image are meant so
    thousand, thousand_y_first, unit    as `r1reward.models.coordinates` defines them; converted to pixels

Rows whose task begins with `rec` or `ovd` have boxes, all in their first image.
"""

import json
import logging
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from r1reward.data.images import ImageError, ImageLimits, upright_size
from r1reward.data.records import Problem
from r1reward.data.rows import TaskRow
from r1reward.models.coordinates import Box, Size, coordinates_of
from r1reward.rewards import boxes

_EXTENT = {"unit": 1.0, "thousand": 1000.0, "thousand_y_first": 1000.0}
# How far an edge may lie outside, as annotators' rounding explains: so many pixels, or that part of the side.
_PIXELS, _PART = 2.0, 0.01
_SETTINGS = "data.box_space, or benchmark.box_space in an evaluation"

logger = logging.getLogger(__name__)


def has_boxes(task: str) -> bool:
    """Whether the answers of a task are boxes, by its name."""
    return task.partition("_")[0] in ("rec", "ovd")


class TrueBoxes:
    """The true boxes of one file.

    Args:
        space: As in the module's head.
        limits: Of images.
    """

    def __init__(self, space: str | None, limits: ImageLimits):
        self.space = space
        self._size_of = cache(partial(upright_size, limits=limits))  # a photograph has many rows, and is read whole
        self._may_be_thousandths: bool | None = None

    def in_pixels(self, row: TaskRow, field: str) -> TaskRow:
        """The row with its true boxes in pixels of its first image. A solution that is none of its task stays as it is, for
        the check of solutions.

        Args:
            row: Of any task.
            field: Where the row has its solution, for the message.

        Raises:
            Problem: The row has boxes and no image, or boxes that are not in the space.
        """
        if not has_boxes(row.task):
            return row
        if not row.images:
            raise Problem("image", f"missing, and the task {row.task} asks for boxes in an image; write its path")
        is_one = row.task.startswith("rec")
        try:
            truth = boxes.true_box(row.solution) if is_one else boxes.true_detections(row.solution)
            size = self._size_of(row.images[0]) if truth else None
        except (ImageError, ValueError):  # each is reported by a check of its own
            return row
        if not truth or self.space == "pixels":
            return row
        found = [truth] if is_one else [one.box for one in truth]
        if self.space is None:
            _look_like_pixels(found, size, field)
            fit = max(map(max, found)) <= 1000 <= min(size) < max(size)
            self._may_be_thousandths = fit and self._may_be_thousandths is not False
            return row
        limit = _EXTENT[self.space]
        if wrong := [box for box in found if not _inside(box, (limit, limit), _PART * limit)]:
            said = f"the box {list(wrong[0])} is not within 0 to {limit:g}, as box_space={self.space} says"
            raise Problem(field, f"{said}; correct one of them")
        space_of = coordinates_of("", None, self.space)
        converted = [[round(edge, 2) for edge in space_of.to_pixels(box, size)] for box in found]
        if is_one:
            return replace(row, solution=json.dumps(converted[0]))
        listed = [{"bbox_2d": box, "label": one.label} for box, one in zip(converted, truth, strict=True)]
        text = json.dumps(listed, ensure_ascii=False)
        return replace(row, solution=f"{boxes.FENCE}json\n{text}\n{boxes.FENCE}" if boxes.FENCE in row.solution else text)

    def warn_of_thousandths(self, path: str | Path) -> None:
        """Say so where all boxes so far would fit as thousandths too, which no single row can tell."""
        if self._may_be_thousandths:
            logger.warning(
                "%s: all images are larger than 1000 pixels, and no box has an edge beyond 1000; if the boxes are thousandths, "
                "set box_space=thousand, else box_space=pixels (%s)",
                path,
                _SETTINGS,
            )


def not_pixels(found: list[Box], size: Size) -> str | None:
    """Why these cannot be boxes in pixels of an image of that size; None where they can."""
    width, height = size
    largest = max(edge for box in found for edge in box)
    if largest <= 1.0 and min(size) > 2:
        return f"the box {list(found[0])} lies within one pixel of the image, as if it were fractions of {width} x {height}"
    tolerance = max(_PIXELS, _PART * max(size))
    wrong = next((box for box in found if not _inside(box, size, tolerance)), None)
    return None if wrong is None else f"the box {list(wrong)} lies outside of the image of {width} x {height} pixels"


def _look_like_pixels(found: list[Box], size: Size, field: str):
    reason = not_pixels(found, size)
    if reason is None:
        return
    largest = max(edge for box in found for edge in box)
    if largest <= 1.0:
        remedy = "set box_space=unit if they are"
    elif largest <= 1000 and min(edge for box in found for edge in box) >= 0:
        remedy = (
            "set box_space=thousand if the file's boxes are thousandths, or scale them if they are of an image of another size"
        )
    else:
        remedy = "scale the boxes if they are of an image of another size"
    raise Problem(field, f"{reason}; {remedy} ({_SETTINGS}; =pixels takes them as they are)")


def _inside(box: Box, size: tuple[float, float], tolerance: float) -> bool:
    x1, y1, x2, y2 = box
    return min(x1, y1) >= -tolerance and x2 <= size[0] + tolerance and y2 <= size[1] + tolerance
