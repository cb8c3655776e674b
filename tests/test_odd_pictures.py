"""Pictures that are read wrong easily: odd depths, transparent colours, profiles where Pillow looks for none; and files
that are meant to fill the memory."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editproof.errors import UserError
from editproof.photo import decoding, icc
from editproof.photo.exif import read_directory
from editproof.photo.png import SIGNATURE, chunk
from editproof.photo.reading import open_photo

SIDE = 32
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def png(depth: int, kind: int, row: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    file.write(SIGNATURE)
    chunk(file, b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, depth, kind, 0, 0, 0))
    for name, data in extra:
        chunk(file, name, data)
    chunk(file, b"IDAT", zlib.compress((b"\0" + row) * SIDE))
    chunk(file, b"IEND", b"")
    return file.getvalue()


def tiff(data: bytes, bits: int, photometric: int = 1, more: tuple[tuple[int, int, int, int], ...] = ()) -> bytes:
    """A grey TIFF of one strip; more: tag, type, count, value."""
    tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
            (273, 4, 1, 0), (277, 3, 1, 1), (278, 4, 1, SIDE), (279, 4, 1, len(data)), *more]  # fmt: skip
    start = 14 + 12 * len(tags)
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, start if tag == 273 else value)
        for tag, kind, count, value in sorted(tags)
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("key", [0, 1, 2, 3])
def test_a_transparent_grey_of_two_bits(key: int) -> None:
    photo = open_photo("x.png", png(2, 0, bytes([0b00011011]) * (SIDE // 4), (b"tRNS", struct.pack(">H", key))))
    assert photo.levels[0, :4, 0].tolist() == [0, 85, 170, 255]
    assert photo.alpha is not None
    assert photo.alpha[0, :4].tolist() == [0 if level == key else 255 for level in range(4)]


def test_a_transparent_grey_of_four_bits() -> None:
    photo = open_photo("x.png", png(4, 0, bytes([0x7F]) * (SIDE // 2), (b"tRNS", struct.pack(">H", 7))))
    assert photo.alpha is not None
    assert photo.alpha[0, :2].tolist() == [0, 255]


def test_a_transparent_colour_of_sixteen_bits_is_refused() -> None:
    data = png(16, 2, struct.pack(">3H", 65535, 1000, 3) * SIDE, (b"tRNS", struct.pack(">3H", 65535, 1000, 3)))
    with pytest.raises(UserError, match="16 bits a channel and a colour that is transparent"):
        open_photo("x.png", data)


@pytest.mark.parametrize(
    ("data", "level"),
    [
        (tiff(struct.pack("<H", 50_000) * SIDE**2, 16), 195),
        (tiff(struct.pack("<H", 50_000) * SIDE**2, 16, photometric=0), (65_535 - 50_000) >> 8),  # white is 0
        (tiff(b"\x80\x08\x00" * (SIDE**2 // 2), 12), 128),
    ],
)
def test_deep_tiffs(data: bytes, level: int) -> None:
    assert open_photo("x.tif", data).levels[0, 0].tolist() == [level] * 3


def test_signed_tiffs_are_refused() -> None:
    with pytest.raises(UserError, match="signed numbers"):
        open_photo("x.tif", tiff(b"\xfb" * SIDE**2, 8, more=((339, 3, 1, 2),)))


def test_the_profile_of_a_jpeg_2000_is_kept() -> None:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (10, 200, 30)).save(file, "JPEG2000")
    data = file.getvalue()
    profile = icc.make_profile(P3)
    at = data.index(b"colr") - 4
    old = struct.unpack(">I", data[at : at + 4])[0]
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    data = data[:at] + box + data[at + old :]
    header = data.index(b"jp2h") - 4
    length = struct.unpack(">I", data[header : header + 4])[0] + len(box) - old
    photo = open_photo("x.jp2", data[:header] + struct.pack(">I", length) + data[header + 4 :])
    assert photo.icc == profile
    assert photo.levels[0, 0].tolist() == [10, 200, 30]


def test_the_profile_of_a_bmp_is_kept() -> None:
    profile = icc.make_profile(P3)
    pixels = bytes([30, 200, 10]) * SIDE**2
    header = struct.pack("<IiiHHIIiiII", 124, SIDE, SIDE, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    header += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    data = b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels) + len(profile), 0, 0, 138) + header + pixels + profile
    photo = open_photo("x.bmp", data)
    assert photo.icc == profile
    assert photo.levels[0, 0].tolist() == [10, 200, 30]


def overlapping(entries: int, size: int) -> bytes:
    """An EXIF block whose entries all hold the same bytes."""
    start = 14 + 12 * entries
    table = b"".join(struct.pack("<HHII", tag, 7, size, start) for tag in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + table + bytes(4 + size)


def test_entries_that_share_a_place_do_not_fill_the_memory() -> None:
    block = overlapping(20_000, 200_000)
    tracemalloc.start()
    try:
        found = read_directory(block, "<", 8)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(value) for _, _, value in found.values()) <= len(block)
    assert most < 10 * len(block)
    assert open_photo("x.png", png(8, 2, bytes(3 * SIDE), (b"eXIf", block))).size == (SIDE, SIDE)


def test_a_tiff_whose_entries_hold_more_than_the_file_is_refused() -> None:
    more = tuple((tag, 7, 90_000, 100) for tag in range(40_000, 42_000))
    with pytest.raises(UserError, match="hold more than the file"):
        open_photo("x.tif", tiff(bytes(100_000), 8, more=more))


def test_a_file_of_more_bytes_than_any_photo_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(8, 2, bytes(3 * SIDE)))
    monkeypatch.setattr(decoding, "LARGEST_FILE", 50)
    with pytest.raises(UserError, match="bytes; allowed: 50"):
        open_photo(path)


def test_a_healthy_avif_with_exif_that_cannot_be_read_is_read() -> None:
    file = io.BytesIO()
    picture = Image.fromarray(np.full((SIDE, SIDE, 3), 120, np.uint8))
    block = overlapping(1, 4)
    picture.save(file, "AVIF", quality=100, exif=b"Exif\0\0" + block)
    data = file.getvalue()
    at = data.index(block)
    photo = open_photo("x.avif", data[:at] + b"\xff" * 30 + data[at + 30 :])
    assert abs(int(photo.levels[0, 0, 0]) - 120) <= 1
    assert photo.size == (SIDE, SIDE)
    assert photo.exif is None
    assert "EXIF that cannot be read" in photo.removed
