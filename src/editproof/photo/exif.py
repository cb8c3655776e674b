"""EXIF without pictures: known tags are copied byte for byte into a new block; previews and maker notes are not.

A block (EXIF 3.0, TIFF 6.0) is a chain of directories. The second of the chain describes the thumbnail, and maker notes
may hold previews in ways nobody documents; whatever is not listed here stays behind.
"""

import struct

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}  # bytes of a value by type
SUB_EXIF, SUB_GPS, SUB_INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # where a directory lies
WIDTH, HEIGHT, LONG = 0xA002, 0xA003, 4
LONGEST, LONGEST_BLOCK = 16_000, 60_000  # bytes; a block must fit into a segment of a JPEG
LONGEST_NUMBERS = 64  # bytes of a value that is no text
TEXT = (1, 2, 7, 129)  # types that texts have: bytes, ASCII, undefined, UTF-8
CODE = 8  # bytes that say how a user's comment is written, before it
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"WEBPVP8", b"ftypavif", b"ftyphei", b"ftypmif1", b"GIF8", b"8BIM")
MAIN_TAGS = {
    *range(0x010E, 0x0111),  # description, make, model
    *(0x011A, 0x011B, 0x0128),  # resolution
    *(0x0131, 0x0132, 0x013B, 0x013C, 0x8298),  # software, date, artist, host computer, copyright
    *(0x4746, 0x4749, *range(0x9C9B, 0x9CA0)),  # Windows: rating, title, comment, author, keywords, subject
}
EXIF_TAGS = {
    *(0x829A, 0x829D, 0x8822, 0x8824, *range(0x8827, 0x8836)),  # exposure, sensitivity
    *(0x9000, 0x9003, 0x9004, *range(0x9010, 0x9013)),  # version, dates
    *(
        *range(0x9201, 0x9215),
        0x9286,
        *range(0x9290, 0x9293),
        *range(0x9400, 0x9407),
    ),  # the shot, comment, weather
    *(0xA000, 0xA001, 0xA20B, 0xA20E, 0xA20F, 0xA210, 0xA214, 0xA215, 0xA217, 0xA300, 0xA301, 0xA302),  # colour, sensor
    *(*range(0xA401, 0xA40D), 0xA420, *range(0xA430, 0xA43D), *range(0xA460, 0xA463), 0xA500),  # lens, owner, editing
}
KEPT = {0: MAIN_TAGS, SUB_EXIF: EXIF_TAGS, SUB_GPS: set(range(32)), SUB_INTEROPERABILITY: {1, 2}}

Entry = tuple[int, int, bytes]  # type, number of values, the values
Directory = dict[int, Entry]  # by tag
Directories = dict[int, Directory]  # 0: the main one; SUB_EXIF, SUB_GPS, SUB_INTEROPERABILITY


def clean_exif(block: bytes | None, width: int, height: int) -> bytes | None:
    """The tags of an EXIF block that say something of the photo, None if there is none; never raises.

    Previews, maker notes, unknown tags, and values that hold a picture or are very long are left out, and so is the
    orientation: the photo, width x height pixels, stands upright.
    """
    order, found = read_directories((block or b"").removeprefix(b"Exif\0\0"))
    directories = {which: _kept(found[which], tags) for which, tags in KEPT.items()}
    if not any(directories.values()):
        return None
    for tag, length in ((WIDTH, width), (HEIGHT, height)):
        directories[SUB_EXIF][tag] = (LONG, 1, struct.pack(order + "I", length))
    while len(written := write_directories(directories, order)) > LONGEST_BLOCK:
        _, tag, directory = max((len(e[2]), tag, d) for d in directories for tag, e in directories[d].items())
        del directories[directory][tag]
    return written


def holds_picture(value: bytes) -> bool:
    """Whether the beginning of a picture file, or Photoshop's resources, are somewhere in these bytes."""
    return any(beginning in value for beginning in PICTURES)


def read_directories(block: bytes) -> tuple[str, Directories]:
    """The byte order ("<" or ">") and the directories of a block, but the thumbnail's; empty where it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    if not order:
        return "<", {which: {} for which in KEPT}
    main = _read(block, order, _number(block, order, 4))
    exif, gps = (_read(block, order, _pointer(main, order, tag)) for tag in (SUB_EXIF, SUB_GPS))
    interoperability = _read(block, order, _pointer(exif, order, SUB_INTEROPERABILITY))
    return order, {0: main, SUB_EXIF: exif, SUB_GPS: gps, SUB_INTEROPERABILITY: interoperability}


def _kept(directory: Directory, tags: set[int]) -> Directory:
    return {tag: entry for tag, entry in sorted(directory.items()) if tag in tags and _is_plain(entry[0], entry[2])}


def _is_plain(kind: int, value: bytes) -> bool:
    """Whether a value is a few numbers or a text, and no picture or part of one (where a pointer is false)."""
    if len(value) > LONGEST or holds_picture(value):
        return False
    return len(value) <= LONGEST_NUMBERS or (kind in TEXT and (_is_text(value) or _is_text(value[CODE:])))


def _is_text(value: bytes) -> bool:
    for encoding in ("utf-8", "cp1252", "utf-16-le", "utf-16-be"):
        try:
            text = value.decode(encoding)
        except UnicodeDecodeError:
            continue
        if all(c.isprintable() or c in "\t\n\r\0" for c in text):
            return True
    return False


def _number(block: bytes, order: str, offset: int, size: str = "I") -> int:
    end = offset + struct.calcsize(size)
    return struct.unpack(order + size, block[offset:end])[0] if offset >= 0 and end <= len(block) else 0


def _pointer(directory: Directory, order: str, tag: int) -> int:
    kind, count, value = directory.get(tag, (0, 0, b""))
    return _number(value, order, 0) if kind in (LONG, 13) and count == 1 else 0


def _read(block: bytes, order: str, offset: int) -> Directory:
    """The entries of the directory at `offset` (0: none) whose values lie inside the block."""
    directory: Directory = {}
    for i in range(_number(block, order, offset, "H") if offset else 0):
        at = offset + 2 + 12 * i
        if at + 12 > len(block):
            break
        tag, kind, count = struct.unpack(order + "HHI", block[at : at + 8])
        size = (4 if kind == 13 else WIDTHS.get(kind, 0)) * count
        start = at + 8 if size <= 4 else _number(block, order, at + 8)
        if size and start + size <= len(block):
            directory.setdefault(tag, (kind, count, block[start : start + size]))
    return directory


def write_directories(directories: Directories, order: str) -> bytes:
    """A block of these directories; pointers to them are put in."""
    pointers = {SUB_EXIF: 0, SUB_GPS: 0, SUB_INTEROPERABILITY: SUB_EXIF}  # a directory: the one that points to it
    used = {d: dict(entries) for d, entries in directories.items() if d == 0 or entries}
    for pointer, parent in pointers.items():
        if pointer in used:
            used[parent][pointer] = (LONG, 1, bytes(4))
    starts, end = {}, 8
    for d, entries in used.items():
        starts[d] = end
        end += 6 + sum(12 + (0 if len(value) <= 4 else len(value) + len(value) % 2) for _, _, value in entries.values())
    written = {b"<": b"II*\0", b">": b"MM\0*"}[order.encode()] + struct.pack(order + "I", 8)
    for d, entries in used.items():
        table, values = struct.pack(order + "H", len(entries)), b""
        for tag, (kind, count, value) in sorted(entries.items()):
            if tag in starts and tag in pointers:
                value = struct.pack(order + "I", starts[tag])
            table += struct.pack(order + "HHI", tag, kind, count)
            if len(value) <= 4:
                table += value.ljust(4, b"\0")
            else:
                table += struct.pack(order + "I", starts[d] + 6 + 12 * len(entries) + len(values))
                values += value + bytes(len(value) % 2)
        written += table + bytes(4) + values
    return written
