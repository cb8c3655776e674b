"""Writing 8-bit TIFFs with an EXIF block (TIFF 6.0, deflate as in Adobe's technical note of 2002).

Pillow can write EXIF directories or compressed pictures to a TIFF, not both. And what has to be known of any TIFF
before Pillow reads it.
"""

import io
import struct
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from isal import isal_zlib

from editproof.errors import UserError
from editproof.photo.colour import Said
from editproof.photo.exif import WIDTHS, Directory, read_directories, write_directories

ROWS = 128  # of a strip
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
BITS, PHOTOMETRIC, SAMPLE_FORMAT, WHITE_IS_ZERO, SIGNED = 258, 262, 339, 0, 2  # tags, and what they say
MOST_DIRECTORIES = 1000  # of pages, however many there are
ADOBE_DEFLATE, GREY, RGB, UNASSOCIATED_ALPHA, DIFFERENCES, INCH = 8, 1, 2, 2, 2, 2


def write(
    file: IO[bytes],
    pixels: np.ndarray,
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Pixels (H, W, C) uint8, grey, grey and alpha, RGB or RGBA, as a picture of deflated strips."""
    height, width, channels = pixels.shape
    order, directories = read_directories(exif or b"")
    strips = [_compressed(pixels[top : top + ROWS]) for top in range(0, height, ROWS)]

    def numbers(kind: int, values: Sequence[int]) -> tuple[int, int, bytes]:
        return kind, len(values), struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)

    picture: Directory = {
        256: numbers(LONG, [width]),
        257: numbers(LONG, [height]),
        258: numbers(SHORT, [8] * channels),
        259: numbers(SHORT, [ADOBE_DEFLATE]),
        262: numbers(SHORT, [RGB if channels > 2 else GREY]),
        273: numbers(LONG, [0] * len(strips)),
        277: numbers(SHORT, [channels]),
        278: numbers(LONG, [ROWS]),
        279: numbers(LONG, [len(strip) for strip in strips]),
        317: numbers(SHORT, [DIFFERENCES]),
    }
    if channels in (2, 4):
        picture[338] = numbers(SHORT, [UNASSOCIATED_ALPHA])
    if xmp is not None:
        picture[700] = (BYTE, len(xmp), xmp)
    if icc is not None:
        picture[34675] = (UNDEFINED, len(icc), icc)
    if dpi is not None:
        for tag, number in zip((282, 283), dpi, strict=True):
            picture[tag] = (RATIONAL, 1, numbers(LONG, [round(number * 1000), 1000])[2])
        picture[296] = numbers(SHORT, [INCH])
    directories[0] = directories[0] | picture
    start = len(write_directories(directories, order))
    starts = start + np.cumsum([0, *(len(strip) for strip in strips[:-1])])
    directories[0][273] = numbers(LONG, starts.tolist())
    file.write(write_directories(directories, order))
    for strip in strips:
        file.write(strip)


def _compressed(pixels: np.ndarray) -> bytes:
    """Rows of pixels, each pixel less the one to the left, deflated."""
    differences = pixels.copy()
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=differences[:, 1:])
    return isal_zlib.compress(differences, 1)


def check_directories(file: IO[bytes], name: str) -> None:
    """Raise UserError for a TIFF whose directories refer to far more than is in it: each page is read into memory, and
    thousands of entries could share one place. BigTIFF, too."""
    file.seek(0)
    head = file.read(16)
    order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\0", b"\0+")
    if not big and head[2:4] not in (b"*\0", b"\0*"):
        return
    number, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)  # of offsets, of how many, and an entry's bytes
    end, seen, total = file.seek(0, io.SEEK_END), set[int](), 0

    def read(at: int, kind: str) -> int:
        file.seek(at)
        data = file.read(struct.calcsize(kind))
        return int(struct.unpack(order + kind, data)[0]) if len(data) == struct.calcsize(kind) else 0

    at = read(8 if big else 4, number)
    while 0 < at < end and at not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(at)
        entries, start = read(at, count), at + struct.calcsize(count)
        file.seek(start)
        table = file.read(min(entries, end // entry) * entry)
        for place in range(0, len(table) - entry + 1, entry):
            kind, values = struct.unpack_from(order + "H" + number, table, place + 2)
            total += min(WIDTHS.get(kind, 8) * values, end)
        if total > 2 * end:
            raise UserError(f"{name} is damaged or cut off (its entries hold more than the file); allowed: whole files")
        at = read(start + entries * entry, number)


def colours(image: Any, name: str) -> Said:
    """How the numbers of an opened TIFF are meant. Raises UserError for signed ones."""
    tags = image.tag_v2
    if SIGNED in tuple(tags.get(SAMPLE_FORMAT, ())):
        raise UserError(f"{name} holds signed numbers; allowed: whole numbers from 0 of 8 or 16 bits")
    bits = max(tags.get(BITS, (8,)))
    return Said(bits=bits if 8 < bits < 16 else 16, inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
