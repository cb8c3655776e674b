"""Pictures that move: GIF, APNG and animated WebP, read as clips. Their results are clips, too, as videos keep more."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from editproof.errors import UserError
from editproof.photo.colour import COLOURS, to_rgb
from editproof.photo.decoding import colours_of, quiet
from editproof.photo.moving import KINDS
from editproof.video.files import check_size

MILLISECOND = Fraction(1, 1000)
UNSAID = 100  # milliseconds that a frame is shown which does not say how long, as browsers do
BESIDE = {"exif": "EXIF", "xmp": "XMP", "XML:com.adobe.xmp": "XMP", "comment": "a comment", "Comment": "a comment"}
MATRIX, TRANSFER, LIMITED = 1, 13, 1  # FFmpeg's numbers: BT.709, sRGB, 16 to 235


def kind_of(path: Path) -> str:
    """gif, apng or webp."""
    with quiet(), Image.open(path, formats=tuple(KINDS)) as image:
        return KINDS[str(image.format)]


def said_beside(path: Path) -> list[str]:
    """What an animation says beside its frames, none of which is kept, in words."""
    with quiet(), Image.open(path, formats=tuple(KINDS)) as image:
        return list(dict.fromkeys(what for key, what in BESIDE.items() if image.info.get(key)))


def frames_of_animation(path: Path, library: Any) -> Iterator[Any]:
    """The frames as PyAV's, in sRGB, with times in milliseconds. Raises UserError for what is not kept."""
    shown, name = 0, f"clip '{path}'"
    try:
        with quiet(), path.open("rb") as file, Image.open(file, formats=tuple(KINDS)) as image:
            check_size(path, *image.size)
            if image.info.get("icc_profile"):
                raise UserError(f"{name} is an animation with a colour profile; allowed: sRGB without one")
            colours = colours_of(image, file, name)
            hidden = bool(getattr(image, "default_image", False))  # an APNG's first picture, for who sees no motion
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                if number == 0 and hidden:
                    continue
                frame.info[COLOURS] = colours
                picture, profile = to_rgb(frame, name)
                if profile is not None:
                    raise UserError(f"{name} is an animation with other colours than sRGB's; allowed: sRGB")
                if picture.mode == "RGBA" and np.asarray(picture)[..., 3].min() < 255:
                    raise UserError(f"{name} is transparent, which is not kept; allowed: opaque clips")
                rgb = np.ascontiguousarray(np.asarray(picture)[..., :3])
                video = library.VideoFrame.from_ndarray(rgb, format="rgb24")
                length = round(frame.info.get("duration") or 0) or UNSAID
                video.pts, video.duration, video.time_base = shown, length, MILLISECOND
                video.colorspace, video.color_primaries = MATRIX, MATRIX
                video.color_trc, video.color_range = TRANSFER, LIMITED
                shown += length
                yield video
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"{name} is damaged or cut off ({' '.join(str(error).split())})") from None
