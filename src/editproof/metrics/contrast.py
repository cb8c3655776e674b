"""Contrast and structure: what is left of structural similarity when shifts of light and colour count for nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.psnr import region_mean
from editproof.metrics.ssim import C2, WINDOW
from editproof.metrics.trial import check_pair

SCALES = 1, 2, 4  # pixels
SMOOTH = 0.03  # the standard deviation at which a place counts half for structure_at_scales


def contrast_structure_map(a: Tensor, b: Tensor) -> Tensor:
    """The second factor of SSIM (Wang et al. 2004) at each pixel, mean over the channels; differentiable.

    (2 cov + C2) / (var + var + C2) over a uniform 7x7 window, sample covariance, the edge pixels repeated. Where both
    pictures are smooth it is 1, whatever their colours. (B, C, H, W) twice, in [0, 1] -> (B, 1, H, W) in [-1, 1]; sides
    of at least 7 pixels. Raises UserError for other shapes.
    """
    check_pair(a, b)
    if min(a.shape[-2:]) < WINDOW:
        raise UserError(
            f"pictures of {a.shape[-1]} x {a.shape[-2]} are too small for structure; allowed: sides from {WINDOW}"
        )

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, 1)

    a, b = a - 0.5, b - 0.5  # variances of what lies around 0 round off less
    mean_a, mean_b = mean(a), mean(b)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variances = mean(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    return ((2 * sample * covariance + C2) / (sample * variances + C2)).mean(1, keepdim=True)


def contrast_structure(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of contrast_structure_map over the picture, or where `mask` (B, 1, H, W) is 1: (B,), 1 where equal.

    Raises UserError for other shapes.
    """
    check_pair(images, reference, mask)
    return region_mean(contrast_structure_map(images, reference), mask)


def structure_at_scales(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Contrast and structure as MS-SSIM looks at them (Wang et al. 2003): (B,), 1 where equal; differentiable.

    Pictures (B, C, H, W) in [0, 1] are averaged over squares of each of SCALES pixels, as far as SSIM's window fits.
    Smooth places of the reference have no structure to lose and hardly count, nor does what `mask` (B, 1, H, W) has 0.
    The mean over the scales. Raises UserError for other shapes.
    """
    check_pair(images, reference, mask)
    found = []
    for scale in SCALES:
        if scale > 1 and min(images.shape[-2:]) // scale < WINDOW:
            continue
        a, b = F.avg_pool2d(images, scale), F.avg_pool2d(reference, scale)
        spread = _spread(b)
        weight = spread / (spread + SMOOTH**2) + 1e-4
        if mask is not None:
            weight = weight * (F.avg_pool2d(mask.float(), scale) > 0.5)
        alike = contrast_structure_map(a, b) * weight
        found.append(alike.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-8))
    return torch.stack(found).mean(0)


def _spread(images: Tensor) -> Tensor:
    """The variance (B,1,H,W) of the channels' mean in SSIM's window."""
    grey = images.mean(1, keepdim=True)
    first, second = (F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False) for x in (grey, grey**2))
    return (second - first**2).clamp_min(0)
