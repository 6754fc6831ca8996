"""Coordinates of boxes: the space in which a model writes them, and pixels of the original image, in which data states them.

A predicted box and its ground truth are compared in pixels of the original image; a ground truth in a prompt or a training
target is written in the model's space. The spaces, by the names that `model.coordinates` takes:

    pixels             pixels of the original image
    resized_pixels     pixels of the image after the processor resized it: what the model sees
    thousand           thousandths of the image's width and height, 0 to 1000
    thousand_y_first   thousandths as y1, x1, y2, x2 (Gemini)
    unit               fractions of the image's width and height, 0 to 1

Which one a model was trained to write, and the source, is in its family (`r1reward.models.families`). Every space has its
origin at the top left corner of the image, and x2, y2 are its right and bottom edge: the whole image is (0, 0, width, height).
Some documents say 0 to 999 where others by the same authors say 0 to 1000; their conversions use 1000, and so do we (an edge
moves by 0.1 % at most).

Sizes are (width, height) of the image that goes to the processor: decoded and turned upright by its EXIF orientation, as
`r1reward.data.images.open_image` returns it. A prompt with several images has one size per image, and a box belongs to one of
them. Videos are not covered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from r1reward.models.families import Size, family_of, known

Box = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Coordinates:
    """One space of boxes.

    Attributes:
        name: One of `SPACES`.
        extent: From the size of an original image in pixels to the width and height of the whole image in this space.
        decimals: How many decimals the numbers of a written box have; with None they are integers.
        y_first: Whether a box is y1, x1, y2, x2 in this space.
    """

    name: str
    extent: Callable[[Size], tuple[float, float]]
    decimals: int | None = None
    y_first: bool = False

    def to_pixels(self, box: Box, image_size: Size) -> Box:
        """A box as the model wrote it, in pixels of the original image, as x1, y1, x2, y2.

        No four floats raise, and none are mended: edges outside the image, edges in the wrong order, inf and nan stay.

        Raises:
            ValueError: `image_size` is not the size of an image, or the processor refuses such an image (`size_after`).
        """
        return _scale(_order(box, self.y_first), self.extent(image_size), image_size)

    def from_pixels(self, box: Box, image_size: Size) -> Box:
        """A box in pixels of the original image, as this space has it: the inverse of `to_pixels`, without rounding.

        Raises:
            ValueError: As `to_pixels`.
        """
        return _order(_scale(box, image_size, self.extent(image_size)), self.y_first)

    def write(self, box: Box, image_size: Size) -> tuple[float, ...]:
        """A ground truth in pixels of the original image, as the four numbers for a prompt or a training target.

        Edges outside the image move to its border; then each number is rounded, by half a unit at most (0.0005 in `unit`).
        A box narrower than a unit may lose its width.

        Raises:
            ValueError: As `to_pixels`, or a number is nan.
        """
        extent = self.extent(image_size)
        edges = zip(_scale(box, image_size, extent), extent * 2, strict=True)
        return _order(tuple(round(min(max(edge, 0.0), limit), self.decimals) for edge, limit in edges), self.y_first)


def coordinates_of(model_type: str, processor, name: str | None = None, family: str | None = None) -> Coordinates:
    """The coordinates in which a model writes boxes.

    Args:
        model_type: Type of the model, its `config.model_type`.
        processor: The processor that the model is used with; only `resized_pixels` needs it. Its pixel limits and patch
            sizes are read whenever a box is converted, so that limits changed later act too.
        name: One of `SPACES`, to override the family's own, say after a fine-tuning that taught another one.
        family: Dotted path of a family of the user's own (`model.family`).

    Raises:
        ValueError: Unknown name; no name for a model without a known family, or of one without documented coordinates; or
            `resized_pixels` for a family whose processor makes no one resized image.
    """
    if name in _FIXED:
        return _FIXED[name]
    if name not in (None, RESIZED_PIXELS):
        raise ValueError(f"model.coordinates={name} is unknown; choose one of {', '.join(SPACES)}")
    of_model = family_of(model_type, family)
    possible = SPACES if of_model.resize else tuple(_FIXED)
    name = name or of_model.space
    if name is None:
        documented = ", ".join(sorted(key for key, each in known().items() if each.space))
        raise ValueError(
            f"model type {model_type!r} has no documented coordinates ({of_model.source}). Set model.coordinates to what your "
            f"prompts ask for: {', '.join(possible)}. Documented: {documented}."
        )
    if name not in possible:
        tiled = "its processor makes no one resized image (it cuts images into tiles or crops them)"
        raise ValueError(
            f"model type {model_type!r} cannot write {name}: {tiled if name in SPACES else 'there is no such space'}; "
            f"choose one of {', '.join(possible)}"
        )
    return _FIXED.get(name) or Coordinates(name, partial(size_after, of_model.resize, processor.image_processor))


def size_after(resize: Callable[[object, Size], Size], image_processor, image_size: Size) -> Size:
    """Width and height in pixels of an image after the processor's resize.

    Raises:
        ValueError: `image_size` is not the size of an image; or the processor refuses such an image, as those of Qwen and GLM
            do where one side is more than 200 times as long as the other. Such a row cannot be trained on at all, and
            converting its ground truth before training finds it.
    """
    _check(image_size)
    if not image_processor.do_resize:
        return image_size
    try:
        return resize(image_processor, image_size)
    except ValueError as error:
        raise ValueError(f"an image of {image_size[0]} x {image_size[1]} pixels cannot be resized: {error}") from error


def _original(image_size: Size) -> Size:
    _check(image_size)
    return image_size


def _constant(extent: tuple[float, float], image_size: Size) -> tuple[float, float]:
    _check(image_size)
    return extent


def _check(image_size: Size):
    if min(image_size) < 1:
        raise ValueError(f"the size of an image is its width and height in pixels, both at least 1; found {image_size}")


def _scale(box: Box, old: tuple[float, float], new: tuple[float, float]) -> Box:
    """The box x1, y1, x2, y2 of an image that measures `old`, where the image measures `new`."""
    x1, y1, x2, y2 = box
    x, y = new[0] / old[0], new[1] / old[1]
    return x1 * x, y1 * y, x2 * x, y2 * y


def _order(box: tuple, y_first: bool) -> tuple:
    """From x1, y1, x2, y2 to the order of a space, and back."""
    first, second, third, fourth = box
    return (second, first, fourth, third) if y_first else (first, second, third, fourth)


RESIZED_PIXELS = "resized_pixels"
_FIXED = {  # the spaces that need no processor
    coordinates.name: coordinates
    for coordinates in (
        Coordinates("pixels", _original),
        Coordinates("thousand", partial(_constant, (1000, 1000))),
        Coordinates("thousand_y_first", partial(_constant, (1000, 1000)), y_first=True),
        Coordinates("unit", partial(_constant, (1.0, 1.0)), decimals=3),
    )
}
SPACES = (RESIZED_PIXELS, *_FIXED)
