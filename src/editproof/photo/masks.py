"""Masks: from files (white = the editor may repaint, black = keep), or of whoever is found in the photo."""

from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.errors import UserError
from editproof.photo.colour import to_rgb
from editproof.photo.decoding import exif_of, opened, upright
from editproof.photo.exif import orientation
from editproof.photo.reading import Photo
from editproof.resolution import working_mask
from editproof.surroundings import undisturbed

ASPECT_TOLERANCE = 0.02
LOW, HIGH = 50, 205  # levels that are black up to here, and white from here
COLOURED = 60  # levels between the channels of a colour
LOOKED_AT = 4_000_000  # pixels
ROWS = 256  # of a strip
FEW, MOST_BETWEEN = 0.02, 0.15  # shares of a mask: of one grey, or coloured; of greys on all its edges together
AUTO = "auto"  # as a text; a file of that name is "./auto"


@undisturbed
def open_mask(path: str | Path, size: tuple[int, int], invert: bool = False, data: bytes | None = None) -> Tensor:
    """Read a mask of any format and size (see read_mask) and bring it to a photo's size.

    Args:
        path: The file.
        size: (height, width) of the photo.
        invert: White is kept and black may be repainted, instead of the other way round.
        data: The content of a file; then nothing is read from the disk, and `path` is only what the mask is called.

    Returns:
        (1, 1, H, W) float32, 1 = the editor may repaint (white in the file), 0 = keep.

    Raises:
        UserError: If the file cannot be read, is no mask, or has another aspect ratio than the photo.
    """
    return fit_mask(read_mask(path, data), str(path), size, invert)


def read_mask(path: str | Path, data: bytes | None = None) -> Image.Image:
    """A mask file as a grey picture, upright. Everything that reads mask files reads them so.

    A mask is black and white, with greys only where edges are soft or blurred; what is transparent counts as black.
    Raises UserError for everything else, such as a photo, colours, values of 0 and 1, or a plane of grey.
    """
    path = Path(path)
    with opened(path, "mask", data) as image:
        image.load()
        deep = image.mode.startswith("I") and int(np.asarray(image).max())
        if 0 < deep < 256:
            _refuse(str(path), f"its values go from 0 to {deep} of 65535")
        rgb, _ = to_rgb(image, f"mask '{path}'")
        return mask_of(upright(rgb, orientation(exif_of(image))), str(path))


def mask_of(picture: Image.Image, name: str) -> Image.Image:
    """A picture of 8 bits as a grey one, if it is a mask (see read_mask). Raises UserError, which calls it `name`."""
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    width, height = picture.size
    grey, some = np.zeros((height, width), np.uint8), slice(None, None, 1 + width * height // LOOKED_AT)
    colours, greys, transparent = [], [], False
    for top in range(0, height, ROWS):  # in strips: a mask may have 150 megapixels
        strip = picture.crop((0, top, width, min(top + ROWS, height))).convert(mode)
        pixels, levels = np.asarray(strip), np.asarray(strip.convert("RGB").convert("L"))
        seen = pixels[..., 3] >= 128 if mode == "RGBA" else np.ones(levels.shape, bool)
        grey[top : top + ROWS][seen] = levels[seen]
        colours.append(pixels[seen][some, :3])
        greys.append(levels[seen][some])
        transparent |= not seen.all()
    _check_values(name, np.concatenate(colours), np.concatenate(greys), int(grey.max()), transparent)
    return Image.fromarray(grey)


def _check_values(name: str, colours: np.ndarray, grey: np.ndarray, highest: int, transparent: bool) -> None:
    """Raise UserError unless colours (N, 3) and greys (N,) of what is seen of a mask are black and white."""
    hole = ", and it has transparent parts" if transparent else ""
    if len(grey) == 0:
        _refuse(name, "it is transparent everywhere")
    coloured = (colours.max(1).astype(int) - colours.min(1) > COLOURED).mean()
    if coloured > FEW:
        _refuse(name, f"{coloured:.0%} of it is coloured, as in a photo{hole}")
    if 0 < highest < HIGH:
        _refuse(name, f"its values go from 0 to {highest} of 255{hole}")
    counts = np.bincount(grey, minlength=256) / len(grey)
    between = counts[LOW + 1 : HIGH]
    if between.sum() > MOST_BETWEEN or between.max() > FEW:
        _refuse(name, f"{between.sum():.0%} of it is grey, neither black nor white{hole}")
    if transparent and highest == 0:
        _refuse(name, "it is black on transparent ground, and what is transparent counts as black, too")


def _refuse(name: str, found: str) -> NoReturn:
    raise UserError(
        f"'{name}' is no mask ({found}); allowed: a black-and-white picture, white (255) where the editor may repaint, "
        "black (0) where the photo is kept"
    )


def fit_mask(grey: Image.Image, name: str, size: tuple[int, int], invert: bool = False) -> Tensor:
    """A grey picture as the mask (1, 1, H, W) of a photo of `size`. Raises UserError for another aspect ratio."""
    height, width = size
    if abs(grey.width * height / (grey.height * width) - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"mask '{name}' has {grey.width} x {grey.height} pixels, another aspect ratio than the photo's "
            f"{width} x {height}; allowed: the photo's aspect ratio"
        )
    if grey.size != (width, height):
        grey = grey.resize((width, height), Image.Resampling.BILINEAR)
    repaint = (np.asarray(grey) >= 128) != invert
    return torch.from_numpy(repaint.astype(np.float32))[None, None]


def check_inverted(mask: str | Path | None, invert: bool) -> None:
    """Raise UserError where there is no mask to invert."""
    if mask is None and invert:
        raise UserError("there is no mask that --invert-mask would invert; allowed: a mask file with --invert-mask")


def check_mask(mask: str | Path | None, invert: bool = False) -> None:
    """Raise UserError if a mask file cannot be read, or an automatic mask is to be inverted."""
    if mask == AUTO and invert:
        raise UserError("an inverted mask 'auto' would give people away; allowed: a mask file with --invert-mask")
    if mask is not None and mask != AUTO:
        read_mask(mask)


def found_mask(photo: Photo, size: tuple[int, int]) -> tuple[Tensor | None, str]:
    """The automatic mask (1, 1, H, W) of a photo that is worked on at `size`, and a sentence on who was found.

    None where the whole photo is to be protected: nobody was found, or nobody large enough.
    """
    from editproof.people.finding import auto_mask

    mask, found = auto_mask(photo.levels.permute(2, 0, 1))
    if mask is not None and bool((working_mask(mask, size) == 1).all()):
        return None, "nobody found who is large enough: the whole photo is protected"
    return mask, found


def edit_mask(mask: str | Path, photo: Photo, size: tuple[int, int], invert: bool = False) -> Tensor:
    """The mask (1, 1, H, W) of a photo that is edited at `size`: that of the file, or automatic. Raises UserError."""
    if mask != AUTO:
        opened = open_mask(mask, photo.size, invert)
    else:
        check_mask(mask, invert)
        automatic, _ = found_mask(photo, size)
        if automatic is None:
            raise UserError(f"nobody is found in photo '{photo.path}' for --mask auto; allowed: a mask file")
        opened = automatic
    check_something_to_edit(opened, str(mask), size)
    return opened


def check_something_to_protect(mask: Tensor, name: str, size: tuple[int, int] | None = None) -> None:
    """Raise UserError if the mask lets the editor repaint everything, so that nothing is left to protect.

    With `size` (height, width), that at which the photo is worked on, this must not come of scaling to it either.
    """
    if bool((mask == 1).all()):
        raise UserError(
            f"mask '{name}' is white everywhere (nothing to protect); allowed: black where the picture is to be kept"
        )
    if size is not None and bool((working_mask(mask, size) == 1).all()):
        raise UserError(
            f"mask '{name}' has too little black (nothing to protect once the photo is worked on at "
            f"{size[1]} x {size[0]} pixels); allowed: a larger part to keep"
        )


def check_something_to_edit(mask: Tensor, name: str, size: tuple[int, int] | None = None) -> None:
    """Raise UserError if the mask keeps everything, so that nothing is left to edit, also at `size` as above."""
    if bool((mask == 0).all()):
        raise UserError(
            f"mask '{name}' is black everywhere (nothing to edit); allowed: white where the editor may repaint"
        )
    if size is not None and bool((working_mask(mask, size) == 0).all()):
        raise UserError(
            f"mask '{name}' has too little white (nothing to edit once the photo is worked on at "
            f"{size[1]} x {size[0]} pixels); allowed: a larger part to repaint"
        )
