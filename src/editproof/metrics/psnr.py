"""Distances pixel by pixel: peak signal-to-noise ratio, largest change."""

import torch
from torch import Tensor

from editproof.metrics.trial import check_pair


def psnr(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, C, H, W) twice, in [0, 1] -> (B,) in dB over all channels; infinite where both are equal.

    Over all pixels, or where `mask` (B, 1, H, W) is 1. Raises UserError for other shapes.
    """
    check_pair(images, reference, mask)
    return -10 * region_mean((images - reference).square().mean(1, keepdim=True), mask).log10()


def linf(images: Tensor, reference: Tensor) -> Tensor:
    """(B, C, H, W) twice, in [0, 1] -> (B,): the largest change of a channel, in [0, 1] as budgets are.

    Raises UserError for other shapes.
    """
    check_pair(images, reference)
    return (images - reference).abs().flatten(1).amax(1)


def region_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of a map (B, 1, H, W) where the mask is 1, or everywhere: (B,)."""
    weight = torch.ones_like(values) if mask is None else mask.to(values).expand_as(values)
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
