"""Says in one sentence what a failed write means: a full disk, a quota, a medium that cannot be written or read."""

import errno
import os
import re

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free space on it",
    errno.EDQUOT: "the disk quota is used up: free space or ask for more",
    errno.EFBIG: "the file would be larger than the limit allows (see ulimit -f): raise the limit",
    errno.EROFS: "the disk can only be read: mount it for writing, or choose another folder",
    errno.EACCES: "this user has no permission: change the permissions, or choose another folder",
    errno.EIO: "the disk failed (input/output error): see to the disk, or choose another one",
}
# Rust (safetensors) writes the number into its message, torch's older format the text. torch.save's archive writer tells no
# reason, only that fewer bytes arrived than were written.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_ARCHIVE = re.compile(r"inline_container\.cc.*(unexpected pos|write failed)|PytorchStreamWriter failed writing")


def disk_error(error: BaseException) -> str | None:
    """What an exception says about the disk, in one sentence with the remedy; None if it says nothing about it.

    Knows the operating system's errors, those that safetensors and torch wrap, and an exception that was raised from or while
    handling one of them.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, FileNotFoundError) and "No usable temporary directory" in str(cause):
            return "could not write a file to any folder for temporary files: the disk is probably full: free space on it"
        number = _number(cause)
        if number is not None:
            file = getattr(cause, "filename", None)
            return f"could not write or read {file or 'a file'}: {_REMEDIES[number]}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    if any(isinstance(part, RuntimeError) and _ARCHIVE.search(str(part)) for part in seen):
        return "could not write a file to its end: the disk is probably full: free space on it"
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno if error.errno in _REMEDIES else None
    text = str(error)
    is_wrapped = type(error).__name__ == "SafetensorError" or isinstance(error, RuntimeError)
    if not is_wrapped:
        return None
    found = _OS_ERROR.search(text)
    if found:
        return int(found[1]) if int(found[1]) in _REMEDIES else None
    return next((number for number in _REMEDIES if f"failed with {os.strerror(number)}" in text), None)
