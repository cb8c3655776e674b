"""Photos: what is read of a photo file, turned upright, and PNG files of pixels."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editproof.files import atomic
from editproof.photo import png
from editproof.photo.captions import read_captions
from editproof.photo.colour import to_rgb
from editproof.photo.decoding import exif_of, opened, upright, xmp_of
from editproof.photo.exif import clean_exif, orientation
from editproof.photo.exif import has_place as exif_tells_place
from editproof.photo.jpeg_quality import written_with
from editproof.photo.removed import removed
from editproof.photo.xmp import clean_xmp, is_marked
from editproof.photo.xmp import has_place as xmp_tells_place

TURNED = (5, 6, 7, 8)  # the orientations that exchange height and width


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as it is looked at: turned upright, three channels of sRGB or of its own colour profile."""

    path: Path
    levels: Tensor  # (H, W, 3) uint8
    alpha: Tensor | None = None  # (H, W) uint8, 0 = transparent
    icc: bytes | None = None  # RGB colour profile
    exif: bytes | None = None  # without previews and orientation (exif.clean_exif)
    xmp: bytes | None = None  # the same (xmp.clean_xmp); holds what IPTC records and text chunks said, too
    dpi: tuple[float, float] | None = None
    marked: bool = False  # holds the mark of a protected photo
    sha256: str = ""  # of the file
    grey: bool = False  # all three channels are equal everywhere, and stay so
    tells_place: bool = False  # holds coordinates
    removed: tuple[str, ...] = ()  # what is not kept of the file, in words
    format: str = ""  # of the file, as Pillow calls it
    jpeg: tuple[int, str] | None = None  # its quality and chroma sampling, if it is one
    file_size: int = 0  # bytes
    size: tuple[int, int] = field(init=False)  # (height, width) in pixels

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", (self.levels.shape[0], self.levels.shape[1]))

    @property
    def pixels(self) -> Tensor:
        """(3, H, W) float32 in [0, 1], on the 8-bit grid; made anew each time."""
        return self.levels.permute(2, 0, 1).contiguous().float().div_(255)


def open_photo(path: str | Path, data: bytes | None = None) -> Photo:
    """Read a photo of any supported format, turned upright.

    EXIF and XMP data are kept but for previews and thumbnails, which would show the photo unprotected.

    Args:
        path: The file.
        data: The content of a file; then nothing is read from the disk, and `path` is only what the photo is called.

    Returns:
        The photo, its pixels (3, H, W) in [0, 1].

    Raises:
        UserError: If the file is missing, empty, damaged, not a picture, has several frames, or is out of limits.
    """
    path = Path(path)
    with opened(path, "photo", data) as image:
        image.load()  # some metadata comes after the picture
        exif, packet, captions = exif_of(image), xmp_of(image), read_captions(image)
        dpi = image.info.get("dpi")
        content = path.read_bytes() if data is None else data
        sha256, xmp = hashlib.sha256(content).hexdigest(), clean_xmp(packet, captions)
        format, jpeg, file_size = image.format or "", written_with(image), len(content)
        gone = removed(image, content, exif, packet, xmp)
        del content
        rgb, icc = to_rgb(image, f"photo '{path}'")
    turned = upright(rgb, orientation(exif))
    levels = torch.from_numpy(np.array(turned))
    alpha = levels[..., 3].clone() if levels.shape[-1] == 4 else None
    exif = clean_exif(exif, turned.width, turned.height)
    return Photo(
        path, levels[..., :3].contiguous(), alpha, icc, exif, xmp, dpi if _usable(dpi) else None, is_marked(packet),
        sha256, grey=is_grey(levels), tells_place=exif_tells_place(exif) or xmp_tells_place(xmp), removed=tuple(gone),
        format=format, jpeg=jpeg, file_size=file_size,
    )  # fmt: skip


def is_grey(levels: Tensor) -> bool:
    """Whether a photo (H, W, 3 or 4) uint8 is grey: its colour channels are equal everywhere."""
    return all(
        bool((rows[..., 0] == rows[..., 1]).all() and (rows[..., 0] == rows[..., 2]).all())
        for rows in levels.split(256)
    )


def peek(path: str | Path) -> tuple[tuple[int, int], bool]:
    """(height, width) and whether it is marked, from the beginning of a photo file. Raises UserError."""
    with opened(Path(path), "photo") as image:
        turned = image.format != "TIFF" and orientation(exif_of(image)) in TURNED  # TIFFs are turned by Pillow
        return (image.width, image.height) if turned else (image.height, image.width), is_marked(xmp_of(image))


def _usable(dpi: object) -> bool:
    return isinstance(dpi, tuple) and len(dpi) == 2 and all(1 <= x <= 65_535 for x in dpi)


def save_png(path: str | Path, pixels: Tensor, *, alpha: Tensor | None = None, icc: bytes | None = None) -> None:
    """Write pixels as an 8-bit PNG; the file appears complete or not at all.

    Args:
        path: The file.
        pixels: (3, H, W) in [0, 1], rounded to 8 bits.
        alpha: Transparency, (H, W) uint8; None: opaque.
        icc: A colour profile, as the file is to hold it.

    Raises:
        OSError: If it cannot be written.
    """
    save_levels(path, to_levels(pixels), alpha=alpha, icc=icc)


def save_levels(
    path: str | Path,
    levels: Tensor,
    *,
    alpha: Tensor | None = None,
    icc: bytes | None = None,
    overwrite: bool = True,
) -> None:
    """The same of levels (H, W, 3) uint8. `overwrite`: see files.atomic."""
    with atomic(path, overwrite=overwrite) as file:
        png.write(file, with_alpha(levels, alpha), icc=icc)


def to_levels(pixels: Tensor) -> Tensor:
    """Pixels (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (pixels.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def with_alpha(levels: Tensor, alpha: Tensor | None, channels: int = 3) -> np.ndarray:
    """Levels (H, W, 3) uint8, the first `channels` of them, and alpha (H, W) if there is one, as one array."""
    colours = levels[..., :channels]
    return np.ascontiguousarray(
        colours.numpy() if alpha is None else torch.cat([colours, alpha[..., None]], -1).numpy()
    )
