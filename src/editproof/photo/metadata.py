"""How much of what a file says beside its picture goes with a protected photo."""

from dataclasses import replace

from editproof.errors import UserError
from editproof.photo.exif import clean_exif
from editproof.photo.reading import Photo
from editproof.photo.xmp import clean_xmp

KEEP, NO_PLACE, STRIP = "keep", "no-place", "strip"
METADATA = (KEEP, NO_PLACE, STRIP)


def check_metadata(choice: str) -> None:
    """Raise UserError unless this is one of METADATA."""
    if choice not in METADATA:
        raise UserError(f"metadata '{choice}' is unknown; allowed: {', '.join(METADATA)}")


def with_metadata(photo: Photo, choice: str) -> Photo:
    """A photo with all of its metadata, without the place where it was taken, or without any.

    The colour profile stays in any case: without it the colours would be others.
    """
    if choice == STRIP:
        return replace(photo, exif=None, xmp=None, dpi=None, tells_place=False)
    if choice == NO_PLACE:
        height, width = photo.size
        exif, xmp = clean_exif(photo.exif, width, height, place=False), clean_xmp(photo.xmp, place=False)
        return replace(photo, exif=exif, xmp=xmp, tells_place=False)
    return photo
