"""100 damaged images, in rows of both formats: each is shown right or reported with file, row and field.

What is right is worked out here from the pixels that were written.
"""

import io
import json
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from r1reward.data import r1_reward_jsonl, vlm_r1_jsonl
from r1reward.data.images import open_image
from r1reward.data.rows import ImageSource
from r1reward.models.tiny import build_processor
from tests.data.test_corruption import preference, survives, task


@pytest.fixture(scope="module")
def processor():
    return build_processor(["Judge.", "[Response 1] A cat.", "[Response 2] A dog.", "Where is the cat?"])


# Images: (file's content, what it must show) of a kind; None: it must be refused.
# What it must show is an array (height, width, 3) of colours, with a tolerance.


def noise(rng, width=40, height=30) -> np.ndarray:
    return np.random.default_rng(rng.randrange(10**6)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blocks(rng, width=48, height=32) -> np.ndarray:
    """Four corners of different colours, in squares that JPEG keeps."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    colours = [(230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 20)]
    rng.shuffle(colours)
    pixels[:16, :16], pixels[:16, -16:], pixels[-16:, :16], pixels[-16:, -16:] = colours
    return pixels


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def i_truncated(rng):
    data = encoded(Image.fromarray(noise(rng, 120, 90)), rng.choice(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"]))
    return data[: int(len(data) * rng.uniform(0.02, 0.9))], None


def i_wrong_magic(rng):
    data = encoded(Image.fromarray(noise(rng)), rng.choice(["PNG", "JPEG", "BMP", "GIF", "TIFF"]))
    return bytes(byte ^ 0x55 for byte in data[:4]) + data[4:], None


def i_no_image(rng):
    texts = [b"<html>not found</html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n",
             b"PK\x03\x04" + bytes(50), b"\n",
             b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", bytes(1000), rng.randbytes(500),
             b"\x89PNG\r\n\x1a\n",
             b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xff\xd8\xff", b"GIF89a",
             b"RIFF\x00\x00\x00\x00WEBP", b"P6 1 1 255 abc"]  # fmt: skip
    return rng.choice(texts), None


def i_zero_bytes(rng):
    return b"", None


def i_one_pixel(rng):
    colour = tuple(rng.choice([0, 80, 255]) for _ in range(3))
    kind = rng.choice(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
    return encoded(Image.new("RGB", (1, 1), colour), kind), (np.full((1, 1, 3), colour), 12)


def i_thin(rng):
    pixels = noise(rng, *rng.choice([(1, 200), (150, 1), (2, 300)]))
    return encoded(Image.fromarray(pixels), "PNG"), (pixels, 0)


def i_too_thin(rng):
    return encoded(Image.fromarray(noise(rng, *rng.choice([(1, 300), (201, 1), (3, 1000)]))), "PNG"), None


def i_400_million_pixels(rng):
    if rng.random() < 0.7:
        return png(20_000, 20_000, 1, 0, bytes(1000)), None  # the header counts; what follows is never looked at
    return encoded(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4"), None


def i_cmyk(rng):
    ink = np.array([[[rng.choice([0, 60, 255]) for _ in range(4)]]], dtype=np.uint8).repeat(16, 0).repeat(24, 1)
    share = ink.astype(float) / 255
    shown = 255 * (1 - share[..., :3]) * (1 - share[..., 3:])
    return encoded(Image.fromarray(ink, "CMYK"), rng.choice(["JPEG", "TIFF"])), (shown, 12)


def i_sixteen_bit_grey(rng):
    grey = np.random.default_rng(rng.randrange(10**6)).integers(0, 65536, (9, 11), dtype=np.uint16)
    shown = (grey / 257)[..., None].repeat(3, 2)
    return encoded(Image.fromarray(grey), rng.choice(["PNG", "TIFF"])), (shown, 1)


def i_sixteen_bit_colour(rng):
    pixels = np.random.default_rng(rng.randrange(10**6)).integers(0, 65536, (7, 5, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(5, 7, 16, 2, rows), (pixels / 257, 1)


def i_animated(rng):
    first = Image.fromarray(blocks(rng))
    others = [Image.new("RGB", first.size, colour) for colour in ("white", "black")]
    kind = rng.choice(["GIF", "WEBP", "PNG", "TIFF"])
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=others, **options), (np.asarray(first), 1)


def i_turned(rng):
    """Stored so that a viewer, which follows the orientation, shows the blocks."""
    shown, orientation = blocks(rng), rng.randrange(1, 9)
    stored = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.transpose(1, 0, 2), 6: np.rot90(shown),
        7: shown[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(shown, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind = rng.choice(["JPEG", "PNG", "WEBP", "TIFF"])
    return encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif), (shown, 25)


def i_broken_exif(rng):
    shown = blocks(rng)
    return encoded(Image.fromarray(shown), "JPEG", exif=b"Exif\0\0" + rng.randbytes(60), quality=95), (shown, 25)


def i_transparent(rng):
    pixels = noise(rng)
    alpha = np.where(np.arange(pixels.shape[1]) < 20, 0, 255).astype(np.uint8)[None, :, None].repeat(pixels.shape[0], 0)
    shown = np.where(alpha == 0, 255, pixels)
    return encoded(Image.fromarray(np.concatenate([pixels, alpha], 2)), rng.choice(["PNG", "TIFF"])), (shown, 0)


def i_palette_and_bits(rng):
    mode = rng.choice(["1", "P", "L", "LA"])
    image = Image.fromarray(blocks(rng)).convert(mode)
    return encoded(image, "PNG"), (np.asarray(image.convert("RGB")), 1)


def i_garbage_behind(rng):
    pixels = noise(rng)
    return encoded(Image.fromarray(pixels), "PNG") + rng.randbytes(300), (pixels, 0)


def i_wrong_checksum(rng):
    data = bytearray(encoded(Image.fromarray(noise(rng)), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    return bytes(data), None


def i_no_width(rng):
    return rng.choice([png(0, 5, 8, 2, b""), png(5, 0, 8, 2, b""), b"GIF89a" + bytes(7) + b";"]), None


def i_floating_point(rng):
    return encoded(Image.fromarray(np.random.default_rng(0).random((4, 4), dtype=np.float32)), "TIFF"), None


IMAGE_KINDS = [
    i_truncated, i_wrong_magic, i_no_image, i_zero_bytes, i_one_pixel, i_thin, i_too_thin, i_400_million_pixels, i_cmyk,
    i_sixteen_bit_grey, i_sixteen_bit_colour, i_animated, i_turned, i_truncated, i_turned, i_broken_exif, i_transparent,
    i_palette_and_bits, i_garbage_behind, i_wrong_checksum, i_no_width, i_floating_point, i_no_image, i_turned, i_animated,
]  # fmt: skip


def with_image(number: int, name: str) -> tuple:
    """A row that shows the image, and its reader: of both formats in turn."""
    rng = random.Random(number)
    if number % 2:
        return task(rng, answer="yes") | {"image": name, "id": str(number), "task": "yes_no"}, lambda path: vlm_r1_jsonl.read(
            path, "rec"
        )
    return preference(rng) | {"image": name, "id": str(number)}, r1_reward_jsonl.read


def test_100_damaged_images_are_shown_right_or_reported(tmp_path, processor, monkeypatch, recwarn):
    load = ImageFile.ImageFile.load

    def watched(self):
        assert self.size[0] * self.size[1] <= 10**8, "decoded, in spite of its size"
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    path, seen, refused = tmp_path / "rows.jsonl", [], 0
    for number in range(100):
        kind = IMAGE_KINDS[number % len(IMAGE_KINDS)]
        content, right = kind(random.Random(1000 + number))
        where, name = f"{kind.__name__}-{number}", f"image-{number}.{'png' if number % 3 else 'jpg'}"
        (tmp_path / name).write_bytes(content)
        (sound, _), (row, read) = with_image(number, "a.png"), with_image(number, name)
        path.write_text(json.dumps(sound | {"id": "sound"}) + "\n\n" + json.dumps(row))
        try:
            rows = read(path)
        except ValueError as error:
            start = f"{path}: 1 row has a problem:\n  rows.jsonl, row 3, field image: {tmp_path / name}: "
            assert str(error).startswith(start), f"{where}: {error}"
            assert right is None, f"{where}: {error}"
            refused += 1
            continue
        assert right is not None, f"{where}: read, though it is damaged"
        assert [row.id for row in rows] == ["sound", str(number)], where
        shown = np.asarray(open_image(rows[1].images[0])).astype(float)
        expected, tolerance = right
        assert shown.shape == expected.shape, where
        if tolerance > 1:  # JPEG: the corners, away from where colours meet
            shown, expected = shown[[2, -3]][:, [2, -3]] if min(shown.shape[:2]) > 8 else shown, np.asarray(expected)
            expected = expected[[2, -3]][:, [2, -3]] if min(expected.shape[:2]) > 8 else expected
        assert np.abs(shown - expected).max() <= tolerance, where
        seen.append(rows[1])
    assert len(seen) + refused == 100 and len(seen) >= 40 and refused >= 30
    survives(seen, processor)
    assert not [warning for warning in recwarn if issubclass(warning.category, Image.DecompressionBombWarning)]


def test_random_damage_of_an_image_is_never_a_foreign_error(tmp_path):
    """Bytes changed anywhere: the image has its size, or is refused as an image of that row."""
    rng, path, outcomes = random.Random(0), tmp_path / "rows.jsonl", {"read": 0, "refused": 0}
    for number in range(60):
        data = bytearray(encoded(Image.fromarray(noise(rng)), rng.choice(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])))
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(len(data) if rng.random() < 0.5 else 60)] = rng.randrange(256)
        (tmp_path / "image").write_bytes(bytes(data))
        row, read = with_image(number, "image")
        path.write_text(json.dumps(row))
        try:
            (read_row,) = read(path)
        except ValueError as error:
            assert f"rows.jsonl, row 1, field image: {tmp_path / 'image'}: " in str(error)
            outcomes["refused"] += 1
        else:
            assert open_image(read_row.images[0]).mode == "RGB"
            outcomes["read"] += 1
    assert sum(outcomes.values()) == 60 and min(outcomes.values()) >= 5


def test_the_same_damage_of_encoded_bytes_is_the_same_error():
    """Rows of parquet files hold their images; there is no file to name."""
    for number, kind in enumerate(IMAGE_KINDS):
        content, right = kind(random.Random(number))
        if right is None:
            with pytest.raises(ValueError, match=f"<image of {len(content)} bytes>: "):
                open_image(ImageSource(data=content))
