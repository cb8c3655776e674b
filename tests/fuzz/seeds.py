"""Damaged files by the number: seeds made by code (tests/corpus.py, clip_maker.py), and what is done to them.

`damaged(number)` is the same file on every machine with the same libraries, so a number is all that is to be written
down of a failure.
"""

import base64
import functools
import io
import random
import struct
import tempfile
import zlib
from pathlib import Path

import corpus

from editproof.photo.png import SIGNATURE, chunks

HEALTHY = 0.85  # of the files begin as one that is protected
NUMBERS = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\1\0\0",
    b"\xff\xff",
    b"\0\0",
    b"\1",
)
SLOW = ("text-bomb.png", "xmp-deep.jpg", "exif-huge.jpg", "endless-pages.tif")  # seeds whose kind has a test of its own
LARGEST = 200_000  # bytes of a seed


@functools.cache
def photos(healthy: bool = True) -> dict[str, bytes]:
    """Photo files of every kind, with and without metadata and previews, or files that are refused: name -> content."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, case) in enumerate(corpus.CASES.items()):
            path = Path(folder) / f"{i}{Path(name).suffix}"
            if name in SLOW or case.skipped or (case.said is None) != healthy:
                continue
            case.write(path)
            if path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= LARGEST:
                found[path.name] = path.read_bytes()
    return found


@functools.cache
def clips() -> dict[str, bytes]:
    """Short clips: name -> content."""
    import clip_maker

    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in ((".mp4", "libx264"), (".mov", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")):
            clip_maker.make(Path(folder) / f"clip{suffix}", frames=4, sound=suffix != ".avi", codec=codec)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@functools.cache
def all_seeds(healthy: bool = True) -> list[tuple[str, bytes]]:
    """Photos, and where they are healthy, clips: one for every eight."""
    few = list(clips().items()) if healthy else []
    return [*photos(healthy).items(), *few * (len(photos()) // 32)]


def damaged(number: int) -> tuple[str, bytes]:
    """A name and a file: a seed with 1 to 8 changes."""
    rng = random.Random(number)
    name, data = rng.choice(all_seeds(rng.random() < HEALTHY))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        data = rng.choice(CHANGES)(bytearray(data), rng)
    if data.startswith(SIGNATURE) and rng.random() < 0.7:
        data = with_sums(bytes(data))
    return f"{number}{Path(name).suffix}", bytes(data)


def with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the right check sums, or it would go no deeper than these."""
    file, mended = io.BytesIO(data), bytearray(data)
    for _, at, length in chunks(file):
        if at + length + 4 <= len(data):
            struct.pack_into(">I", mended, at + length, zlib.crc32(data[at - 4 : at + length]))
    return bytes(mended)


def flip(data: bytearray, rng: random.Random) -> bytearray:
    """One bit."""
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def number(data: bytearray, rng: random.Random) -> bytearray:
    """Bytes become a number that is easily mistaken: 0, -1, the largest."""
    at, value = _place(data, rng), rng.choice(NUMBERS)
    data[at : at + len(value)] = value
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    """The end, or a piece in the middle, is missing."""
    at = _place(data, rng)
    del data[at : len(data) if rng.random() < 0.5 else at + rng.randrange(1, 500)]
    return data


def twice(data: bytearray, rng: random.Random) -> bytearray:
    """A piece comes twice, or many times."""
    at = _place(data, rng)
    piece = data[at : at + rng.randrange(1, 300)]
    data[at:at] = piece * rng.choice((1, 1, 2, 50))
    return data


def spliced(data: bytearray, rng: random.Random) -> bytearray:
    """A piece of another file."""
    _, other = rng.choice(all_seeds())
    begin, at = rng.randrange(len(other)), _place(data, rng)
    piece = other[begin : begin + rng.randrange(1, 2000)]
    data[at : at + (len(piece) if rng.random() < 0.5 else 0)] = piece
    return data


def ascii_number(data: bytearray, rng: random.Random) -> bytearray:
    """Digits somewhere become others, as in XML and PPM."""
    digits = [i for i, byte in enumerate(data[:4000]) if 48 <= byte <= 57]
    if digits:
        data[rng.choice(digits)] = rng.choice(b"0123456789-e.")
    return data


CHANGES = (flip, flip, number, number, cut, twice, spliced, ascii_number)


def _place(data: bytearray, rng: random.Random) -> int:
    """Somewhere, often near the beginning, where files say what they are."""
    if not data:
        return 0
    return rng.randrange(min(len(data), rng.choice((200, 2000, len(data), len(data)))))


def preview_windows() -> list[bytes]:
    """Pieces of the embedded previews' coded pixels, as they are, in base64 and in hex: none may be in a result."""
    thumb = corpus.preview()
    body = thumb[thumb.index(b"\xff\xda") + 12 :]
    pieces = [body[i : i + 24] for i in range(0, len(body) - 24, 12)]
    encoded = [base64.b64encode(body[phase : phase + 60])[4:40] for phase in range(3)]
    return [*pieces, *encoded, body.hex()[40:90].encode()]
