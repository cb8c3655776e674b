"""Pictures that move: GIF, APNG and animated WebP, read as clips. Their results are clips, too, as videos keep more."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from editproof.errors import UserError
from editproof.photo.moving import KINDS

MILLISECOND = Fraction(1, 1000)
UNSAID = 100  # milliseconds that a frame is shown which does not say how long, as browsers do
MATRIX, TRANSFER, LIMITED = 1, 13, 1  # FFmpeg's numbers: BT.709, sRGB, 16 to 235


def kind_of(path: Path) -> str:
    """gif, apng or webp."""
    with Image.open(path, formats=tuple(KINDS)) as image:
        return KINDS[str(image.format)]


def frames_of_animation(path: Path, library: Any) -> Iterator[Any]:
    """The frames as PyAV's, in sRGB, with times in milliseconds. Raises UserError for what is not kept."""
    shown = 0
    try:
        with Image.open(path, formats=tuple(KINDS)) as image:
            if image.info.get("icc_profile"):
                raise UserError(f"clip '{path}' is an animation with a colour profile; allowed: sRGB without one")
            hidden = bool(getattr(image, "default_image", False))  # an APNG's first picture, for who sees no motion
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                if number == 0 and hidden:
                    continue
                rgba = np.asarray(frame.convert("RGBA"))
                if (rgba[..., 3] < 255).any():
                    raise UserError(f"clip '{path}' is transparent, which is not kept; allowed: opaque clips")
                video = library.VideoFrame.from_ndarray(np.ascontiguousarray(rgba[..., :3]), format="rgb24")
                length = round(frame.info.get("duration") or 0) or UNSAID
                video.pts, video.duration, video.time_base = shown, length, MILLISECOND
                video.colorspace, video.color_primaries = MATRIX, MATRIX
                video.color_trc, video.color_range = TRANSFER, LIMITED
                shown += length
                yield video
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"clip '{path}' is damaged or cut off ({' '.join(str(error).split())})") from None
