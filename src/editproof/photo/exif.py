"""EXIF built anew from known tags: a tag is copied if it is in the table below and its value is what the table says.

A block (EXIF 3.0, TIFF 6.0) is a chain of directories. The second of the chain describes the thumbnail, and maker notes
may hold previews in ways nobody documents; whatever is not listed here stays behind, as does a text that is none
(see prose).
"""

import struct

from editproof.photo.prose import holds_picture, reads_as_text

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}  # bytes of a value by type
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, UTF8 = 1, 2, 3, 4, 5, 7, 129
SUB_EXIF, SUB_GPS, SUB_INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # where a directory lies
WIDTH, HEIGHT, ORIENTATION, MAKER_NOTE = 0xA002, 0xA003, 0x0112, 0x927C
LONGEST_BLOCK = 60_000  # bytes; a block must fit into a segment of a JPEG
CODES = {b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16", bytes(8): "utf-8"}  # that a text of UNDEFINED begins with
TEXT, WINDOWS, CODED = "text", "windows", "coded"  # ASCII or UTF-8; UTF-16 in bytes; with a code before it
Rule = tuple[str | tuple[int, ...], int]  # which text, or the types of numbers; and how many characters or numbers


def _rules(kind: str | tuple[int, ...], most: int, *tags: int) -> dict[int, Rule]:
    return dict.fromkeys(tags, (kind, most))


NUMBER, FRACTION = (SHORT, LONG), (RATIONAL, 10)
MAIN_TAGS = {
    **_rules(TEXT, 2000, 0x010E),  # description
    **_rules(TEXT, 100, 0x010F, 0x0110, 0x0131, 0x013C),  # make, model, software, host computer
    **_rules(TEXT, 500, 0x013B, 0x8298),  # artist, copyright
    **_rules(TEXT, 20, 0x0132),  # date
    **_rules(FRACTION, 1, 0x011A, 0x011B),  # resolution
    **_rules((SHORT,), 1, 0x0128, 0x4746, 0x4749),  # its unit; Windows: rating
    **_rules(WINDOWS, 2000, *range(0x9C9B, 0x9CA0)),  # Windows: title, comment, author, keywords, subject
}
EXIF_TAGS = {
    **_rules(FRACTION, 1, 0x829A, 0x829D, 0x9102, *range(0x9201, 0x9207), 0x920A, 0x920B),  # exposure and the shot
    **_rules(FRACTION, 1, *range(0x9400, 0x9406), 0xA20B, 0xA20E, 0xA20F, 0xA215, 0xA404, 0xA500),  # weather, sensor
    **_rules(NUMBER, 1, 0x8822, *range(0x8830, 0x8836), 0x9207, 0x9208, 0x9209, 0xA001, 0xA210, 0xA217),
    **_rules(NUMBER, 1, *range(0xA401, 0xA404), *range(0xA405, 0xA40B), 0xA40C, 0xA460),  # editing
    **_rules(NUMBER, 3, 0x8827),  # sensitivity
    **_rules(NUMBER, 4, 0x9214, 0xA214, 0xA461),  # where the subject is, composites
    **_rules((8,), 1, 0x882A),  # time zone
    **_rules(FRACTION, 4, 0xA432),  # a lens
    **_rules((UNDEFINED,), 4, 0x9000, 0x9101, 0xA000, 0xA300, 0xA301),  # versions, kinds of source
    **_rules((UNDEFINED,), 8, 0xA302),  # the pattern of the sensor
    **_rules(TEXT, 20, 0x9003, 0x9004, *range(0x9010, 0x9013), *range(0x9290, 0x9293)),  # dates
    **_rules(CODED, 2000, 0x9286),  # comment
    **_rules(TEXT, 34, 0xA420),  # unique number
    **_rules(
        TEXT, 100, 0x8824, 0xA430, 0xA431, 0xA433, 0xA434, 0xA435, *range(0xA437, 0xA43D)
    ),  # owner, lens, software
    **_rules(TEXT, 300, 0xA436),  # title
}
GPS_TAGS = {
    **_rules((BYTE,), 4, 0),
    **_rules(TEXT, 3, 1, 3, 9, 10, 12, 14, 16, 19, 21, 23, 25),
    **_rules(FRACTION, 3, 2, 4, 7, 20, 22),
    **_rules((BYTE,), 1, 5),
    **_rules(FRACTION, 1, 6, 11, 13, 15, 17, 24, 26, 31),
    **_rules(TEXT, 40, 8, 18, 29),
    **_rules(CODED, 100, 27, 28),
    **_rules((SHORT,), 1, 30),
}
COORDINATES = (2, 4)  # latitude and longitude
INTEROPERABILITY_TAGS = {**_rules(TEXT, 4, 1), **_rules((UNDEFINED,), 4, 2)}
KEPT = {0: MAIN_TAGS, SUB_EXIF: EXIF_TAGS, SUB_GPS: GPS_TAGS, SUB_INTEROPERABILITY: INTEROPERABILITY_TAGS}

Entry = tuple[int, int, bytes]  # type, number of values, the values
Directory = dict[int, Entry]  # by tag
Directories = dict[int, Directory]  # 0: the main one; SUB_EXIF, SUB_GPS, SUB_INTEROPERABILITY


def clean_exif(block: bytes | None, width: int, height: int, place: bool = True) -> bytes | None:
    """What of an EXIF block says something of the photo, None if there is nothing; never raises.

    Previews, maker notes, unknown tags, and values that are not what their tag holds are left out, and so is the
    orientation: the photo, width x height pixels, stands upright. Without `place`, where it was taken goes, too.
    """
    order, found = read_directories((block or b"").removeprefix(b"Exif\0\0"))
    directories = {which: _kept(found[which], tags, order) for which, tags in KEPT.items()}
    if not place:
        directories[SUB_GPS] = {}
    if not any(directories.values()):
        return None
    for tag, length in ((WIDTH, width), (HEIGHT, height)):
        directories[SUB_EXIF][tag] = (LONG, 1, struct.pack(order + "I", length))
    while len(written := write_directories(directories, order)) > LONGEST_BLOCK:
        _, tag, directory = max((len(e[2]), tag, d) for d in directories for tag, e in directories[d].items())
        del directories[directory][tag]
    return written


def orientation(block: bytes | None) -> int:
    """The orientation that an EXIF block says, 1 to 8; 1 where it says none, or cannot be read."""
    order, found = read_directories((block or b"").removeprefix(b"Exif\0\0"))
    kind, count, value = found[0].get(ORIENTATION, (0, 0, b""))
    said = _number(value, order, 0, "H" if kind == SHORT else "I") if count == 1 and kind in NUMBER else 1
    return said if 1 <= said <= 8 else 1


def has_place(block: bytes | None) -> bool:
    """Whether an EXIF block holds coordinates."""
    _, found = read_directories((block or b"").removeprefix(b"Exif\0\0"))
    return any(tag in found[SUB_GPS] for tag in COORDINATES)


def left_out(block: bytes | None) -> list[str]:
    """What clean_exif takes from a block, in words; a block that cannot be read, too."""
    if not block:
        return []
    block = block.removeprefix(b"Exif\0\0")
    order, found = read_directories(block)
    if not any(found.values()):
        return ["EXIF that cannot be read"]
    said = ["a preview in EXIF"] if _next(block, order) else []
    return said + (["maker notes"] if MAKER_NOTE in found[SUB_EXIF] else [])


def read_directories(block: bytes) -> tuple[str, Directories]:
    """The byte order ("<" or ">") and the directories of a block, but the thumbnail's; empty where it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    if not order:
        return "<", {which: {} for which in KEPT}
    main = read_directory(block, order, _number(block, order, 4))
    exif, gps = (read_directory(block, order, _pointer(main, order, tag)) for tag in (SUB_EXIF, SUB_GPS))
    interoperability = read_directory(block, order, _pointer(exif, order, SUB_INTEROPERABILITY))
    return order, {0: main, SUB_EXIF: exif, SUB_GPS: gps, SUB_INTEROPERABILITY: interoperability}


def _kept(directory: Directory, rules: dict[int, Rule], order: str) -> Directory:
    found = {tag: _checked(entry, rules[tag], order) for tag, entry in sorted(directory.items()) if tag in rules}
    return {tag: entry for tag, entry in found.items() if entry is not None}


def _checked(entry: Entry, rule: Rule, order: str) -> Entry | None:
    """An entry as it is kept; None if it is not what its tag holds."""
    (kind, count, value), (wanted, most) = entry, rule
    if isinstance(wanted, tuple):
        return entry if kind in wanted and count <= most else None
    if kind not in (BYTE, ASCII, UNDEFINED, UTF8) or len(value) > 4 * most:  # of a character in UTF-8
        return None
    code = value[:8] if wanted == CODED and value[:8] in CODES else b""
    utf16 = f"utf-16-{'le' if order == '<' or wanted == WINDOWS else 'be'}"
    encodings = {WINDOWS: (utf16,), TEXT: ("utf-8", "cp1252")}.get(wanted, ("utf-8", "cp1252"))
    if code and CODES[code] == "utf-16":
        encodings = (utf16, "utf-16")
    for encoding in encodings:
        try:
            text = value[len(code) :].decode(encoding)
        except UnicodeDecodeError:
            continue
        text = text.rstrip("\0 ")
        parts = text.split("\0")  # the copyright may have two
        if len(text) > most or len(parts) > 2 or not text or not all(map(reads_as_text, parts)):
            continue
        end = "\0" if wanted == WINDOWS or (wanted == TEXT and kind in (ASCII, UTF8)) else ""
        written = code + (text + end).encode(encoding)
        return None if holds_picture(written) else (kind, len(written), written)
    return None


def _number(block: bytes, order: str, offset: int, size: str = "I") -> int:
    end = offset + struct.calcsize(size)
    return struct.unpack(order + size, block[offset:end])[0] if offset >= 0 and end <= len(block) else 0


def _next(block: bytes, order: str) -> int:
    """Where the directory after the main one lies: the thumbnail's; 0 if there is none."""
    main = _number(block, order, 4)
    return _number(block, order, main + 2 + 12 * _number(block, order, main, "H"))


def _pointer(directory: Directory, order: str, tag: int) -> int:
    kind, count, value = directory.get(tag, (0, 0, b""))
    return _number(value, order, 0) if kind in (LONG, 13) and count == 1 else 0


def read_directory(block: bytes, order: str, offset: int) -> Directory:
    """The entries of the directory at `offset` (0: none) whose values lie inside the block, as long as they are not
    more than the block together: thousands could share one place, and fill the memory with copies of it."""
    directory: Directory = {}
    left = len(block)
    for i in range(_number(block, order, offset, "H") if offset else 0):
        at = offset + 2 + 12 * i
        if at + 12 > len(block):
            break
        tag, kind, count = struct.unpack(order + "HHI", block[at : at + 8])
        size = (4 if kind == 13 else WIDTHS.get(kind, 0)) * count
        start = at + 8 if size <= 4 else _number(block, order, at + 8)
        if size and start + size <= len(block) and size <= left:
            left -= size
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
