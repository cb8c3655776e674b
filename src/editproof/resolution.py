"""Between a photo's own size and the size an editor works at."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 16  # of both sides at the editor's size: what the immunizer and latent diffusion UNets divide by


def working_size(height: int, width: int, side: int) -> tuple[int, int]:
    """The size at which a photo is protected: its whole frame, the area of an editor of side x side pixels.

    The aspect ratio is kept up to rounding both sides to multiples of 16.
    """
    scale = side / math.sqrt(height * width)
    return tuple(max(MULTIPLE, round(length * scale / MULTIPLE) * MULTIPLE) for length in (height, width))  # type: ignore[return-value]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Anti-aliased bicubic scaling of (B, C, H, W) to `size`; the same tensor where the size is right already."""
    if images.shape[-2:] == torch.Size(size):
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)


def working_copy(images: Tensor, size: tuple[int, int]) -> Tensor:
    """What an editor is given of photos (B, 3, H, W), float in [0, 1] or uint8: (B, 3, h, w) float on the 8-bit grid.

    Scaled as uint8 on the CPU, which is what Pillow's bicubic filter makes of them and ten times as quick as floats.
    """
    levels = images if images.dtype == torch.uint8 else (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return (resize(levels.cpu(), size).float() / 255).to(images.device)


def working_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask (B, 1, H, W) of 0 and 1 at the editor's size: what more than half of a pixel is."""
    return (resize(mask, size) > 0.5).to(mask.dtype)
