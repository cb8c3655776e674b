"""Visual information fidelity, in pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.luminance import yiq
from editproof.metrics.trial import check_pair

LEAST = 41  # pixels: below, the coarsest scale has no whole window
NOISE = 2.0  # variance of the eye's own noise, for luminance in 0..255
TINY = 1e-10


def vif(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """VIFp of Sheikh and Bovik (IEEE TIP 2006), on luminance at four scales: (B,), 1 where both are equal.

    How much of what an eye could learn from the reference can still be learnt from the images; above 1 where contrast
    was raised, 1 where the reference is flat. With a mask (B, 1, H, W), each window counts as far as it lies where the
    mask is 1. (B, 3, H, W) twice, in [0, 1]. Raises UserError for other shapes and for sides under 41 pixels.
    """
    check_pair(images, reference, mask)
    if images.shape[1] != 3 or min(images.shape[-2:]) < LEAST:
        raise UserError(
            f"VIF cannot be taken of pictures of {tuple(images.shape)}; allowed: 3 channels, sides from {LEAST} pixels"
        )
    distorted, source = (yiq(picture)[:, :1] - 127.5 for picture in (images, reference))  # rounds off less around 0
    weight = torch.ones_like(source) if mask is None else mask.to(source).expand_as(source)
    kept = whole = torch.full((len(images),), TINY, dtype=source.dtype, device=source.device)
    for scale in range(4):
        window = _gaussian(2 ** (4 - scale) + 1, source)
        if scale:
            source, distorted, weight = (_blur(x, window)[..., ::2, ::2] for x in (source, distorted, weight))
        mean_s, mean_d = _blur(source, window), _blur(distorted, window)
        var_s = (_blur(source**2, window) - mean_s**2).clamp(min=0)
        var_d = (_blur(distorted**2, window) - mean_d**2).clamp(min=0)
        gain = (_blur(source * distorted, window) - mean_s * mean_d) / (var_s + TINY)
        gain = torch.where((var_s < TINY) | (var_d < TINY), 0, gain).clamp(min=0)  # negative: nothing is kept
        added = (var_d - gain**2 * var_s).clamp(min=TINY)  # what the distortion put in: blur scales, noise adds
        counted = _blur(weight, window)
        kept = kept + (counted * (1 + gain**2 * var_s / (added + NOISE)).log()).sum((1, 2, 3))
        whole = whole + (counted * (1 + var_s / NOISE).log()).sum((1, 2, 3))
    return kept / whole


def _gaussian(side: int, like: Tensor) -> Tensor:
    """A Gaussian of standard deviation side / 5, in one dimension; its sum is 1."""
    x = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
    bell = (-(x**2) / (2 * (side / 5) ** 2)).exp()
    return bell / bell.sum()


def _blur(images: Tensor, window: Tensor) -> Tensor:
    """(B, 1, H, W) filtered along both sides, where the window fits in."""
    return F.conv2d(F.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
