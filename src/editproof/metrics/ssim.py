"""Structural similarity."""

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.psnr import region_mean
from editproof.metrics.trial import check_pair

WINDOW, C1, C2 = 7, 0.01**2, 0.03**2  # of SSIM at a data range of 1


def _window_mean(images: Tensor) -> Tensor:
    """Mean over a 7x7 window around each pixel, the picture mirrored at its edges (the edge pixel repeated)."""
    r = WINDOW // 2
    images = torch.cat([images[..., :r, :].flip(-2), images, images[..., -r:, :].flip(-2)], -2)
    images = torch.cat([images[..., :r].flip(-1), images, images[..., -r:].flip(-1)], -1)
    return images.unfold(-2, WINDOW, 1).mean(-1).unfold(-1, WINDOW, 1).mean(-1)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity at each pixel (Wang et al. 2004), mean over the channels.

    As scikit-image's structural_similarity(win_size=7, data_range=1, full=True): uniform 7x7 window, sample covariance.
    (B, C, H, W) twice, in [0, 1] -> (B, 1, H, W); sides of at least 7 pixels. Raises UserError for other shapes.
    """
    luminance, rest = _terms(a, b)
    return (luminance * rest).mean(1, keepdim=True)


def contrast_structure_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM without its luminance term, which a shift of colour or light does not change; shapes as of ssim_map."""
    return _terms(a, b)[1].mean(1, keepdim=True)


def _terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM at each pixel and channel: luminance, and contrast with structure."""
    check_pair(a, b)
    if min(a.shape[-2:]) < WINDOW:
        raise UserError(
            f"pictures of {a.shape[-1]} x {a.shape[-2]} are too small for SSIM; allowed: sides from {WINDOW}"
        )
    a, b = a - 0.5, b - 0.5  # variances of what lies around 0 round off less
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    var_a = sample * (_window_mean(a * a) - mean_a**2)
    var_b = sample * (_window_mean(b * b) - mean_b**2)
    cov = sample * (_window_mean(a * b) - mean_a * mean_b)
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return luminance, (2 * cov + C2) / (var_a + var_b + C2)


def ssim(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of ssim_map over the picture, or where `mask` (B, 1, H, W) is 1: (B,), 1 where both are equal.

    Raises UserError for other shapes.
    """
    check_pair(images, reference, mask)
    return region_mean(ssim_map(images, reference), mask)
