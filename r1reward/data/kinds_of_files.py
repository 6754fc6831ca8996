"""What a file is that is not what it should be, by how it begins, and what to do then."""

LFS_POINTER = b"version https://git-lfs"
_HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")
_KINDS = (  # how files begin, what they are, what to do
    (b"PK\x03\x04", "a zip archive", "unpack it and name the file inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and name the file inside"),
    (b"BZh", "a bz2 archive", "unpack it and name the file inside"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it and name the file inside"),
    (b"ARROW1", "an Arrow file", "name the folder that `save_to_disk` of the datasets library wrote"),
    (b"\x80\x04", "a pickle", "which may hold code and is not opened: write the rows as JSON lines"),
    (b"\x80\x05", "a pickle", "which may hold code and is not opened: write the rows as JSON lines"),
    (b"%PDF", "a PDF", "render its pages to PNG files"),
)


def what_it_is(head: bytes) -> str | None:
    """A known kind of file that holds neither rows nor an image, with the remedy; None for all others.

    Args:
        head: The file's first bytes, 64 or more.
    """
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the file that it stands for: run `git lfs pull` there, or download it again"
    if head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        return "a web page (HTML), as a server sends it for a file that needs a login or another address: download it again"
    for beginning, kind, remedy in _KINDS:
        if head.startswith(beginning):
            return f"{kind}: {remedy}"
    return None
