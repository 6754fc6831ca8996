"""From `DataSettings` to rows: the training rows and the evaluation splits."""

import re
from collections.abc import Mapping

from r1reward.data.images import BadImages, ImageLimits
from r1reward.data.marks import shown_as_text
from r1reward.data.mixed import join, source_settings
from r1reward.data.records import folder_of, rows_files
from r1reward.data.rows import PREFERENCE, Row, to_training_row
from r1reward.data.split import Splits, at_most, split
from r1reward.data.templates import apply_templates, check_templates
from r1reward.data.used import check_used
from r1reward.settings import DataSettings


def build_splits(settings: DataSettings, templates: Mapping[str, str] | None = None, marks: re.Pattern | None = None) -> Splits:
    """Read or generate all rows; every problem is reported before anything trains.

    Args:
        settings: Where the rows come from.
        templates: By task, the text around the question (`r1reward.data.templates`).
        marks: Control tokens of the model (`r1reward.data.marks.marks_of`), which prompts then show as text.

    Raises:
        ValueError: With file, row, field and remedy.
    """
    templates = templates or {}
    check_templates(templates)
    check_used(settings, "data")
    if settings.reader == "mixed":
        splits = join({name: _read_source(name, source) for name, source in source_settings(settings).items()})
    else:
        splits = _read(settings)
    tasks = {row.task for rows in (splits.train, *splits.evaluation.values()) for row in rows}
    if templates and not tasks & templates.keys():
        raise ValueError(f"template has no effect on rows of the tasks {', '.join(sorted(tasks))}; set template=none")
    named = {"train": splits.train, **splits.evaluation}
    named = {split: apply_templates(rows, templates) for split, rows in named.items()}
    if marks is not None:
        named = {split: shown_as_text(rows, marks) for split, rows in named.items()}
    return Splits(named.pop("train"), named)


def _read_source(name: str, settings: DataSettings) -> Splits:
    try:
        return _read(settings)
    except ValueError as error:
        raise ValueError(f"data.sources.{name}: {error}") from None


def _read(settings: DataSettings) -> Splits:
    if settings.reader == "shapes":
        return _shapes(settings)
    if settings.path is None:
        raise ValueError("data.path is not set: give the jsonl file, for example data.path=preferences.jsonl")
    if settings.held_out_fraction and settings.num_eval < 1:
        raise ValueError(
            f"data.num_eval must be at least 1 row, got {settings.num_eval}; data.held_out_fraction=0 holds nothing out"
        )
    limits = bad_images(settings).limits
    if settings.reader == "vlm_r1_jsonl":
        from r1reward.data.vlm_r1_jsonl import read as read_tasks

        rows = read_tasks(
            settings.path, settings.task, settings.image_root, settings.limit, limits=limits, num_frames=settings.num_frames,
            box_space=settings.box_space,
        )  # fmt: skip
    else:
        from r1reward.data.r1_reward_jsonl import read as read_preferences

        rows = read_preferences(settings.path, settings.image_root, settings.limit, limits=limits)
    root = folder_of(rows_files(settings.path)[0]) if settings.image_root is None else settings.image_root
    train, held_out = split(rows, settings.held_out_fraction, settings.seed, root)
    return Splits(train, {"held_out": at_most(held_out, settings.num_eval)} if held_out else {})


def bad_images(settings: DataSettings) -> BadImages:
    """What happens to images that turn bad during the run, and the limits that hold for all of its images.

    Raises:
        ValueError: For numbers that make no sense.
    """
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    return BadImages(settings.on_bad_image, settings.max_bad_images, limits)


def _shapes(settings: DataSettings) -> Splits:
    from r1reward.data.shapes.visual_tasks import TASKS, world_row

    if not settings.tasks or not set(settings.tasks) <= set(TASKS):
        raise ValueError(f"data.tasks={settings.tasks}: give tasks of the shapes world, of {', '.join(TASKS)}")
    if PREFERENCE not in settings.tasks and settings.prompt != DataSettings.prompt:
        raise ValueError(f"data.prompt={settings.prompt} has no effect without preference among data.tasks")
    if not settings.levels or not set(settings.levels) <= {1, 2, 3}:
        raise ValueError(f"data.levels={settings.levels}: give levels of the shapes world, of 1, 2 and 3")
    sizes = {"train": settings.num_train, "held_out": settings.num_eval, "out_of_distribution": settings.num_eval}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"data: the split {name} needs at least 1 row, got {size}")
    rows = {
        split: [
            world_row(settings.seed, split, index, settings.tasks, settings.prompt, tuple(settings.levels))
            for index in range(size)
        ]
        for split, size in sizes.items()
    }
    return Splits(rows.pop("train"), rows)


def training_dataset(rows: list[Row]):
    """The rows as a `datasets.Dataset` with the columns of `to_training_row`."""
    from datasets import Dataset

    return Dataset.from_list([to_training_row(row) for row in rows])
