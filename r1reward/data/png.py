"""Large texts in PNG files, which say nothing about the pixels but make Pillow refuse the file.

Programs that generate or edit images write prompts, workflows and histories of editing into a PNG's text chunks. Pillow
refuses a compressed text or colour profile of more than 1 MB, and 64 MB of texts together, as protection against decompression
bombs. Here such chunks are left out before Pillow sees them: measured with bounded memory and work, never kept.

A PNG is a signature of 8 bytes and chunks of: length (4 bytes, big-endian), type (4 bytes), data, checksum (4 bytes); PNG
specification, third edition, section 5.
"""

import zlib

from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_TOO_LARGE = MAX_TEXT_MEMORY + 1
_AROUND = 12  # bytes of a chunk beside its data


def without_large_texts(data: bytes) -> bytes:
    """The file without the texts and the colour profile that Pillow would refuse for their size; other files as they are."""
    if not data.startswith(_SIGNATURE):
        return data
    kept, start, memory, unpacked = [data[: len(_SIGNATURE)]], len(_SIGNATURE), 0, 0
    while start + _AROUND <= len(data):
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        end = start + _AROUND + length
        size = 0
        if kind in _TEXTS:
            text, is_packed = _text(kind, data[start + 8 : end - 4])
            size = len(text)
            if is_packed and unpacked > MAX_TEXT_MEMORY:  # as much work as Pillow would do at most
                size = _TOO_LARGE
            elif is_packed:
                size = _unpacked_size(text)
                unpacked += min(size, MAX_TEXT_CHUNK)
        if memory + size <= MAX_TEXT_MEMORY:
            kept.append(data[start:end])
            memory += size
        start = end
    kept.append(data[start:])  # what is no chunk is Pillow's affair
    return data if sum(map(len, kept)) == len(data) else b"".join(kept)


def _text(kind: bytes, content: bytes) -> tuple[bytes, bool]:
    """A chunk's text, and whether it is compressed."""
    _, _, rest = content.partition(b"\0")  # after the keyword or the profile's name
    if kind == b"tEXt":
        return rest, False
    if kind != b"iTXt":
        return rest[1:], True  # after the method
    after_language = rest[2:].partition(b"\0")[2]
    return after_language.partition(b"\0")[2], rest[:1] == b"\1"  # after the translated keyword


def _unpacked_size(text: bytes) -> int:
    """Bytes of a text after decompression; `_TOO_LARGE` where they are more than Pillow decompresses, or damaged."""
    try:
        size = len(zlib.decompressobj().decompress(text, MAX_TEXT_CHUNK + 1))
    except zlib.error:
        return _TOO_LARGE  # Pillow passes over such texts
    return size if size <= MAX_TEXT_CHUNK else _TOO_LARGE
