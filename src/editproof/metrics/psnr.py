"""Peak signal-to-noise ratio."""

from torch import Tensor


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """(B, C, H, W) twice, in [0, 1] -> (B,) in dB over all pixels and channels; infinite where both are equal."""
    return -10 * (images - reference).square().flatten(1).mean(1).log10()
