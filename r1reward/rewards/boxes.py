"""Boxes as a model writes them: one box for a referring expression, a list of boxes with labels for a detection.

    [x1, y1, x2, y2]                                  the upper left and the lower right corner
    {"bbox_2d": [x1, y1, x2, y2], "label": "cat"}     the same with a label; "bbox" is read as well, other keys are passed over
    None, null or []                                  there is nothing to be found

An answer is JSON of these, in a ```json fence or without one; loose reading also takes the other usual spellings: words around
one answer that do not deny it, several fences or lines of a detection, single quotes, parentheses, other keys (`box`, `name`,
x1 to y2), Qwen2-VL's (x1,y1),(x2,y2), GLM's tokens, and "There are no such objects". The format rewards and ground truths are
read without them. Numbers may be negative and may have decimals; they are not clipped, so that a box that sticks out of the
image loses overlap. Corners are not swapped: a box whose second corner is not below and to the right of its first is
degenerate.

Nothing here raises for an answer, and reading takes time linear in its length.
"""

import json
from dataclasses import dataclass

from r1reward.models.coordinates import Box
from r1reward.rewards.blocks import ANSWER, ANSWER_END
from r1reward.rewards.box_spelling import json_values, says_nothing

REJECTIONS = (
    "not_json",  # neither JSON nor None: cut off, or, unless read loosely, text around it
    "not_a_box",  # JSON, but not of the shapes above
    "several_boxes",  # more than one box where one was asked for
    "bad_coordinates",  # not four numbers, or a number beyond all images
    "degenerate",  # x2 <= x1 or y2 <= y1
)

LARGEST = 1e6  # of a coordinate: no image is so large, and areas stay exact enough to compare
FENCE = "```"
NOTHING = ("none", "null", '"none"')
BOX_KEYS = (
    "bbox_2d",
    "bbox",
    "box",
    "box_2d",
    "bounding_box",
    "boundingBox",
    "bounding box",
    "coordinates",
    "position",
    "xyxy",
)
CORNER_KEYS = ("x1", "y1", "x2", "y2", "xmin", "ymin", "xmax", "ymax", "x_min", "y_min", "x_max", "y_max")
LABEL_KEYS = ("label", "name", "class", "category", "object", "class_name", "type")


@dataclass(frozen=True)
class Detection:
    """A box and what it is said to hold, as written; the label is empty where none was asked for."""

    box: Box
    label: str = ""


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        boxes: The boxes in their order; empty if the answer says that there is nothing, or where there is a rejection.
        rejection: One of `REJECTIONS`, the first fault found; None if there is none.
    """

    boxes: tuple[Detection, ...]
    rejection: str | None = None


class _Fault(Exception):
    """Why an answer is not read; the argument is one of `REJECTIONS`."""


def read_box(answer: str, loose: bool = True) -> Reading:
    """The one box of an answer to a referring expression, or none. A list of one box is one box, of several is rejected:
    otherwise a list of guesses would be paid by one of them. A degenerate box is rejected.

    Args:
        loose: Take all usual spellings, not only JSON (see the module's head); then one box written twice is one, too.
    """
    try:
        value = _value(answer, loose)
        if value == [] or (loose and value == {}):
            return Reading(())
        items = _items(value)
        if loose and [len(item) if isinstance(item, list) else 0 for item in items] == [2, 2]:
            items = [items[0] + items[1]]  # (x1, y1), (x2, y2)
        boxes = [_coordinates(item) if isinstance(item, list) else _box_of(item, loose) for item in items[:1]]
        if loose and len(items) > 1 and all(item == items[0] for item in items):
            items = items[:1]
        if len(items) > 1:
            raise _Fault("several_boxes")
        (box,) = boxes
        if not is_proper(box):
            raise _Fault("degenerate")
        return Reading((Detection(box),))
    except _Fault as fault:
        return Reading((), str(fault))


def read_detections(answer: str, loose: bool = True) -> Reading:
    """The boxes of an answer to a detection, each an object with a label; a single object is a list of one. Degenerate boxes
    are read: they are predictions, which match nothing.

    Args:
        loose: Take all usual spellings, not only JSON (see the module's head).
    """
    try:
        value = _value(answer, loose, is_labelled=True)
        if loose and isinstance(value, dict):
            lists = [
                member for member in value.values() if isinstance(member, list) and all(isinstance(i, dict) for i in member)
            ]
            if len(value) == len(lists) == 1:
                value = lists[0]
            elif value and all(isinstance(box, list) for box in value.values()) and not set(value) & set(BOX_KEYS):
                value = [{"bbox_2d": box, "label": label} for label, boxes in value.items() for box in _items(boxes)]
            else:
                value = value or []
        items = value if isinstance(value, list) else [value]
        return Reading(tuple(Detection(_box_of(item, loose), _label_of(item, loose)) for item in items))
    except _Fault as fault:
        return Reading((), str(fault))


def true_box(solution: str) -> Box | None:
    """The box of a ground truth, None where nothing in the image fits the expression.

    Raises:
        ValueError: It is neither one proper box nor None.
    """
    reading = read_box(_unwrapped(solution), loose=False)
    if reading.rejection:
        raise ValueError(
            f"ground truth {solution[:80]!r} ({reading.rejection}): expected [x1, y1, x2, y2], x1 < x2, y1 < y2, or None "
            "where the image holds no such object"
        )
    return reading.boxes[0].box if reading.boxes else None


def true_detections(solution: str) -> tuple[Detection, ...]:
    """The boxes of a ground truth, none where there is nothing to be found.

    Raises:
        ValueError: It is neither a list of proper boxes with labels nor None.
    """
    reading = read_detections(_unwrapped(solution), loose=False)
    rejection = reading.rejection or ("degenerate" if not all(is_proper(found.box) for found in reading.boxes) else None)
    if rejection:
        raise ValueError(
            f'ground truth {solution[:80]!r} ({rejection}): expected [{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}, ...], '
            "x1 < x2, y1 < y2, or None where there is nothing to be found"
        )
    return reading.boxes


def is_proper(box: Box) -> bool:
    """Whether the box has an inside; False too where a coordinate is NaN."""
    x1, y1, x2, y2 = box
    return x1 < x2 and y1 < y2


def same_label(label: str) -> str:
    """The label as labels are compared: without regard to case and articles, and any white space as good as another."""
    words = label.casefold().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def _unwrapped(solution: str) -> str:
    """The ground truth without the answer tags that VLM-R1 wraps it in."""
    if not isinstance(solution, str):
        raise ValueError(f"ground truth {solution!r}: expected a text, got {type(solution).__name__}")
    return solution.strip().removeprefix(ANSWER).removesuffix(ANSWER_END)


def _value(answer: str, loose: bool, is_labelled: bool = False):
    """The value that the answer writes, its numbers as floats; [] for None, a list of the values where there are several.

    Args:
        is_labelled: Bare boxes take the label that stands before them.
    """
    try:
        return _json(answer)
    except _Fault:
        if not loose:
            raise
    if says_nothing(answer):
        return []
    values = json_values(answer, _DECODER)
    if values is None:
        raise _Fault("not_json")
    if is_labelled:
        values = [
            (label, [{"bbox_2d": box, "label": label} for box in _items(value)] if label and _is_bare(value) else value)
            for label, value in values
        ]
    return values[0][1] if len(values) == 1 else [item for _, value in values for item in _items(value)]


def _is_bare(value) -> bool:
    return isinstance(value, list) and all(isinstance(item, list) for item in _items(value))


def _items(value) -> list:
    """A list's members where it is a list of boxes, and otherwise the value itself, alone."""
    return value if isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value) else [value]


def _json(answer: str):
    """The value that the answer writes, all its numbers as floats; [] for None."""
    answer = answer.strip()
    if len(answer) >= 2 * len(FENCE) and answer.startswith(FENCE) and answer.endswith(FENCE):
        answer = answer[len(FENCE) : -len(FENCE)].removeprefix("json").strip()
    if answer.casefold() in NOTHING:
        return []
    try:
        return _DECODER.decode(answer)
    except (ValueError, RecursionError):
        raise _Fault("not_json") from None


def _no_number(name: str):
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple]) -> dict:
    if len(members := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return members


# parse_int: an int of a million digits would take quadratic time, or raise
_DECODER = json.JSONDecoder(parse_int=float, parse_constant=_no_number, object_pairs_hook=_object)


def _box_of(item, loose: bool) -> Box:
    """The box of an object; several keys must hold the same."""
    if not isinstance(item, dict):
        raise _Fault("not_a_box")
    found = [item[key] for key in (BOX_KEYS if loose else BOX_KEYS[:2]) if key in item]
    if loose and not found:
        corners = [item[key] for key in CORNER_KEYS if key in item]
        lists = [value for value in item.values() if isinstance(value, list)]
        found = [corners] if len(corners) == 4 else lists if len(lists) == 1 and len(lists[0]) == 4 else []
    if not found or (len(found) > 1 and not (loose and all(value == found[0] for value in found))):
        raise _Fault("not_a_box")
    if loose and isinstance(found[0], dict):
        return _box_of(found[0], loose)
    return _coordinates(found[0])


def _label_of(item: dict, loose: bool) -> str:
    labels = [item[key] for key in (LABEL_KEYS if loose else LABEL_KEYS[:1]) if isinstance(item.get(key), str)]
    if not labels and loose and len(item) == 1:  # {"cat": [x1, y1, x2, y2]}
        labels = [key for key in item if key not in BOX_KEYS]
    if not labels or ("label" in item and not isinstance(item["label"], str)):
        raise _Fault("not_a_box")
    return labels[0]


def _coordinates(values) -> Box:
    """The four numbers; no text, no truth value, nothing infinite."""
    if not isinstance(values, list) or len(values) != 4:
        raise _Fault("bad_coordinates")
    if not all(isinstance(value, float) and abs(value) <= LARGEST for value in values):
        raise _Fault("bad_coordinates")
    return tuple(values)
