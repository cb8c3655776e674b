"""Luminance and chrominance, for the metrics that were defined on them."""

import torch
from torch import Tensor

# Y, I, Q of NTSC from R, G, B; the first row is also the luma of ITU-R BT.601.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def yiq(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> (B, 3, H, W): luminance in 0..255, and the two chrominances on that scale."""
    matrix = torch.tensor(YIQ, dtype=images.dtype, device=images.device)
    return 255 * torch.einsum("cd,bdhw->bchw", matrix, images)
