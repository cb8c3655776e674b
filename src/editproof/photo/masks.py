"""Masks: from files (white = the editor may repaint, black = keep), or of whoever is found in the photo."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.errors import UserError
from editproof.photo.decoding import read_image
from editproof.photo.reading import Photo
from editproof.resolution import working_mask

ASPECT_TOLERANCE = 0.02
AUTO = "auto"  # as a text; a file of that name is "./auto"


def open_mask(path: str | Path, size: tuple[int, int], invert: bool = False, data: bytes | None = None) -> Tensor:
    """Read a mask of any format and size and bring it to `size` (height, width).

    With `data`, the content of a file, nothing is read from the disk: `path` is only what the mask is called.

    Returns (1, 1, H, W) float32 with 1 = the editor may repaint (white in the file), 0 = keep; `invert` swaps them.
    Raises UserError if the file cannot be read or has another aspect ratio than the photo.
    """
    image, _ = read_image(Path(path), "mask", data)
    if image.mode == "RGBA":  # transparent counts as black
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return fit_mask(image.convert("L"), str(path), size, invert)


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


def check_mask(mask: str | Path | None, invert: bool = False) -> None:
    """Raise UserError if a mask file cannot be read, or an automatic mask is to be inverted."""
    if mask == AUTO and invert:
        raise UserError("an inverted mask 'auto' would give people away; allowed: a mask file with --invert-mask")
    if mask is not None and mask != AUTO:
        read_image(Path(mask), "mask")


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
