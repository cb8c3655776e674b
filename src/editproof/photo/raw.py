"""Raw photos (DNG, NEF, CR3 ...): told from pictures, because what can be read of them is a small preview only.

Sources: DNG 1.7 (tag 50706, photometric interpretations 32803 and 34892), TIFF/EP (ISO 12234-2), and the first bytes of
the makers' own kinds as ExifTool's documentation lists them.
"""

import mmap
import struct
from pathlib import Path
from typing import IO, cast

from editproof.photo.exif import read_directory

SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
ALLOWED = (
    "allowed: a TIFF, PNG or JPEG that you export from it with the camera's software or a raw converter such as "
    "darktable, at full size"
)
BEGINNINGS = {  # first bytes: kind
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FOVb": "X3F",
    b"\0MRM": "MRW",
    b"II\x1a\0\0\0HEAPCCDR": "CRW",
}
DNG_VERSION, PHOTOMETRIC, SUB_DIRECTORIES, NEW_SUBFILE, MAKE = 50706, 262, 330, 254, 271
OF_SENSORS = (32803, 34892)  # photometric interpretations: a colour filter array, linear raw
REDUCED = 1  # a preview of another picture in the file
DIRECTORIES = 20  # that are looked at


def raw_kind(path: Path, file: IO[bytes]) -> str | None:
    """What kind of raw photo an open file is, None if it is none; `path` is what it is called."""
    file.seek(0)
    beginning = file.read(64)
    for first, kind in BEGINNINGS.items():
        if beginning.startswith(first):
            return kind
    if beginning[4:12] == b"ftypcrx ":
        return "CR3"
    if beginning[:4] not in (b"II*\0", b"MM\0*"):
        return None
    named = path.suffix.lower() in SUFFIXES
    if named or beginning[8:10] == b"CR" or _holds_raw(file):
        return path.suffix[1:].upper() if named else "CR2" if beginning[8:10] == b"CR" else "DNG or the like"
    return None


def _holds_raw(file: IO[bytes]) -> bool:
    """Whether one of the first directories of a TIFF, or of those below them, describes what a sensor saw."""
    block = _content(file)
    order = "<" if block[:2] == b"II" else ">"
    offsets, seen = [struct.unpack(order + "I", block[4:8])[0]] if len(block) >= 8 else [], set[int]()
    while offsets and len(seen) < DIRECTORIES:
        offset = offsets.pop(0)
        if offset in seen or not 8 <= offset < len(block):
            continue
        seen.add(offset)
        found = read_directory(block, order, offset)
        photometric = _numbers(found.get(PHOTOMETRIC), order)
        if DNG_VERSION in found or (photometric and photometric[0] in OF_SENSORS):
            return True
        offsets += _numbers(found.get(SUB_DIRECTORIES), order)[:DIRECTORIES]
        if _numbers(found.get(NEW_SUBFILE), order) == [REDUCED] and MAKE in found and SUB_DIRECTORIES in found:
            return True  # a camera's file that begins with a preview
    return False


def _content(file: IO[bytes]) -> bytes:
    """The file's bytes; of one on the disk, only those that are looked at are read."""
    try:
        return cast(bytes, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # in memory
        file.seek(0)
        return file.read()


def _numbers(entry: tuple[int, int, bytes] | None, order: str) -> list[int]:
    """The values of an entry of whole numbers of 16 or 32 bits."""
    kind, count, value = entry or (0, 0, b"")
    letter = {3: "H", 4: "I", 13: "I"}.get(kind)
    return list(struct.unpack(f"{order}{count}{letter}", value)) if letter else []
