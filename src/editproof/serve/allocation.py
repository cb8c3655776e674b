"""What a process keeps of the memory that it has let go of: pages are dear to ask for again, most so in a container."""

import contextlib
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # glibc's names for them, in malloc.h
APART, KEPT = 256 << 20, 512 << 20  # bytes: from which on a piece is asked for by itself; which stay at most


def keep_pages() -> bool:
    """Let the C library keep up to half a gigabyte of freed memory for what comes next; True where it can (glibc).

    A network's layers free and ask for the same tens of megabytes for each photo. The system clears every page that it
    hands out, which takes a third of the time of such a pass. Results stay the same. What the environment says
    about it (MALLOC_..., GLIBC_TUNABLES) holds. It is for whole processes of ours, not for libraries.
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if told or not sys.platform.startswith("linux"):
        return False
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library: musl has none of it
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(MMAP_THRESHOLD, APART)) and bool(mallopt(TRIM_THRESHOLD, KEPT))
    return False
