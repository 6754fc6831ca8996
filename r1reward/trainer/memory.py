"""Memory allocation on a CPU."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's <malloc.h>


def keep_freed_memory():
    """Let glibc keep freed blocks for the next step instead of giving them back to the system.

    Every step allocates and frees the same large tensors; returning them each time makes the kernel clear and map their pages
    anew, which is a sizeable part of a small model's time on a CPU. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
