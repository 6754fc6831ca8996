"""COCO annotation files (instances_*.json and a folder of images) as rows: detection, or the one object of its category.

    ovd    one row per image: the prompt lists the categories that the image has and some that it has not, in random order; the
           solution is VLM-R1's fenced JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": "..."}, or None
    rec    one row per category of which the image has exactly one instance, solution [x1, y1, x2, y2]; and one per category
           that is drawn from those that it has not, solution None

Boxes are corners in pixels, to two decimals as in COCO (which states x, y, width, height).

Pairs of an image and a category are left out for these reasons, in this order; the question does not name them, neither as
present nor as absent, and `CocoRows.notes` counts them:

    crowd        the pair has a crowd annotation (iscrowd): nobody counted its members, so no list of boxes would be right.
                 The category's other boxes in that image go with it.
    degenerate   it has a box without width or height
    many_boxes   it has more boxes than `max_boxes_per_category`. With 10 this is COCO_filtered of the VLM-R1 paper (arXiv
                 2504.07615: val2017 without categories of more than 10 boxes), as we understand it: counted over the whole file
                 instead of by image, the rule would leave hardly any category.
    several      rec only: it has more than one box, and "the dog" would be any of them
"""

import json
import math
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1reward.benchmarks.items import MissingFiles
from r1reward.data.box_space import not_pixels
from r1reward.data.images import ImageError, upright_size
from r1reward.data.jsonl import path_below
from r1reward.data.records import Problem, raise_problems
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.rewards.boxes import Box, is_proper, same_label

TASKS = ("ovd", "rec")
PROMPTS = {
    "ovd": (
        "Detect every instance of: {labels}.\n"
        "Think first, between <think> and </think>. Then give all boxes between <answer> and </answer>, as a JSON list such as "
        '[{"bbox_2d": [x1, y1, x2, y2], "label": "..."}], the surest first, or None if the image holds none of these.'
    ),
    "rec": (
        "Locate the {labels} in this image.\n"
        "Think first, between <think> and </think>. Then give its box between <answer> and </answer>, as JSON: "
        "[x1, y1, x2, y2], or None if the image holds no such object."
    ),
}
FETCH = (
    "COCO 2017 is at https://cocodataset.org: for its validation split\n"
    "  curl -LO http://images.cocodataset.org/annotations/annotations_trainval2017.zip && unzip annotations_trainval2017.zip\n"
    "  curl -LO http://images.cocodataset.org/zips/val2017.zip && unzip val2017.zip\n"
    "then path=annotations/instances_val2017.json and image_root=val2017; train2017 likewise."
)

_LEFT_OUT = ("crowd", "degenerate", "many_boxes", "several")


@dataclass(frozen=True)
class CocoRows:
    """The rows of an annotation file, images in the order of the file.

    Attributes:
        rows: What is to be answered. The category of a rec row is the label that it asks for.
        asked: Per row, the labels that its question names, for `detection.summarise`.
        notes: Counts: `images` read; `images_without_question`, which have no row; pairs of an image and a category left out
            by reason, and the `boxes_left_out` with them.
    """

    rows: list[TaskRow]
    asked: list[tuple[str, ...]]
    notes: dict[str, int]


def read(
    path: str | Path,
    image_root: str | Path,
    task: str = "ovd",
    num_absent: int | None = 3,
    seed: int = 0,
    max_boxes_per_category: int | None = None,
    prompt: str | None = None,
    limit: int | None = None,
    check_images: bool = True,
) -> CocoRows:
    """Read an annotation file.

    Args:
        path: The annotation file.
        image_root: Folder of its images, which no file_name may leave.
        task: One of `TASKS`.
        num_absent: How many absent categories each image is asked for; None: all (the paper of VLM-R1 lists all 80).
        seed: Of drawing and ordering categories, for each image apart: what it is asked does not depend on other images.
        max_boxes_per_category: See the module's head.
        prompt: The whole text of the user turn, with {labels} in the place of the labels; None: that of `PROMPTS`.
        limit: Read only this many images, from the top.
        check_images: See in every image's header that it has the size that its annotations are for; else only look whether
            the files are there.

    Raises:
        MissingFiles: The annotation file or images are not there: which ones, and how to fetch them.
        ValueError: Annotations or images that do not fit: the first ten problems, and how many more there are.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {TASKS}")
    prompt = PROMPTS[task] if prompt is None else prompt
    if "{labels}" not in prompt:
        raise ValueError(f"the prompt does not say where the labels go; write {{labels}} there: {prompt!r:.80}")
    for name, value, least in (
        ("num_absent", num_absent, 0),
        ("max_boxes_per_category", max_boxes_per_category, 1),
        ("limit", limit, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    path, root = Path(path), Path(os.path.abspath(image_root))
    names, images, annotations = _index(path, root, _load(path))
    rows, asked, used = [], [], []
    notes = Counter({name: 0 for name in ("images", "images_without_question", *_LEFT_OUT, "boxes_left_out")})
    for image in images[:limit]:
        boxes, unasked = _present(annotations.get(image["id"], {}), task, max_boxes_per_category, notes)
        rng = random.Random(f"{seed} {image['id']}")
        absent = [category for category in names if category not in boxes and category not in unasked]
        drawn = absent if num_absent is None else rng.sample(absent, min(num_absent, len(absent)))
        by_label = {names[category]: boxes.get(category, []) for category in [*boxes, *drawn]}
        labels = rng.sample(list(by_label), len(by_label))
        questions = [(label,) for label in labels] if task == "rec" else [tuple(labels)] if labels else []
        for question in questions:
            rows.append(_row(image, root, task, question, by_label, prompt))
        asked += questions
        used += [image] if questions else []
        notes.update(images=1, images_without_question=not questions)
    _look_at_images(path, root, used, annotations, check_images)
    return CocoRows(rows, asked, dict(notes))


def _row(image: dict, root: Path, task: str, labels: tuple[str, ...], by_label: dict[str, list[Box]], prompt: str) -> TaskRow:
    listed = [{"bbox_2d": box, "label": label} for label, boxes in by_label.items() if label in labels for box in boxes]
    if not listed:
        solution = "None"
    elif task == "rec":
        solution = json.dumps(listed[0]["bbox_2d"])
    else:
        solution = f"```json\n{json.dumps(listed)}\n```"
    return TaskRow(
        id=f"{image['id']}-{labels[0]}" if task == "rec" else str(image["id"]),
        images=(ImageSource(path=str(root / image["file_name"])),),
        prompt=prompt.replace("{labels}", ", ".join(labels)),
        solution=solution,
        task=task,
        category=labels[0] if task == "rec" else "",
    )


def _present(
    annotations: dict[int, list[dict]], task: str, most: int | None, notes: Counter
) -> tuple[dict[int, list[Box]], set[int]]:
    """The boxes of one image by category, and the categories that are left out; the latter are counted."""
    boxes, unasked = {}, set()
    for category, of_category in annotations.items():
        reason = _reason(of_category, task, most)
        if reason:
            unasked.add(category)
            notes.update({reason: 1, "boxes_left_out": len(of_category)})
        else:
            boxes[category] = [_corners(one) for one in of_category]
    return boxes, unasked


def _reason(annotations: Sequence[dict], task: str, most: int | None) -> str | None:
    """Why a category is left out in an image, by its annotations there; None if it is not."""
    if any(one.get("iscrowd") for one in annotations):
        return "crowd"
    if not all(is_proper(_corners(one)) for one in annotations):
        return "degenerate"
    if most is not None and len(annotations) > most:
        return "many_boxes"
    return "several" if task == "rec" and len(annotations) > 1 else None


def _corners(annotation: dict) -> Box:
    x, y, width, height = annotation["bbox"]
    return tuple(round(value, 2) for value in (x, y, x + width, y + height))


def is_coco(path: str | Path) -> bool:
    """Whether a path names COCO annotations, an object with lists, and not rows; a missing .json counts as one."""
    path = Path(path)
    if path.suffix != ".json" or not path.is_file():
        return path.suffix == ".json"
    with open(path, "rb") as file:
        first = file.readline(1_000_000).strip(b"\xef\xbb\xbf \t\r\n")
    if first.startswith((b"[", b"\x1f\x8b", b"PAR1")):
        return False
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(row, dict) and {"conversations", "problem"} & row.keys())


def _load(path: Path) -> dict:
    if not path.is_file():
        raise MissingFiles(path.name, [str(path)], FETCH)
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); download the file again\n{FETCH}") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), list) and data[name] for name in lists):
        raise ValueError(f"{path}: no COCO annotations; it must be an object with the lists {', '.join(lists)}\n{FETCH}")
    return data


def _index(path: Path, root: Path, data: dict) -> tuple[dict[int, str], list[dict], dict[int, dict[int, list[dict]]]]:
    """Category names by id, images, and annotations by image id and category id.

    Raises:
        ValueError: Entries that cannot be understood.
    """
    problems = []
    names: dict[int, str] = {}
    for place, category in enumerate(data["categories"], start=1):
        name = category.get("name") if isinstance(category, dict) else None
        if not isinstance(name, str) or not name.strip() or not _is_new(category.get("id"), names):
            problems.append(f"categories, entry {place}: needs an id of its own and a name, got {category!r:.80}")
        elif same_label(name) in map(same_label, names.values()):
            problems.append(f"categories, entry {place}: the name {name!r} occurs twice")
        else:
            names[category["id"]] = name.strip()
    images: dict[int, dict] = {}
    for place, image in enumerate(data["images"], start=1):
        file = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(file, str) or not file or not _is_new(image.get("id"), images):
            problems.append(f"images, entry {place}: needs an id of its own and a file_name, got {image!r:.80}")
            continue
        try:
            path_below(root, file, "file_name")
        except Problem as problem:
            problems.append(f"images, entry {place}, {problem}")
        images[image["id"]] = image
    by_image: dict[int, dict[int, list[dict]]] = {}
    for place, one in enumerate(data["annotations"], start=1):
        problem = _problem(one, names, images)
        if problem:
            problems.append(f"annotations, entry {place}: {problem}")
        else:
            by_image.setdefault(one["image_id"], {}).setdefault(one["category_id"], []).append(one)
    raise_problems(path, problems)
    return names, list(images.values()), by_image


def _is_new(number, known: dict) -> bool:
    return isinstance(number, int | str) and number not in known


def _problem(annotation, names: dict[int, str], images: dict[int, dict]) -> str | None:
    if not isinstance(annotation, dict):
        return f"must be an object, got {annotation!r:.80}"
    for field, known in (("image_id", images), ("category_id", names)):
        number = annotation.get(field)
        if not isinstance(number, int | str) or number not in known:
            return f"field {field}: {number!r:.40} is not among the file's"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(x, int | float) and math.isfinite(x) for x in box):
        return f"field bbox: must be x, y, width, height, got {box!r:.80}"
    return None


def _not_pixels(image: dict, annotations: dict[int, dict[int, list[dict]]]) -> str | None:
    """Why the boxes of an image cannot be in its pixels, as far as the file says how large it is."""
    size = (image.get("width"), image.get("height"))
    found = [_corners(one) for of_category in annotations.get(image["id"], {}).values() for one in of_category]
    if not found or not all(isinstance(side, int | float) and side > 0 for side in size):
        return None
    reason = not_pixels(found, size)
    return reason and f"{reason}; COCO has x, y, width and height in pixels"


def _look_at_images(path: Path, root: Path, images: list[dict], by_image: dict[int, dict[int, list[dict]]], sizes: bool):
    """See that the images are there, and have the size that their annotations are for."""
    missing = [str(root / image["file_name"]) for image in images if not (root / image["file_name"]).is_file()]
    if missing:
        raise MissingFiles(path.name, missing, FETCH, f", of {len(images)} images")
    problems = [f"annotations of image {image['id']}: {reason}" for image in images if (reason := _not_pixels(image, by_image))]
    for image in images if sizes else ():
        stated = (image.get("width"), image.get("height"))
        try:
            found = upright_size(ImageSource(path=str(root / image["file_name"])))
        except ImageError as error:
            problems.append(str(error))
            continue
        if None not in stated and found != stated:
            problems.append(f"{root / image['file_name']}: {found} pixels, but annotated at {stated}; boxes would not fit")
    raise_problems(path, problems)
