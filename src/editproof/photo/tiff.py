"""Writing 8-bit TIFFs with an EXIF block (TIFF 6.0, deflate as in Adobe's technical note of 2002).

Pillow can write EXIF directories or compressed pictures to a TIFF, not both.
"""

import struct
from collections.abc import Sequence
from typing import IO

import numpy as np
from isal import isal_zlib

from editproof.photo.exif import Directory, read_directories, write_directories

ROWS = 128  # of a strip
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
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
