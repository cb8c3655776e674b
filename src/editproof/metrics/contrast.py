"""Contrast and structure: what is left of structural similarity when shifts of light and colour count for nothing."""

import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.psnr import region_mean
from editproof.metrics.ssim import C2, WINDOW
from editproof.metrics.trial import check_pair


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
