import io

import numpy as np
import pytest
from PIL import Image

from r1reward.data.images import ImageError, check_images, image_problems, open_image
from r1reward.data.rows import ImageSource, PreferenceRow


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


def test_check_images_lists_every_bad_row_and_shows_ten(tmp_path):
    good = encoded(Image.new("RGB", (2, 2)))
    check_images([row("a", good), row("b"), row("c", good, good)])
    rows = [row("good", good)] + [row(f"r{n}", good, ImageSource(path=str(tmp_path / f"{n}.png"))) for n in range(12)]
    assert list(image_problems(rows)) == list(range(1, 13))
    with pytest.raises(ImageError, match="12 of 13 rows") as error:
        check_images(rows)
    message = str(error.value)
    assert "'r0': " in message and "'r9': " in message and "'r10'" not in message and message.endswith("... and 2 more")


def test_without_decoding_only_missing_and_empty_files_are_found(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    rows = [
        row("a", ImageSource(path=str(tmp_path / "text.png"))),
        row("b", ImageSource(path=str(tmp_path / "no.png"))),
    ]
    assert list(image_problems(rows, decode=False)) == [1]
    assert list(image_problems(rows)) == [0, 1]
