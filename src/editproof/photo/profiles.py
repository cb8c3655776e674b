"""Colour profiles that Pillow does not look for: those of JPEG 2000 (ISO 15444-1, I.5.3.3) and BMP (version 5)."""

import struct
from typing import IO

MOST_READ = 1_000_000  # bytes at the beginning of a JPEG 2000 file in which its header is looked for
WHOLE = 2  # the method of a colour box that holds a profile (1: a number)
EMBEDDED, KIND_AT, PLACE_AT, HEADER_AT = b"DEBM", 70, 126, 14  # of a BMP
V5 = 124  # bytes of its header


def beside(file: IO[bytes]) -> bytes | None:
    """The profile in a file of one of these formats; None where there is none that lies inside it."""
    file.seek(0)
    start = file.read(MOST_READ)
    if start[:2] == b"BM":
        return _of_bmp(file, start)
    at = start.find(b"colr")
    while at >= 4:
        length = int.from_bytes(start[at - 4 : at], "big")
        if start[at + 4 : at + 5] == bytes([WHOLE]) and 11 < length <= len(start) - at + 4:
            return start[at + 7 : at - 4 + length]
        at = start.find(b"colr", at + 4)
    return None


def _of_bmp(file: IO[bytes], start: bytes) -> bytes | None:
    if len(start) < HEADER_AT + V5 or struct.unpack_from("<I", start, HEADER_AT)[0] < V5:
        return None
    if start[KIND_AT : KIND_AT + 4] != EMBEDDED:
        return None
    place, length = struct.unpack_from("<II", start, PLACE_AT)
    file.seek(HEADER_AT + place)
    profile = file.read(min(length, MOST_READ))
    return profile if len(profile) == length else None
