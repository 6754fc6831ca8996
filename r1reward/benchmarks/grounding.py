"""Referring expressions: how often the box that a model writes is the right one, and how far it is off.

The value of a row is the IoU of the predicted box and the true one in pixels of the original image, between 0 and 1. A text
from which no box can be read has 0; it stays in every mean and is counted by its fault.

Readings, by the names that `summarise` takes:

                    strict                    last_box                           first_box
    from            ours, `boxes.read_box`    VLM-R1, src/eval/test_rec_r1.py    VLM-R1, src/eval/test_rec_baseline.py
    the box         the one answer block,     the last four integers in          the first four numbers in brackets anywhere
                    at the end of the text    brackets between the first { and   in the text, negative ones and decimals too:
                                              the last } of the first answer     for models that do not write blocks
    hit             IoU >= 0.5                IoU > 0.5                          IoU > 0.5
    overlap         exact                     none where it is 1 pixel or less wide or high
    "nothing        None or []                cannot be said
    fits"

The two last ones give the published numbers of VLM-R1 (which are of 2,000 rows drawn by `random.shuffle` after
`random.seed(42)`, with at most 256 new tokens). Where the published script would divide by zero, the IoU is 0.

Rows whose image holds no such object (solution None) are counted apart: they have no IoU.

Intervals are 95 %, from resampled images, since the expressions of one image are right or wrong together.
"""

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.benchmarks.significance import RESAMPLES, SEED, group_sums, percentile_interval, resampled_ratios
from r1reward.data.records import raise_problems
from r1reward.data.rows import TaskRow
from r1reward.rewards import blocks, boxes
from r1reward.rewards.boxes import Box, Detection, Reading
from r1reward.rewards.grounding import ToPixels, overlap, placed

READINGS = ("strict", "last_box", "first_box")
HIT = 0.5  # IoU
REJECTIONS = blocks.REJECTIONS + boxes.REJECTIONS + ("no_box",)  # no_box: of the readings after VLM-R1

_INTEGERS = re.compile(r"\[(\d++),\s*+(\d++),\s*+(\d++),\s*+(\d++)]")
_NUMBER = r"\s*+(-?(?:\d++(?:\.\d++)?|\.\d++))\s*+"
_NUMBERS = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}]")


@dataclass(frozen=True)
class Located:
    """What a text says about one row.

    Attributes:
        has_object: Whether the image holds the object.
        says_nothing: Whether the text was read, and says that nothing in the image fits.
        iou: Of the predicted and the true box, 0 to 1; 0 where one of them is lacking.
        hit: Whether the IoU reaches `HIT`, by the rule of the reading.
        rejection: Why the text was not read, one of `REJECTIONS`; None if it was.
    """

    has_object: bool
    says_nothing: bool
    iou: float
    hit: bool
    rejection: str | None = None


def score(
    rows: Sequence[TaskRow],
    texts: Sequence[str],
    to_pixels: Sequence[ToPixels | None] | None = None,
    reading: str = "strict",
) -> list[Located]:
    """One result per row.

    Args:
        rows: The rows, solutions `[x1, y1, x2, y2]` or `None` where the image holds no such object.
        texts: What the model wrote, one text per row.
        to_pixels: Per row, from the space in which the model writes boxes to pixels (`Coordinates.to_pixels` of the image's
            size); None: it writes pixels.
        reading: One of `READINGS`.

    Raises:
        ValueError: Unknown reading, lists of different lengths, or solutions that cannot be read, with their rows. No text
            raises.
    """
    if reading not in READINGS:
        raise ValueError(f"unknown reading {reading!r}; choose one of {READINGS}")
    truths = ground_truths(rows, boxes.true_box)
    columns = zip(texts, truths, to_pixels or [None] * len(truths), strict=True)
    return [_locate(text, truth, transform, reading) for text, truth, transform in columns]


def summarise(
    rows: Sequence[TaskRow],
    texts: Sequence[str],
    to_pixels: Sequence[ToPixels | None] | None = None,
    reading: str = "strict",
    resamples: int = RESAMPLES,
) -> dict:
    """All numbers of a set of referring expressions, JSON-able.

    `overall` and each of `by_category` (`TaskRow.category`) hold:

        n                 rows; `rejections` counts the unreadable texts among them by fault
        unreadable_rate   share of them
        with_object       rows that have an object: their number `n`; `accuracy`, the share of hits; `mean_iou`;
                          `says_nothing_rate`, the share said to have none
        without_object    rows that have none: `n`, and `accuracy`, the share said to have none. None for the readings after
                          VLM-R1, which cannot say it.

    Rates and means are {mean, low, high}, or None where there are no such rows.

    Args:
        rows, texts, to_pixels, reading: See `score`.
        resamples: Number of bootstrap resamples.

    Raises:
        ValueError: As `score`, or there are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to summarise")
    located, images = score(rows, texts, to_pixels, reading), image_numbers(rows)
    categories = np.array([row.category for row in rows])

    def block(chosen: np.ndarray) -> dict:
        return _block([located[row] for row in chosen], images[chosen], reading, resamples)

    return {
        "reading": reading,
        "hit": f"IoU {'>=' if reading == 'strict' else '>'} {HIT}",
        "overall": block(np.arange(len(rows))),
        "by_category": {str(name): block(np.flatnonzero(categories == name)) for name in np.unique(categories)},
    }


def ground_truths(rows: Sequence[TaskRow], parse) -> list:
    """The rows' solutions as `parse` reads them.

    Raises:
        ValueError: One for all solutions that cannot be read, with their rows.
    """
    truths, problems = [], []
    for row in rows:
        try:
            truths.append(parse(row.solution))
        except ValueError as error:
            problems.append(f"row {row.id!r}: {error}")
    raise_problems("solutions", problems)
    return truths


def image_numbers(rows: Sequence[TaskRow]) -> np.ndarray:
    """(N,) the same number for rows of the same first image; a row without images stands alone."""
    numbers: dict = {}
    return np.array([numbers.setdefault(row.images[:1] or position, len(numbers)) for position, row in enumerate(rows)])


def ratios(
    numbers: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    images: np.ndarray,
    resamples: int = RESAMPLES,
    no_shares: Sequence[str] = (),
) -> dict[str, dict | None]:
    """Sums over rows divided by sums over rows, each with its interval from resampled images.

    Args:
        numbers: By name, (N,) numerators and (N,) denominators.
        images: (N,) the image of each row (`image_numbers`).
        resamples: Number of bootstrap resamples.
        no_shares: Names of those that are not between 0 and 1.

    Returns:
        {mean, low, high} by name; None where the denominators sum to 0.
    """
    above, below = (
        group_sums(np.stack([np.asarray(pair[part], dtype=float) for pair in numbers.values()], 1), images) for part in (0, 1)
    )
    draws = resampled_ratios(above, below, np.random.default_rng(SEED), resamples)
    found: dict[str, dict | None] = {}
    for column, name in enumerate(numbers):
        total = below[:, column].sum()
        behind = None if name in no_shares else int((below[:, column] > 0).sum())
        value = float(above[:, column].sum() / total) if total else 0.0
        found[name] = percentile_interval(value, draws[:, column], behind).to_dict() if total else None
    return found


def _block(located: list[Located], images: np.ndarray, reading: str, resamples: int) -> dict:
    present = np.array([one.has_object for one in located])
    nothing = np.array([one.says_nothing for one in located])
    faults = Counter(one.rejection for one in located if one.rejection)
    numbers = {
        "unreadable_rate": ([one.rejection is not None for one in located], np.ones(len(located))),
        "accuracy": ([one.hit for one in located], present),
        "mean_iou": ([one.iou for one in located], present),
        "says_nothing_rate": (nothing & present, present),
        "without_object": (nothing & ~present, ~present),
    }
    found = ratios(numbers, images, resamples)
    absent = found["without_object"] if reading == "strict" else None
    with_object = {name: found[name] for name in ("accuracy", "mean_iou", "says_nothing_rate")}
    return {
        "n": len(located),
        "unreadable_rate": found["unreadable_rate"],
        "rejections": {name: faults[name] for name in REJECTIONS if faults[name]},
        "with_object": {"n": int(present.sum())} | with_object,
        "without_object": {"n": int((~present).sum()), "accuracy": absent},
    }


def _locate(text: str, truth: Box | None, to_pixels: ToPixels | None, reading: str) -> Located:
    said = _read(text, reading)
    nothing = said.rejection is None and not said.boxes
    if truth is None or not said.boxes:
        return Located(truth is not None, nothing, 0.0, False, said.rejection)
    box = placed(said.boxes[0].box, to_pixels)
    if reading == "strict":
        iou = overlap(box, truth)
        return Located(True, False, iou, iou >= HIT)
    # Their code takes edges for pixels, so that an overlap must be wider and higher than one.
    sides = (min(box[2], truth[2]) - max(box[0], truth[0]), min(box[3], truth[3]) - max(box[1], truth[1]))
    iou = overlap(box, truth) if min(sides) > 1 else 0.0
    return Located(True, False, iou, iou > HIT)


def _read(text: str, reading: str) -> Reading:
    if reading == "strict":
        block = blocks.read_answer(text)
        return boxes.read_box(block.answer) if block.rejection is None else Reading((), block.rejection)
    if reading == "first_box":
        found = _NUMBERS.search(text)
    else:
        after_first = (blocks.first_answer(text) or "").partition("{")[2]
        between = after_first.rpartition("}")[0]
        found = next(iter(deque(_INTEGERS.finditer(between), maxlen=1)), None)
    if found is None:
        return Reading((), "no_box")
    return Reading((Detection(tuple(float(number) for number in found.groups())),))
