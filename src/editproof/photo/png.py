"""Writing 8-bit PNGs with one filter and ISA-L's deflate: quicker than Pillow's encoder, files of its size.

The PNG specification's (ISO 15948) chunks; Pillow reads and checks them in the tests. And a look at the chunks of any
PNG, for what Pillow does not tell.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from isal import isal_zlib

ROWS = 128  # of a strip
UP = 2  # the filter: a sample less the one above it
COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type
SIGNATURE = b"\x89PNG\r\n\x1a\n"
LOOKED_AT = (b"IHDR", b"cICP", b"sRGB", b"gAMA", b"cHRM")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
RESERVED = (  # what Pillow calls things that are no texts: a text of that name would be taken for it
    *("exif", "transparency", "icc_profile", "gamma", "chromaticity", "srgb", "dpi", "aspect", "interlace", "bbox"),
    *("default_image", "loop", "duration", "disposal", "blend", "xmp", "timestamp", "background"),
)
LONGEST_KEYWORD = 79  # bytes


def write(
    file: IO[bytes],
    pixels: np.ndarray,
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Pixels (H, W, C) uint8: grey, grey and alpha, RGB or RGBA; `exif` without JPEG's six bytes before it."""
    height, width, channels = pixels.shape
    file.write(SIGNATURE)
    chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLOURS[channels], 0, 0, 0))
    if icc is not None:
        chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if dpi is not None:
        chunk(file, b"pHYs", struct.pack(">IIB", *(round(x / 0.0254) for x in dpi), 1))
    if exif is not None:
        chunk(file, b"eXIf", exif)
    if xmp is not None:
        chunk(file, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    compressor = isal_zlib.compressobj(1)
    for strip in filtered(pixels):
        data = compressor.compress(strip)
        if data:
            chunk(file, b"IDAT", data)
    chunk(file, b"IDAT", compressor.flush())
    chunk(file, b"IEND", b"")


def chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    """Length, kind, data, check sum."""
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def filtered(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Strips of rows, each row after its filter byte and less the row above it."""
    above = np.zeros((1, pixels.shape[1] * pixels.shape[2]), np.uint8)
    for top in range(0, len(pixels), ROWS):
        rows = pixels[top : top + ROWS].reshape(-1, above.shape[1])
        strip = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        strip[:, 0] = UP
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=strip[:, 1:])
        yield strip
        above = rows[-1:]


def chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of what each chunk of a PNG holds, the file anywhere; ends where the file does."""
    file.seek(0, io.SEEK_END)
    end, at = file.tell(), len(SIGNATURE)
    while at + 12 <= end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, at + 8, length
        at += 12 + length


def look(file: IO[bytes]) -> tuple[dict[bytes, bytes], bool]:
    """The first chunk of each kind of LOOKED_AT, and whether a text has a name that Pillow gives to something else."""
    found, reserved = dict[bytes, bytes](), False
    for kind, at, length in chunks(file):
        if kind in LOOKED_AT and kind not in found and length <= 32:
            file.seek(at)
            found[kind] = file.read(length)
        reserved = reserved or (kind in TEXTS and _keyword(file, at, length) in RESERVED)
    return found, reserved


def without_reserved_texts(file: IO[bytes]) -> io.BytesIO:
    """The file without those texts."""
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    for kind, at, length in chunks(file):
        if kind in TEXTS and _keyword(file, at, length) in RESERVED:
            continue
        file.seek(at - 8)
        kept.write(file.read(length + 12))
    kept.seek(0)
    return kept


def _keyword(file: IO[bytes], at: int, length: int) -> str:
    file.seek(at)
    return file.read(min(length, LONGEST_KEYWORD)).partition(b"\0")[0].decode("latin-1")
