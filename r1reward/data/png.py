"""Large texts in PNG files, which say nothing about the pixels but make Pillow refuse the file.

Programs that generate or edit images write prompts, workflows and histories of editing into a PNG's text chunks. Pillow
refuses a compressed text or colour profile of more than 1 MB, and 64 MB of texts together, as protection against decompression
bombs. Here such chunks are left out before Pillow sees them: measured with bounded memory, never kept.

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
    kept, start, memory = [data[: len(_SIGNATURE)]], len(_SIGNATURE), 0
    while start + _AROUND <= len(data):
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        end = start + _AROUND + length
        size = _text_size(kind, data[start + 8 : end - 4]) if kind in _TEXTS else 0
        if memory + size <= MAX_TEXT_MEMORY:
            kept.append(data[start:end])
            memory += size
        start = end
    kept.append(data[start:])  # what is no chunk is Pillow's affair
    return data if sum(map(len, kept)) == len(data) else b"".join(kept)


def _text_size(kind: bytes, content: bytes) -> int:
    """Bytes of a chunk's text after decompression; `_TOO_LARGE` where a single text is more than Pillow decompresses."""
    _, _, rest = content.partition(b"\0")  # after the keyword or the profile's name
    if kind == b"tEXt":
        return len(rest)
    if kind == b"iTXt":
        is_compressed, (_, _, rest) = rest[:1] == b"\1", rest[2:].partition(b"\0")  # the language
        rest = rest.partition(b"\0")[2]  # the translated keyword
        if not is_compressed:
            return len(rest)
    else:
        rest = rest[1:]  # the method
    try:
        size = len(zlib.decompressobj().decompress(rest, MAX_TEXT_CHUNK + 1))
    except zlib.error:
        return 0  # damaged; Pillow passes over such texts
    return size if size <= MAX_TEXT_CHUNK else _TOO_LARGE
