"""Lossy files, by Pillow's own encoders: what every upload goes through."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def jpeg(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after a JPEG of quality `strength` (1 to 100), chroma 4:2:0 as is Pillow's default."""
    return _through_files(images, "JPEG", quality=int(strength))


def _through_files(images: Tensor, kind: str, **settings: int) -> Tensor:
    """Every picture written in memory as a file of this kind, and read back."""
    read = []
    for array in (images.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(array).save(file, format=kind, **settings)
        read.append(np.asarray(Image.open(file).convert("RGB")))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(images.device).float() / 255
