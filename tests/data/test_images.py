import io
import json
import logging
import struct
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from r1reward.data.images import (
    BadImage,
    BadImages,
    ImageError,
    ImageLimits,
    decode_columns,
    image_problems,
    open_image,
    upright_size,
)
from r1reward.data.rows import ImageSource, PreferenceRow, to_training_row


def encoded(image: Image.Image, kind: str = "PNG", **options) -> ImageSource:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return ImageSource(data=buffer.getvalue())


def row(name: str, *images: ImageSource) -> PreferenceRow:
    return PreferenceRow(name, images, "q", ("a", "b"), 1, ("", " ", ""))


def test_a_file_and_its_bytes_give_the_same_rgb_image(tmp_path):
    source = encoded(Image.new("RGB", (3, 2), (10, 20, 30)))
    (tmp_path / "a.png").write_bytes(source.data)
    from_file, from_bytes = open_image(ImageSource(path=str(tmp_path / "a.png"))), open_image(source)
    assert from_file.mode == from_bytes.mode == "RGB" and from_file.size == (3, 2)
    assert from_file.tobytes() == from_bytes.tobytes() == bytes([10, 20, 30] * 6)


def test_exif_orientation_is_applied():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left: a viewer turns it right, so the left pixel comes to the top
    upright = open_image(encoded(picture, exif=exif))
    assert upright.size == (1, 2) and upright.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("L", (4, 4), 255)
    image = image.convert("RGB").convert(mode) if mode != "I;16" else Image.new(mode, (4, 4), 65535)
    kind = "TIFF" if mode in ("CMYK", "PA") else "JPEG" if mode == "YCbCr" else "PNG"
    opened = open_image(encoded(image, kind))
    assert opened.mode == "RGB" and all(abs(value - 255) <= 1 for value in opened.getpixel((0, 0)))


def test_transparent_pixels_become_white_and_half_transparent_ones_are_mixed():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 51))  # alpha 0.2: 0.8 of white = 204
    opened = open_image(encoded(image))
    assert opened.getpixel((0, 0)) == (255, 255, 255) and opened.getpixel((1, 0)) == (204, 204, 204)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    opened = open_image(encoded(Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.uint16))))
    assert [opened.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    opened = open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert opened.getpixel((0, 0)) == (255, 0, 0)


def test_a_file_of_several_photographs_gives_the_first():
    frames = [Image.new("RGB", (4, 2), color) for color in ("red", "blue")]
    source = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(source.data)) as stored:
        assert stored.format == "MPO"
    assert open_image(source).getpixel((0, 0))[0] > 250


def test_bad_images_name_the_file_and_the_reason(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 50), "JPEG").data
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "absent.jpg": "file is missing",
        "text.png": "unreadable",
        "cut.jpg": "unreadable.*truncated",
        "empty.jpg": "file is empty",
        "folder.jpg": "is a folder",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=f"{name}: .*{reason}"):
            open_image(ImageSource(path=str(tmp_path / name)))
    with pytest.raises(ImageError, match="0 bytes"):
        open_image(ImageSource(data=b""))
    with pytest.raises(ImageError, match="image of 5 bytes.*unreadable"):
        open_image(ImageSource(data=b"12345"))


def test_problems_are_found_by_row_and_each_reason_is_given_once(tmp_path):
    good, gone = encoded(Image.new("RGB", (2, 2))), ImageSource(path=str(tmp_path / "gone.png"))
    assert image_problems([row("a", good), row("b"), row("c", good, good)]) == {}
    reason = f"{tmp_path}/gone.png: file is missing"
    assert image_problems([row("a", good), row("b", good, gone, gone), row("c", gone)]) == {1: reason, 2: reason}


def test_without_decoding_only_missing_and_empty_files_are_found(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    rows = [
        row("a", ImageSource(path=str(tmp_path / "text.png"))),
        row("b", ImageSource(path=str(tmp_path / "no.png"))),
    ]
    assert list(image_problems(rows, decode=False)) == [1]
    assert list(image_problems(rows)) == [0, 1]


# Limits


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF"])
def test_400_million_pixels_are_refused_by_the_header(tmp_path, kind, monkeypatch):
    """20,000 x 20,000 pixels, cheap as a file; Pillow may neither decode them nor warn, whatever its own limit says."""
    path = tmp_path / f"huge.{kind.lower()}"
    Image.new("1", (20_000, 20_000)).save(path, **({"compression": "group4"} if kind == "TIFF" else {}))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for at_pillow in (None, 10**9, 10**6):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", at_pillow)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError, match=f"huge.{kind.lower()}: 400,000,000 pixels, .* 100,000,000; scale .* or raise"):
                open_image(ImageSource(path=str(path)))
        assert at_pillow == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_the_limit_is_ours_alone_and_exact(kind, monkeypatch):
    """12 pixels pass a limit of 12 and none of 11; Pillow's own limit of 2 (refused above 4) neither acts nor warns."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = encoded(Image.new("L", (4, 3), 7), kind)
        assert open_image(source, ImageLimits(max_pixels=12)).size == (4, 3)
        with pytest.raises(ImageError, match="12 pixels, more than the limit of 11"):
            open_image(source, ImageLimits(max_pixels=11))
    assert Image.MAX_IMAGE_PIXELS == 2


def test_a_frame_beyond_the_canvas_is_refused_before_memory_is_taken():
    """A GIF of 2 x 2 whose first frame claims 65,535 x 65,535 pixels and is to be disposed of: 4 GB at the opening."""
    data = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes(6)
    data += b"!\xf9\x04\x08\x00\x00\x00\x00" + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02D\x01\x00;"
    with pytest.raises(ImageError, match="4,294,836,225 pixels"):
        open_image(ImageSource(data=data))


def test_limits_hold_in_every_thread(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    source, found = encoded(Image.new("L", (8, 8))), []

    def look(limit: int):
        for _ in range(50):
            try:
                found.append((limit, open_image(source, ImageLimits(max_pixels=limit)).size == (8, 8)))
            except ImageError:
                found.append((limit, False))

    threads = [threading.Thread(target=look, args=(limit,)) for limit in (63, 64, 63, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200 and all(opened == (limit == 64) for limit, opened in found)
    assert Image.MAX_IMAGE_PIXELS == 5


def test_too_many_bytes(tmp_path):
    source = encoded(Image.new("RGB", (2, 2)))
    size = len(source.data)
    (tmp_path / "a.png").write_bytes(source.data)
    file = ImageSource(path=str(tmp_path / "a.png"))
    assert open_image(file, ImageLimits(max_bytes=size)).size == (2, 2)
    with pytest.raises(ImageError, match=f"a.png: {size} bytes, more than the limit of {size - 1}; .*data.max_image_bytes"):
        open_image(file, ImageLimits(max_bytes=size - 1))
    with pytest.raises(ImageError, match=f"image of {size} bytes>: {size} bytes"):
        open_image(source, ImageLimits(max_bytes=size - 1))


def test_other_formats_are_not_even_tried():
    """EPS would start Ghostscript; PPM is harmless, and simply none of the list."""
    for kind in ("EPS", "PPM"):
        with pytest.raises(ImageError, match="no image of PNG, JPEG, .*convert it to PNG or JPEG"):
            open_image(encoded(Image.new("RGB", (4, 4)), kind))
    assert open_image(encoded(Image.new("RGB", (4, 4)), "PPM"), ImageLimits(formats=("PPM",))).size == (4, 4)


def test_shapes_that_no_processor_takes():
    with pytest.raises(ImageError, match="1 x 201 pixels, one side is 201 times the other, more than 200; crop or pad"):
        open_image(encoded(Image.new("RGB", (1, 201))))
    assert open_image(encoded(Image.new("RGB", (200, 1)))).size == (200, 1)
    header = bytearray(encoded(Image.new("RGB", (1, 1)), "BMP").data)
    header[18:22] = struct.pack("<i", 0)  # the width
    with pytest.raises(ImageError, match="or one without pixels"):
        open_image(ImageSource(data=bytes(header)))


def test_floating_point_pixels_have_no_known_range():
    with pytest.raises(ImageError, match="floating-point"):
        open_image(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))


@pytest.mark.parametrize("numbers", [{"max_pixels": 0}, {"max_bytes": -1}])
def test_limits_that_make_no_sense(numbers):
    (name,) = numbers
    with pytest.raises(ValueError, match=f"data.max_image_{name[4:]} must be at least 1"):
        ImageLimits(**numbers)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_by_the_header_is_that_of_the_decoded_image(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = encoded(Image.new("RGB", (3, 2)), kind, exif=exif)
    assert upright_size(source) == open_image(source).size == ((3, 2) if orientation < 5 else (2, 3))


# Images that turn bad


def training_rows(tmp_path, *names: str) -> list[dict]:
    return [to_training_row(row(name, ImageSource(path=str(tmp_path / f"{name}.png")))) for name in names]


def test_columns_are_decoded_once_per_image(tmp_path):
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    (first, second), plain = decode_columns(training_rows(tmp_path, "a", "a")), [{"id": "no images"}]
    assert first["images"][0] is second["images"][0] and first["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert decode_columns(plain) == plain
    with pytest.raises(ImageError, match="b.png: file is missing"):
        decode_columns(training_rows(tmp_path, "a", "b"))
    with pytest.raises(ImageError, match="4 pixels"):
        decode_columns(training_rows(tmp_path, "a"), ImageLimits(max_pixels=3))


def test_a_bad_image_stops_the_run_by_default(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    rows, bad = BadImages().decode(training_rows(tmp_path, "a"))
    assert bad == [False] and rows[0]["images"][0].size == (2, 2)
    (tmp_path / "a.png").write_bytes(b"damaged")
    with pytest.raises(BadImage, match="row 'a': .*a.png: unreadable.*data.on_bad_image=skip"):
        BadImages().decode(training_rows(tmp_path, "a"))


def test_a_skipped_image_is_grey_and_warned_of_once(tmp_path, caplog):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    images = BadImages("skip", most=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rows, bad = images.decode(training_rows(tmp_path, "b", "a", "b"))
    assert bad == [True, False, True]
    assert rows[0]["images"][0].getpixel((0, 0)) == (128, 128, 128) and rows[1]["images"][0].size == (2, 2)
    assert [record.message for record in caplog.records] == [
        f"skipped, as data.on_bad_image=skip asks: row 'b': {tmp_path}/b.png: file is missing"
    ]
    images.count(2)
    with pytest.raises(BadImage, match="3 prompts skipped.* more than 2.*max_bad_images.*b.png"):
        images.count(1)
    again = BadImages("skip", most=2)
    again.load_state_dict(images.state_dict())
    assert images.state_dict() == {"skipped": 3} and again.skipped == 3
    with pytest.raises(ValueError, match="data.max_bad_images must not be negative"):
        BadImages("skip", most=-1)


def test_settings_reach_the_reader(tmp_path):
    from r1reward.data.build import bad_images, build_splits
    from r1reward.settings import DataSettings

    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "[1, 2, 3, 4]"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"conversations": turns, "image": "a.png"}))
    settings = DataSettings("vlm_r1_jsonl", path=str(tmp_path / "rows.jsonl"), task="rec", held_out_fraction=0.0)
    assert len(build_splits(settings).train) == 1
    with pytest.raises(ValueError, match="row 1, field image: .*12 pixels, more than the limit of 11"):
        build_splits(replace(settings, max_image_pixels=11))
    with pytest.raises(ValueError, match="row 1, field image: .*bytes, more than the limit of 20"):
        build_splits(replace(settings, max_image_bytes=20))
    images = bad_images(replace(settings, on_bad_image="skip", max_bad_images=3, max_image_pixels=11))
    assert (images.policy, images.most, images.limits.max_pixels) == ("skip", 3, 11)
