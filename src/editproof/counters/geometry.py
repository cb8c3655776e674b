"""Scaling, cropping, turning: what moves the pixels off the grid that the perturbation was made for. Differentiable."""

from torch import Tensor

from editproof.resolution import resize


def resize_and_back(images: Tensor, strength: float = 0.5, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) scaled by the factor `strength` and back, anti-aliased bicubic; 1 changes nothing."""
    height, width = images.shape[-2:]
    size = max(1, round(height * strength)), max(1, round(width * strength))
    return resize(resize(images, size), (height, width)).clamp(0, 1)
