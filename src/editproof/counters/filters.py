"""Simple filters on pixels. Differentiable."""

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.randomness import generators, randn


def blur(images: Tensor, strength: float = 1, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] through a Gaussian of `strength` pixels standard deviation; edges are continued."""
    if strength == 0:
        return images
    radius = max(1, round(4 * strength))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=images.device) / strength) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    images = F.conv2d(F.pad(images, (radius, radius, 0, 0), "replicate"), kernel, groups=images.shape[1])
    return F.conv2d(F.pad(images, (0, 0, radius, radius), "replicate"), kernel.mT, groups=images.shape[1]).clamp(0, 1)


def noise(images: Tensor, strength: float = 0.03, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] with Gaussian noise of standard deviation `strength`, as a share of full scale."""
    drawn = randn(images.shape[1:], generators(seed, len(images)), images.device)
    return (images + strength * drawn).clamp(0, 1)


def median(images: Tensor, strength: float = 1, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) with each channel's median over a square of `strength` pixels around each; edges continued."""
    radius, (height, width) = int(strength), images.shape[-2:]
    padded = F.pad(images, (radius, radius, radius, radius), "replicate")
    side = range(2 * radius + 1)
    return torch.stack([padded[..., y : y + height, x : x + width] for y in side for x in side]).median(0).values


def bits(images: Tensor, strength: float = 5, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] with `strength` bits a channel; the gradient passes as if nothing were rounded."""
    levels = 2**strength - 1
    return images + ((images * levels).round() / levels - images).detach()
