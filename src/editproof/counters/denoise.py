"""Denoisers of scikit-image, made for camera noise: how much of a perturbation is taken for it?"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from editproof.errors import UserError


def nlm(images: Tensor, strength: float = 0.05, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] through non-local means (Buades et al. 2005), 5x5 patches within 6 pixels.

    `strength` is the filter's h: patches that differ by so much, in [0,1] units, are still averaged.
    """
    from skimage.restoration import denoise_nl_means

    return _one_by_one(
        images,
        lambda array: denoise_nl_means(array, 5, 6, strength, fast_mode=True, channel_axis=-1) if strength else array,
    )


def wavelet(images: Tensor, strength: float = 0.05, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after BayesShrink of their wavelet coefficients (Chang et al. 2000), in YCbCr.

    `strength` is the standard deviation, in [0,1] units, of the noise that is assumed. Needs PyWavelets.
    """
    from skimage.restoration import denoise_wavelet

    return _one_by_one(
        images,
        lambda array: (
            denoise_wavelet(
                array, sigma=strength, method="BayesShrink", convert2ycbcr=True, rescale_sigma=True, channel_axis=-1
            )
            if strength
            else array
        ),
    )


def check_wavelet() -> None:
    """Raise UserError unless PyWavelets is there."""
    if find_spec("pywt") is None:
        raise UserError("counter 'wavelet' needs PyWavelets: pip install 'editproof[counters]'")


def _one_by_one(images: Tensor, denoise: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """A function of one picture (H,W,3), float64 in [0,1], on each."""
    arrays = images.detach().double().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    denoised = np.stack([denoise(array) for array in arrays])
    return torch.from_numpy(denoised).permute(0, 3, 1, 2).to(images.device).float().clamp(0, 1)
