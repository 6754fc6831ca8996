"""From `DataSettings` to rows: the training rows and the evaluation splits."""

from dataclasses import dataclass

from r1reward.data.images import BadImages, ImageLimits
from r1reward.data.rows import PreferenceRow, Row, to_training_row
from r1reward.settings import DataSettings


@dataclass(frozen=True)
class Splits:
    """Training rows, and evaluation rows by the name of their split."""

    train: list[Row]
    evaluation: dict[str, list[PreferenceRow]]


def build_splits(settings: DataSettings) -> Splits:
    """Read or generate all rows; every problem is reported before anything trains.

    Raises:
        ValueError: With file, row, field and remedy.
    """
    if settings.reader == "shapes":
        return _shapes(settings)
    if settings.path is None:
        raise ValueError("data.path is not set: give the jsonl file, for example data.path=preferences.jsonl")
    limits = bad_images(settings).limits
    if settings.reader == "vlm_r1_jsonl":
        from r1reward.data.vlm_r1_jsonl import read

        rows = read(settings.path, settings.task, image_root=settings.image_root, limit=settings.limit, limits=limits)
        return Splits(rows, {})
    from r1reward.data.r1_reward_jsonl import read, split

    rows = read(settings.path, image_root=settings.image_root, limit=settings.limit, limits=limits)
    if settings.num_eval < 1:
        raise ValueError(
            f"data.num_eval must be at least 1 row, got {settings.num_eval}; trainer.evaluate=false skips evaluation"
        )
    train, held_out = split(rows, settings.held_out_fraction, settings.seed, image_root=settings.image_root)
    return Splits(train, {"held_out": held_out[: settings.num_eval]} if held_out else {})


def bad_images(settings: DataSettings) -> BadImages:
    """What happens to images that turn bad during the run, and the limits that hold for all of its images.

    Raises:
        ValueError: For numbers that make no sense.
    """
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    return BadImages(settings.on_bad_image, settings.max_bad_images, limits)


def _shapes(settings: DataSettings) -> Splits:
    from r1reward.data.shapes.rows import preference_row

    if not settings.levels or not set(settings.levels) <= {1, 2, 3}:
        raise ValueError(f"data.levels={settings.levels}: give levels of the shapes world, of 1, 2 and 3")
    sizes = {"train": settings.num_train, "held_out": settings.num_eval, "out_of_distribution": settings.num_eval}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"data: the split {name} needs at least 1 row, got {size}")
    rows = {
        split: [preference_row(settings.seed, split, index, settings.prompt, tuple(settings.levels)) for index in range(size)]
        for split, size in sizes.items()
    }
    return Splits(rows.pop("train"), rows)


def training_dataset(rows: list[Row]):
    """The rows as a `datasets.Dataset` with the columns of `to_training_row`."""
    from datasets import Dataset

    return Dataset.from_list([to_training_row(row) for row in rows])
