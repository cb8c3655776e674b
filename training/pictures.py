"""Pictures on the device for trainings that need no captions: crops at all scales, and what files do to them."""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from photos import LUMA, compose, load_packs, uniform
from torch import Tensor

from editproof.counters.jpeg_diff import jpeg_diff


def load_pool(packs: Path, split: str, device: torch.device, composed: int = 0) -> Tensor:
    """All portraits and scenes of a split and, with `composed`, people over other backdrops: (N,3,256,256), uint8."""
    loaded = load_packs(packs, split, str(device))
    rng, parts = random.Random(0), [loaded.portraits, loaded.scenes]
    for start in range(0, composed, 64):
        made = compose(loaded, min(64, composed - start), rng, scene_share=0.0, natural_share=0.0)
        parts.append((made.images * 255).round().byte())
    return torch.cat(parts)


def crops(pool: Tensor, count: int, side: int, low: float, high: float) -> Tensor:
    """(count,3,side,side) in [0,1]: random places, enlarged `low` to `high` times, mirrored, in other light.

    One in ten is grey. An enlargement below 1 is of the whole picture at most.
    """
    device, size = pool.device, pool.shape[-1]
    images = pool[torch.randint(len(pool), (count,), device=device)].float() / 255
    enlarged = torch.exp(uniform(count, 0, 1, device) * torch.log(torch.tensor(high / low))) * low
    share = (side / (size * enlarged)).clamp(max=1)  # of the picture's side that is seen
    centre = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - share)[:, None]
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = share * (torch.randint(0, 2, (count,), device=device) * 2 - 1)
    theta[:, 1, 1], theta[:, :, 2] = share, centre
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    seen = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    light = uniform(count, 0.7, 1.2, device)[:, None] * (1 + 0.06 * torch.randn(count, 3, device=device))
    seen = (seen * light[:, :, None, None]).clamp(0, 1)
    grey = (seen * LUMA.to(device)[:, None, None]).sum(1, keepdim=True)
    return torch.where(torch.rand(count, 1, 1, 1, device=device) < 0.1, grey, seen)


def noisy(images: Tensor, most: float = 16 / 255) -> Tensor:
    """With Gaussian noise, or random signs, of a strength of up to `most` each."""
    noise = torch.randn_like(images)
    signs = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    strength = uniform(len(images), 0, most, images.device)[:, None, None, None]
    return (images + strength * torch.where(signs, noise.sign(), noise)).clamp(0, 1)


def survive(images: Tensor, rng: random.Random) -> Tensor:
    """What happens to a photo on its way to an editor, with a gradient: one of JPEG, another size, blur, a crop, or
    nothing; sizes become multiples of 8, out of few. In float32: half precision is none for JPEG."""
    with torch.autocast(images.device.type, enabled=False):
        return _survive(images.float(), rng)


def _survive(images: Tensor, rng: random.Random) -> Tensor:
    kind = rng.choice(["none", "jpeg", "jpeg", "scale", "scale-jpeg", "blur", "crop"])
    if kind.startswith("scale"):
        factor = rng.choice([0.5, 0.5, 0.625, 0.75, 0.875, 1.25, 1.5])
        side = [max(64, round(n * factor / 8) * 8) for n in images.shape[-2:]]
        images = F.interpolate(images, size=side, mode="bilinear", antialias=factor < 1, align_corners=False)
    if kind.endswith("jpeg"):
        images = jpeg_diff(images, rng.choice([60, 70, 75, 85, 95]))
    if kind == "blur":
        images = blur(images, rng.uniform(0.4, 1.0))
    if kind == "crop":
        top, left = (rng.randrange(0, 33) for _ in range(2))
        height, width = ((n - 32) // 8 * 8 for n in images.shape[-2:])
        images = images[..., top : top + height, left : left + width]
    return images


def blur(images: Tensor, sigma: float, radius: int = 3) -> Tensor:
    """Gaussian, edges repeated."""
    axis = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-axis.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=images.shape[1])
    return F.conv2d(rows, kernel[:, :, :, None], groups=images.shape[1])
