"""A PNG is as good as its pixels, whatever texts it carries."""

import struct
import time
import zlib

import pytest
from PIL import Image

from r1reward.data.images import ImageError, open_image, upright_size
from r1reward.data.png import without_large_texts
from r1reward.data.rows import ImageSource
from tests.data.test_images import encoded

MEGABYTE = 1 << 20
PLAIN = encoded(Image.new("RGB", (3, 2), (10, 20, 30))).data
HEAD, END = 8 + 25, 12  # the signature and the header, and the chunk at the end


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def text(size: int) -> bytes:
    return zlib.compress(b"a" * size)


LARGE = {
    "compressed text": chunk(b"zTXt", b"workflow\0\0" + text(2 * MEGABYTE)),
    "compressed international text": chunk(b"iTXt", b"prompt\0\1\0en\0\0" + text(3 * MEGABYTE)),
    "colour profile": chunk(b"iCCP", b"profile\0\0" + text(2 * MEGABYTE)),
    "many texts": chunk(b"zTXt", b"history\0\0" + text(MEGABYTE)) * 70,
    "a bomb": chunk(b"zTXt", b"bomb\0\0" + text(200 * MEGABYTE)),
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_large_texts_do_not_make_a_picture_unreadable(name, at_the_end):
    place = len(PLAIN) - END if at_the_end else HEAD
    source = ImageSource(data=PLAIN[:place] + LARGE[name] + PLAIN[place:])
    assert upright_size(source) == (3, 2)
    assert open_image(source).tobytes() == bytes([10, 20, 30] * 6)


def test_small_texts_stay_and_other_files_are_not_touched():
    small = PLAIN[:HEAD] + chunk(b"tEXt", b"Author\0me") + chunk(b"zTXt", b"a\0\0" + text(100)) + PLAIN[HEAD:]
    for data in (small, PLAIN, PLAIN[:40], b"", b"no picture", PLAIN + b"rest", small[:70]):
        assert without_large_texts(data) == data


def test_the_orientation_in_a_large_plain_text_is_kept():
    """XMP, by which viewers turn the picture, is a text chunk too: 2 MB of it are no reason to lose it."""
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>' + b" " * 2 * MEGABYTE
    data = PLAIN[:HEAD] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + PLAIN[HEAD:]
    assert without_large_texts(data) == data


@pytest.mark.parametrize(
    ("packed", "fit"),
    [(text(MEGABYTE), 64), (text(2 * MEGABYTE), 0), (text(MEGABYTE)[:-1] + b"?", 0), (text(100), 3000)],
    ids=["large", "too large", "damaged", "small"],
)
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_many_packed_texts_cost_no_more_than_64_megabytes(kind, packed, fit):
    """3,000 of a megabyte took seconds to unpack; the orientation, which is not packed, stays where Pillow has room for it."""
    plain = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>')
    start = b"prompt\0\0" if kind == b"zTXt" else b"prompt\0\1\0en\0\0"
    data = PLAIN[:HEAD] + chunk(kind, start + packed) * 3000 + plain + PLAIN[HEAD:]
    began = time.process_time()
    kept = without_large_texts(data)
    assert time.process_time() - began < 1
    assert kept.count(chunk(kind, start + packed)) == fit and (plain in kept) == (fit != 64)
    assert upright_size(ImageSource(data=data)) in ((3, 2), (2, 3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML"),
        (b"\n <html>", "HTML"),
        (b"PK\x03\x04" + b"\0" * 100, "zip"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_what_is_no_image_is_named(content, said, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    for source in (ImageSource(path=str(tmp_path / "a.png")), ImageSource(data=content)):
        with pytest.raises(ImageError, match=said):
            open_image(source)
