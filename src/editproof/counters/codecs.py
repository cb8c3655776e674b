"""Lossy files, by Pillow's own encoders: what every upload goes through."""

import io

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from editproof.errors import UserError
from editproof.resolution import resize

SOCIAL_SIDE = 1080  # pixels, the longest side that the large platforms keep


def jpeg(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after a JPEG of quality `strength` (1 to 100), chroma 4:2:0 as is Pillow's default."""
    return _through_files(images, "JPEG", quality=int(strength))


def webp(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after a lossy WebP of quality `strength` (1 to 100)."""
    return _through_files(images, "WEBP", quality=int(strength))


def avif(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after an AVIF of quality `strength` (1 to 100)."""
    return _through_files(images, "AVIF", quality=int(strength))


def check_avif() -> None:
    """Raise UserError unless Pillow can write AVIF."""
    if not features.check("avif"):
        raise UserError(f"counter 'avif' needs Pillow 11.3 or later, built with AVIF; here is {PIL.__version__}")


def social(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] as a platform keeps them: the longest side at most 1080 pixels, then a JPEG.

    `strength` is the JPEG's quality. Larger pictures are scaled back afterwards; the others only lose to the JPEG.
    """
    height, width = images.shape[-2:]
    scale = min(1, SOCIAL_SIDE / max(height, width))
    small = resize(images, (max(1, round(height * scale)), max(1, round(width * scale)))).clamp(0, 1)
    return resize(jpeg(small, strength), (height, width)).clamp(0, 1)


def _through_files(images: Tensor, kind: str, **settings: int) -> Tensor:
    """Every picture written in memory as a file of this kind, and read back."""
    read = []
    for array in (images.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(array).save(file, format=kind, **settings)
        read.append(np.asarray(Image.open(file).convert("RGB")))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(images.device).float() / 255
