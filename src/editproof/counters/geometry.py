"""Scaling, cropping, turning: what takes the pixels off the grid that the perturbation was made for. Differentiable.

After all but the first, the content is in another place: where a mask is used, it has to go through the same counter.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.randomness import generators, rand
from editproof.resolution import resize


def resize_and_back(images: Tensor, strength: float = 0.5, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] scaled by the factor `strength` and back, anti-aliased bicubic; 1 changes nothing."""
    height, width = images.shape[-2:]
    size = max(1, round(height * strength)), max(1, round(width * strength))
    return resize(resize(images, size), (height, width)).clamp(0, 1)


def fit(images: Tensor, strength: float = 1080, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] with at most `strength` pixels on the longer side, and back, anti-aliased bicubic."""
    return resize_and_back(images, min(1.0, strength / max(images.shape[-2:])))


def screenshot(images: Tensor, strength: float = 0.8, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] as a screen shows them at a factor of `strength`, recorded and scaled back.

    Bilinear in both directions, as browsers and screens do, and shifted by a random part of a pixel, as the picture's
    place on a page is no whole pixel of the screen.
    """
    height, width = images.shape[-2:]
    size = [max(8, round(height * strength)), max(8, round(width * strength))]
    shown = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    shifts = (rand((2,), generators(seed, len(images))) - 0.5).to(images)
    turn = torch.eye(2, 3, device=images.device).expand(len(images), -1, -1).clone()
    turn[:, :, 2] = shifts * 2 / torch.tensor([size[1], size[0]], device=images.device)
    grid = F.affine_grid(turn, list(shown.shape), align_corners=False)
    recorded = F.grid_sample(shown, grid, "bilinear", "border", align_corners=False)
    return F.interpolate(recorded, (height, width), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def crop(images: Tensor, strength: float = 0.9, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] cut to a share `strength` of both sides, at a random place, and scaled to full size."""
    height, width = images.shape[-2:]
    size = max(1, round(height * strength)), max(1, round(width * strength))
    cut = []
    for image, (down, right) in zip(images, rand((2,), generators(seed, len(images))).tolist(), strict=True):
        top, left = round(down * (height - size[0])), round(right * (width - size[1]))
        cut.append(image[:, top : top + size[0], left : left + size[1]])
    return resize(torch.stack(cut), (height, width)).clamp(0, 1)


def rotate(images: Tensor, strength: float = 5, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] turned counter-clockwise by `strength` degrees, enlarged until no corner is empty."""
    if strength == 0:
        return images
    height, width = images.shape[-2:]
    cos, sin = math.cos(math.radians(strength)), math.sin(math.radians(strength))
    zoom = cos + abs(sin) * max(height / width, width / height)
    turn = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], device=images.device) / zoom
    grid = F.affine_grid(turn.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bicubic", "reflection", align_corners=False).clamp(0, 1)


def flip(images: Tensor, strength: float = 0, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W), left and right exchanged; `strength` has no effect."""
    return images.flip(-1)
