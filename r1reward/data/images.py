"""From an `ImageSource` to an RGB image: one place that decodes, so that training and serving see the same pixels."""

import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from r1reward.data.kinds_of_files import what_it_is
from r1reward.data.png import without_large_texts
from r1reward.data.rows import ImageSource, Row

MAX_ASPECT_RATIO = 200  # of the longer to the shorter side; Qwen's processors (smart_resize) refuse more
STAND_IN_SIZE = 28  # pixels; one visual token of Qwen2.5-VL
_ORIENTATION = 0x0112  # EXIF tag; 5 and above: the image is stored lying on its side

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all; the header is looked at before any memory is taken for pixels.

    Attributes:
        max_pixels: Most pixels of an image. The default takes every photograph of a hand-held camera, and 300 MB decoded.
        max_bytes: Most bytes of an image's file or encoded data.
        formats: Pillow's names of the formats that are read; JPEG includes MPO, several photographs in a file. Others have
            decoders that are rarely tested, or start other programs (EPS).
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 50_000_000
    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

    def __post_init__(self):
        for name in ("max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.max_image_{name.removeprefix('max_')} must be at least 1, got {getattr(self, name)}")


DEFAULT_LIMITS = ImageLimits()


class ImageError(ValueError):
    """An image that is missing, unreadable or beyond the limits; the message names the file, the reason and the remedy."""


class BadImage(ImageError):
    """An image that was readable when the run began and is not any more; ends the run."""


def open_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """Decode an image to RGB, uint8.

    Turned upright by its EXIF orientation, as viewers (and so the people who labelled it) show it. Transparent images
    are laid on white, 16-bit grey is scaled to 8 bits (Pillow alone would clip it to white), and an animation gives its
    first frame.

    Raises:
        ImageError: With the file's name and what is wrong with it.
    """
    with _opened(source, limits) as image:
        if image.format == "TIFF":  # the one format that Pillow's guard looks at once more
            with _guard(limits):
                image.load()
        image.load()
        return _to_rgb(_upright(image))


def upright_size(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height of what `open_image` returns, by the header alone.

    Raises:
        ImageError: As `open_image`, but for damage behind the header.
    """
    with _opened(source, limits) as image:
        # Pillow gives the size of a TIFF as it is after turning.
        lying = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= 5
        return image.size[::-1] if lying else image.size


def image_problems(rows: Sequence[Row], decode: bool = True, limits: ImageLimits = DEFAULT_LIMITS) -> dict[int, str]:
    """What is wrong with the rows' images: position of the row -> reason. Each file is looked at once, in threads.

    Args:
        rows: The rows to check.
        decode: Decode every image, which finds truncated files; else only see that the files are there and not empty.
        limits: What may be decoded.
    """
    sources = list({image: None for row in rows for image in row.images})

    def problem(source: ImageSource) -> str | None:
        if not decode:
            reason = _cannot_exist(source)
            return reason and f"{_name(source)}: {reason}"
        try:
            open_image(source, limits)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        reasons = dict(zip(sources, pool.map(problem, sources), strict=True))
    found = {}
    for position, row in enumerate(rows):
        wrong = [reasons[image] for image in row.images if reasons[image]]
        if wrong:
            found[position] = "; ".join(dict.fromkeys(wrong))
    return found


def _name(source: ImageSource) -> str:
    return source.path if source.path is not None else f"<image of {len(source.data)} bytes>"


def _cannot_exist(source: ImageSource) -> str | None:
    if source.path is None:
        return None if source.data else "the image is empty (0 bytes)"
    if not os.path.isfile(source.path):
        return "is a folder" if os.path.isdir(source.path) else "file is missing"
    return None if os.path.getsize(source.path) else "file is empty (0 bytes)"


@contextmanager
def _opened(source: ImageSource, limits: ImageLimits) -> Iterator[Image.Image]:
    """The image, its header read and within the limits; whatever goes wrong with it comes out as an `ImageError`."""
    name = _name(source)
    try:
        reason = _cannot_exist(source) or _too_many_bytes(source, limits)
        if reason:
            raise ImageError(f"{name}: {reason}")
        data = source.data
        if data is None:
            with open(source.path, "rb") as file:
                data = file.read()
        with _guard(limits):
            image = Image.open(io.BytesIO(without_large_texts(data)), formats=limits.formats)
        with image:
            ratio = max(image.size) / min(image.size)
            if ratio > MAX_ASPECT_RATIO:
                width, height = image.size
                longest = f"one side is {ratio:.0f} times the other, more than {MAX_ASPECT_RATIO}"
                raise ImageError(f"{name}: {width} x {height} pixels, {longest}; crop or pad the image")
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.search(r"\d+", str(error))[0])
        remedy = "scale the image down, or raise data.max_image_pixels"
        raise ImageError(f"{name}: {pixels:,} pixels, more than the limit of {limits.max_pixels:,}; {remedy}") from None
    except UnidentifiedImageError:
        if found := what_it_is(data):
            raise ImageError(f"{name}: not an image but {found}") from None
        reason = f"unreadable: no image of {', '.join(limits.formats)}, or one without pixels, or with a damaged header"
        raise ImageError(f"{name}: {reason}; convert it to PNG or JPEG, or remove the row") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error and more
        reason = f"unreadable ({type(error).__name__}: {error})"
        raise ImageError(f"{name}: {reason}; replace the file or remove the row") from error


def _too_many_bytes(source: ImageSource, limits: ImageLimits) -> str | None:
    size = os.path.getsize(source.path) if source.data is None else len(source.data)
    if size <= limits.max_bytes:
        return None
    return f"{size:,} bytes, more than the limit of {limits.max_bytes:,}; compress the image, or raise data.max_image_bytes"


class _Limit(int):
    """For Pillow, which warns above its limit and refuses what is above 2 * limit: refuse above the limit, never warn."""

    def __rmul__(self, other):
        return int(self)


_LOCK = threading.Lock()


@contextmanager
def _guard(limits: ImageLimits) -> Iterator[None]:
    """Pillow's guard against decompression bombs, at our limit: it acts before a decoder takes memory, but is one number for
    the whole process, which others may rely on."""
    with _LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, _Limit(limits.max_pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block, common in photographs from the web, does not make the pixels unreadable
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def decode_columns(
    rows: list[dict],
    limits: ImageLimits = DEFAULT_LIMITS,
    on_error: Callable[[int, ImageError], Image.Image] | None = None,
) -> list[dict]:
    """Training rows (`to_training_row`) with their `images` decoded; each distinct image is decoded once.

    A rollout batch holds every prompt several times, and readers keep images as paths or encoded bytes until here. TRL's own
    forms are rows too: `images` with decoded pictures, or None, or one in the column `image`, which is then in `images` too.

    Args:
        rows: The rows; those without a column of images stay as they are.
        limits: What may be decoded.
        on_error: Called with the position of a row and what is wrong with one of its images; returns the image to take
            instead. By default the error is raised.
    """
    decoded: dict[tuple, Image.Image | ImageError] = {}

    def image(source: dict | Image.Image, position: int) -> Image.Image:
        if isinstance(source, Image.Image):
            return source
        key = (source["path"], source["bytes"])
        if key not in decoded:
            try:
                decoded[key] = open_image(ImageSource(path=source["path"], data=source["bytes"]), limits)
            except ImageError as error:
                decoded[key] = error
        found = decoded[key]
        if not isinstance(found, ImageError):
            return found
        if on_error is None:
            raise found
        return on_error(position, found)

    def decode(row: dict, position: int) -> dict:
        if "images" not in row and "image" not in row:
            return row
        sources = row["images"] if "images" in row else [row["image"]]
        return row | {"images": [image(source, position) for source in sources or () if source is not None]}

    return [decode(row, position) for position, row in enumerate(rows)]


class BadImages:
    """What happens to images that turn bad while a run goes on: deleted or damaged after they were checked.

    Args:
        policy: `stop` ends the run; `skip` shows a grey image instead, and the row is to take no part in the update.
        most: So many prompts may be skipped in the whole run, each time that they come up; then it ends.
        limits: What may be decoded.

    Attributes:
        skipped: Prompts skipped so far, over all processes.
    """

    def __init__(self, policy: Literal["stop", "skip"] = "stop", most: int = 10, limits: ImageLimits = DEFAULT_LIMITS):
        if most < 0:
            raise ValueError(f"data.max_bad_images must not be negative, got {most}")
        self.policy, self.most, self.limits = policy, most, limits
        self.skipped = 0
        self._warned: dict[str, None] = {}  # as an ordered set

    def decode(self, rows: list[dict]) -> tuple[list[dict], list[bool]]:
        """The rows as `decode_columns` returns them, and which of them hold a stand-in.

        Raises:
            BadImage: If the policy is `stop`.
        """
        bad = [False] * len(rows)

        def stand_in(position: int, error: ImageError) -> Image.Image:
            reason = f"row {rows[position].get('id')!r}: {error}"
            if self.policy == "stop":
                remedy = "Fix the file and resume the run, or set data.on_bad_image=skip (in Python: BadImages('skip'))"
                raise BadImage(f"an image turned bad during training: {reason}. {remedy}") from error
            if str(error) not in self._warned:
                self._warned[str(error)] = None
                logger.warning("skipped, as data.on_bad_image=skip asks: %s", reason)
            bad[position] = True
            return Image.new("RGB", (STAND_IN_SIZE, STAND_IN_SIZE), "grey")

        return decode_columns(rows, self.limits, stand_in), bad

    def count(self, prompts: int) -> None:
        """Count prompts that were skipped on any process; every process calls this with the same number.

        Raises:
            BadImage: If they are too many.
        """
        self.skipped += prompts
        if self.skipped > self.most:
            seen = f"; the last on this process: {list(self._warned)[-1]}" if self._warned else ""
            remedy = "fix the files and resume the run, or raise data.max_bad_images (in Python: BadImages(most=...))"
            raise BadImage(f"{self.skipped} prompts skipped for bad images, more than {self.most}; {remedy}{seen}")

    def state_dict(self) -> dict:
        """What must survive a restart."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""
        self.skipped = state["skipped"]
