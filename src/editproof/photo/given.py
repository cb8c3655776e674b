"""Photos and masks as Python programs give them, as the tensors that everything here works on.

What is unambiguous is accepted: tensors and arrays of any layout, pictures of Pillow, paths. Everything else is refused
in one line, before it could become a white picture.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.errors import UserError
from editproof.photo.masks import fit_mask, mask_of, open_mask
from editproof.photo.reading import open_photo

OVER = 1e-3  # by which floats may leave [0, 1], as rounding makes them
PICTURES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # modes of 8 bits
ALLOWED = "allowed: a tensor (B, 3, H, W) of floats from 0 to 1 or of uint8, an array, a picture of Pillow, or a path"
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MASKS = "allowed: 1 where the editor may repaint and 0 elsewhere, (1 or B, 1, H, W) or (H, W); a path of a mask file"


def as_images(given: Any, name: str = "images") -> Tensor:
    """Photos as (B, 3, H, W) float32 in [0, 1]; `name` is what messages call them.

    Args:
        given: a tensor or array of uint8, or of floats in [0, 1]: (B, 3, H, W), (B, H, W, 3), one photo of these, or
            grey ones (B, 1, H, W), (1, H, W), (H, W); a picture of Pillow; the path of a photo file.
        name: what the message of an error calls them.

    Returns:
        The photos, on the device where they were.

    Raises:
        UserError: for everything else: other types and layouts, values out of range, NaN.
    """
    if isinstance(given, str | Path):
        return open_photo(given).pixels[None]
    if isinstance(given, Image.Image):
        if given.mode not in PICTURES:
            raise UserError(f"{name} is a picture of mode {given.mode}; allowed: {', '.join(PICTURES)}")
        if 0 in given.size:
            raise UserError(f"{name} is a picture without pixels; {ALLOWED}")
        given = np.asarray(given.convert("RGB"))
    if not isinstance(given, Tensor | np.ndarray):
        raise UserError(f"{name} is of type {type(given).__name__}; {ALLOWED}")
    images = _numbers(given, name, ALLOWED)
    shape = tuple(images.shape)
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 3:
        images = images[None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[-1] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in shape:
        raise UserError(f"{name} is of shape {shape}; {ALLOWED}")
    return (_in_range(images, name).expand(-1, 3, -1, -1)).contiguous()


def is_one(given: Any) -> bool:
    """Whether one photo is given, not several."""
    return not isinstance(given, Tensor | np.ndarray) or given.ndim < 4


def as_mask(given: Any, images: Tensor, name: str = "mask") -> Tensor | None:
    """A mask as (1 or B, 1, H, W) float32 of 0 and 1 for images (B, 3, H, W); None stays None.

    Args:
        given: a tensor or array of 0 and 1 (of uint8 also 0 and 255), bools too: (1 or B, 1, H, W), (1 or B, H, W) or
            (H, W); a black-and-white picture of Pillow, or the path of a mask file, which are brought to the size.
        images: what it is for.
        name: what the message of an error calls it.

    Raises:
        UserError: for everything else, such as values between 0 and 1, or another size.
    """
    count, size = len(images), (images.shape[-2], images.shape[-1])
    if given is None:
        return None
    if isinstance(given, str | Path):
        return open_mask(given, size).to(images.device)
    if isinstance(given, Image.Image):
        if 0 in given.size:
            raise UserError(f"{name} is a picture without pixels; {MASKS}")
        return fit_mask(mask_of(given, name), name, size).to(images.device)
    if not isinstance(given, Tensor | np.ndarray):
        raise UserError(f"{name} is of type {type(given).__name__}; {MASKS}")
    mask = _numbers(given, name, MASKS)
    shape = tuple(mask.shape)
    if mask.ndim == 2:
        mask = mask[None, None]
    elif mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[0] not in (1, count) or tuple(mask.shape[-2:]) != size:
        raise UserError(f"{name} is of shape {shape}, the images are {tuple(images.shape)}; {MASKS}")
    mask = mask.float() / (255 if mask.dtype == torch.uint8 and int(mask.max()) == 255 else 1)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(f"{name} holds values from {mask.min():g} to {mask.max():g}, others than 0 and 1; {MASKS}")
    return mask.to(images.device)


def _numbers(given: Tensor | np.ndarray, name: str, allowed: str) -> Tensor:
    """A tensor of uint8, bool or floats."""
    if isinstance(given, np.ndarray):
        try:
            given = torch.from_numpy(np.array(given, given.dtype.newbyteorder("="), order="C"))
        except (TypeError, ValueError):
            raise UserError(f"{name} is an array of {given.dtype}; {allowed}") from None
    if given.layout != torch.strided or given.is_meta:
        raise UserError(f"{name} is {'without memory' if given.is_meta else 'sparse'}; {allowed}")
    if given.is_inference():
        given = given.clone()  # or no gradient could go through it
    if given.dtype not in (*FLOATS, torch.uint8, torch.bool):
        raise UserError(f"{name} is of {str(given.dtype).removeprefix('torch.')}; {allowed}")
    return given


def _in_range(images: Tensor, name: str) -> Tensor:
    """Levels or floats as float32 in [0, 1]."""
    if images.dtype == torch.bool:
        raise UserError(f"{name} is of bool; {ALLOWED}")
    if images.dtype == torch.uint8:
        return images.float() / 255
    lowest, highest = images.detach().aminmax()
    if not -OVER <= lowest <= highest <= 1 + OVER:  # NaN, too
        raise UserError(f"{name} holds values from {lowest:g} to {highest:g}; {ALLOWED}")
    return images.float().clamp(0, 1)
