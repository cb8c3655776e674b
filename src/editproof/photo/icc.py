"""Colour profiles (ICC.1:2022): written anew from parts that can hold no picture, or made from primaries.

What is kept is a display profile of three primaries and three curves, which nearly all photos with a profile have. A
profile with tables instead is not kept: the photo's colours are converted with it (see colour).
"""

import struct

import numpy as np

from editproof.photo.prose import reads_as_text

SIGNATURE, RGB, XYZ = b"acsp", b"RGB ", b"XYZ "
HEADER, ENTRY = 128, 12  # bytes
PRIMARIES, CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
POINTS = (*PRIMARIES, b"wtpt", b"bkpt", b"lumi")  # one XYZ number each
NAMES = (b"desc", b"cprt", b"dmnd", b"dmdd")  # texts
MOST_ENTRIES, MOST_TAGS, LONGEST_NAME = 4096, 50, 500  # of a curve; tags looked at; characters of a text
PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}  # of a parametric curve, by its kind
D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parametric, kind 3: IEC 61966-2-1


def read_tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile that lie inside it; empty if it is none."""
    if len(profile) < HEADER + 4 or profile[36:40] != SIGNATURE or _long(profile, 0) > len(profile):
        return {}
    tags: dict[bytes, bytes] = {}
    for i in range(min(MOST_TAGS, _long(profile, HEADER))):
        at = HEADER + 4 + ENTRY * i
        if at + ENTRY > len(profile):
            break
        start, size = _long(profile, at + 4), _long(profile, at + 8)
        if start >= HEADER and start + size <= len(profile):
            tags.setdefault(profile[at : at + 4], profile[start : start + size])
    return tags


def space(profile: bytes) -> bytes:
    """The colour space of a profile that is whole, such as b"RGB "; empty if it is none."""
    return profile[16:20] if read_tags(profile) else b""


def clean_profile(profile: bytes) -> bytes | None:
    """A profile of three primaries and curves, written anew; None if this is no such profile.

    Of one that was written as this writes, the very same bytes.
    """
    tags = read_tags(profile)
    needed = (*PRIMARIES, *CURVES, b"wtpt")
    if profile[16:24] != RGB + XYZ or not set(needed) <= tags.keys() or any(t[:3] in (b"A2B", b"D2B") for t in tags):
        return None
    kept = {name: value for name, value in tags.items() if _is_sound(name, value)}
    if not set(needed) <= kept.keys():
        return None
    for name in (b"desc", b"cprt"):  # which every profile has
        kept.setdefault(name, _text("RGB" if name == b"desc" else "none", profile[8]))
    written = _write(profile[:100] + bytes(28), kept)
    return written if written == profile else written[:84] + bytes(16) + written[100:]  # the sum of what it was


def make_profile(chromaticities: tuple[float, ...]) -> bytes:
    """A profile of primaries with sRGB's curve; x and y of white, red, green and blue."""
    wx, wy, *primaries = chromaticities
    white = _xyz(wx, wy)
    corners = np.stack([_xyz(x, y) for x, y in zip(primaries[::2], primaries[1::2], strict=True)], 1)
    matrix = corners * np.linalg.solve(corners, white)
    cone = BRADFORD @ white
    adapt = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ np.array(D50) / cone) @ BRADFORD
    adapted = adapt @ matrix
    curve = b"para" + struct.pack(">IHH", 0, 3, 0) + struct.pack(">5i", *(round(x * 65536) for x in SRGB_CURVE))
    tags = {
        b"desc": _text("RGB primaries, sRGB curve", 4),
        b"cprt": _text("none", 4),
        b"wtpt": _point(D50),
        b"chad": b"sf32" + bytes(4) + struct.pack(">9i", *(round(x * 65536) for x in adapt.flatten())),
        **{name: _point(adapted[:, i]) for i, name in enumerate(PRIMARIES)},
        **dict.fromkeys(CURVES, curve),
    }
    header = bytearray(HEADER)
    struct.pack_into(">I4s4s4s4s", header, 8, 0x04300000, b"mntr", RGB, XYZ, struct.pack(">HH", 2024, 1))
    header[28:36] = struct.pack(">HHHH", 1, 0, 0, 0)
    header[36:40] = SIGNATURE
    header[68:80] = struct.pack(">3i", *(round(x * 65536) for x in D50))
    return _write(bytes(header), tags)


def transfer_code(profile: bytes) -> int | None:
    """The transfer characteristics (ITU-T H.273) that a profile names, None if it names none."""
    value = read_tags(profile).get(b"cicp", b"")
    return value[9] if len(value) == 12 and value[:4] == b"cicp" else None


def _is_sound(name: bytes, value: bytes) -> bool:
    """Whether a tag is what its name says and can hold no picture."""
    kind = value[:4]
    if name in POINTS:
        return kind == XYZ and len(value) == 20
    if name in CURVES:
        return _is_curve(value)
    if name == b"chad":
        return kind == b"sf32" and len(value) == 44
    if name == b"chrm":
        return kind == b"chrm" and len(value) == 36
    if name == b"cicp":
        return kind == b"cicp" and len(value) == 12
    return name in NAMES and _is_name(value)


def _is_curve(value: bytes) -> bool:
    """A gamma, a parametric curve, or a table that never falls."""
    if value[:4] == b"para" and len(value) >= 12:
        count = PARAMETERS.get(struct.unpack(">H", value[8:10])[0])
        return count is not None and len(value) == 12 + 4 * count
    count = _long(value, 8) if value[:4] == b"curv" and len(value) >= 12 else MOST_ENTRIES + 1
    if count > MOST_ENTRIES or len(value) != 12 + 2 * count:
        return False
    return count < 2 or bool((np.diff(np.frombuffer(value, ">u2", count, 12).astype(int)) >= 0).all())


def _is_name(value: bytes) -> bool:
    """A text that reads as one, in any of the three ways that profiles have it, and nothing beside it."""
    try:
        if value[:4] == b"text":
            return _reads(value[8:].rstrip(b"\0").decode("ascii"))
        if value[:4] == b"desc":  # ASCII, then Unicode, then Macintosh's 67 bytes
            count = _long(value, 8)
            rest = value[12 + count :]
            return _reads(value[12 : 12 + count].rstrip(b"\0").decode("ascii")) and not rest.strip(b"\0")
        if value[:4] != b"mluc":
            return False
        used = 16 + 12 * _long(value, 8)
        for i in range(_long(value, 8)):
            length, start = struct.unpack(">II", value[16 + 12 * i + 4 : 16 + 12 * i + 12])
            if start != used and length:  # one after the other, nothing between
                return False
            used += length
            if not _reads(value[start : start + length].decode("utf-16-be").rstrip("\0")):
                return False
        return not value[used:].strip(b"\0")
    except (UnicodeDecodeError, struct.error):
        return False


def _reads(text: str) -> bool:
    return len(text) <= LONGEST_NAME and reads_as_text(text)


def _write(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile with this header, but for its size; tags of equal content share a place."""
    table, content, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    start = HEADER + 4 + ENTRY * len(tags)
    for name, value in tags.items():
        if value not in places:
            places[value] = start + len(content)
            content += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", name, places[value], len(value))
    return struct.pack(">I", start + len(content)) + header[4:] + table + content


def _text(text: str, version: int) -> bytes:
    if version >= 4:
        encoded = text.encode("utf-16-be")
        return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded
    return b"desc" + struct.pack(">II", 0, len(text) + 1) + text.encode() + bytes(1 + 4 + 4 + 2 + 1 + 67)


def _point(xyz: "np.ndarray | tuple[float, ...]") -> bytes:
    return XYZ + bytes(4) + struct.pack(">3i", *(round(float(x) * 65536) for x in xyz))


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _long(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
