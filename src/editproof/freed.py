"""Memory that large pictures have left: it goes back to the system before the next one is decoded.

Pillow holds pictures in pieces of 16 MB, which the C library keeps when they are freed (see serve/allocation.py).
"""

import contextlib
import sys

LARGE = 24_000_000  # pixels of a picture for which it is worth some milliseconds


def give_back(pixels: int) -> None:
    """Give freed memory back to the system where a picture of so many pixels comes next and the C library is glibc."""
    if pixels < LARGE or not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
