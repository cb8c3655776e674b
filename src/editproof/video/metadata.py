"""What a clip says of itself: titles, places, comments. What hides a picture goes, and what was lost is listed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from editproof.photo.metadata import KEEP, STRIP
from editproof.photo.prose import reads_as_text

TECHNICAL = (  # of the file as it was, not of the clip
    *("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "handler_name", "vendor_id"),
    *("alpha_mode", "stereo_mode", "software", "bps", "number_of_frames", "number_of_bytes"),
)
PLACE = ("location", "gps", "xyz", "latitude", "longitude", "geo")  # in names of what says where
COORDINATES = re.compile(r"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?")  # ISO 6709
SPOKEN = re.compile(rb"latitude|longitude|\bGPS\b", re.IGNORECASE)  # in subtitles, as drones write them
MOST = 100  # of names that are kept, so that no picture is cut into thousands of short texts
APPLE = ("com.apple.", "com.android.")  # beginnings of names that only an `mdta` list holds in MP4 and MOV


@dataclass(frozen=True)
class Said:
    """The metadata of a clip's container and of its video stream, and its chapters."""

    clip: Mapping[str, str] = field(default_factory=dict)
    video: Mapping[str, str] = field(default_factory=dict)
    chapters: Sequence[Mapping[str, Any]] = ()


def kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """What is to be kept of a container's, a stream's or a chapter's metadata."""
    plain = [
        (key, value)
        for key, value in metadata.items()
        if not _technical(key) and reads_as_text(value) and reads_as_text(key)
    ]
    return dict(plain[:MOST])


def chosen(said: Said, choice: str) -> Said:
    """What of a clip's metadata may be kept by one of photo.metadata's choices; chapters keep their times."""
    if choice == KEEP:
        return said
    return Said(
        _without(said.clip, choice),
        _without(said.video, choice),
        [{**chapter, "metadata": _without(chapter["metadata"], choice)} for chapter in said.chapters],
    )


def _without(metadata: Mapping[str, str], choice: str) -> dict[str, str]:
    return {} if choice == STRIP else {key: value for key, value in metadata.items() if not says_where(key, value)}


def says_where(key: str, value: str) -> bool:
    """Whether an entry tells a place."""
    return any(part in key.lower() for part in PLACE) or COORDINATES.match(value.strip()) is not None


def tells_place(said: Said) -> bool:
    """Whether a clip's metadata tells a place."""
    everything = [said.clip, said.video, *(chapter["metadata"] for chapter in said.chapters)]
    return any(says_where(key, value) for metadata in everything for key, value in metadata.items())


def kept_chapters(chapters: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chapters with what is kept of their titles."""
    return [{**chapter, "metadata": kept(chapter["metadata"])} for chapter in chapters]


def lost(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names of what was said before and is not after, whatever it is called there."""
    values, names = {value.strip() for value in after.values()} | {""}, {key.lower() for key in after}
    left = kept(before)
    gone = {key for key, value in left.items() if key.lower() not in names and value.strip() not in values}
    return [key for key in before if key in gone or (key not in left and not _technical(key))]


def needs_list(metadata: Mapping[str, str]) -> bool:
    """Whether MP4 and MOV hold this metadata in an `mdta` list only, as phones write it."""
    return any(key.lower().startswith(APPLE) for key in metadata)


def not_said(before: Said, after: Said) -> list[str]:
    """What a clip said and its result does not, in words."""
    names = [*lost(before.clip, after.clip), *lost(before.video, {**after.clip, **after.video})]
    titles = [
        f"the title of chapter {number}"
        for number, (old, new) in enumerate(zip(before.chapters, after.chapters, strict=False), 1)
        if lost(old["metadata"], new["metadata"])
    ]
    missing = len(before.chapters) - len(after.chapters)
    return [*(f"metadata '{name}'" for name in names), *titles, *([f"{missing} chapters"] if missing > 0 else [])]


def _technical(key: str) -> bool:
    """`bps-eng` and `_statistics_tags`, too, which Matroska's programs write."""
    name = key.lower().partition("-")[0]
    return name in TECHNICAL or name.startswith("_statistics")
