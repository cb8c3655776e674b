"""GroupNorm and the SiLU behind it as one, on CUDA, for values in channels-last order; with a gradient for the input.

PyTorch's GroupNorm wants each channel's values together, convolutions on tensor cores want channels last, so that a
norm costs two copies beside its own passes. Here it reads its input twice and writes once, and the gradient goes the
same way. Needs Triton, which comes with PyTorch for CUDA on Linux.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from editproof.editors.speed.norm_kernels import added_kernel, applied_kernel, doubled_kernel, group_kernel, sums_kernel

ROWS, CHANNELS, VALUES = 64, 64, 2048  # of a tile
LARGEST = 65_535 * ROWS  # pixels: CUDA takes no more tiles in that direction
PROGRAMS = 1024  # that a GPU is to have at least, where there are tiles enough


def _grouped(
    x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, before: Tensor, scale: Tensor, shift: Tensor, mean: Tensor,
    rstd: Tensor, one: Tensor, two: Tensor, eps: float, back: bool, act: int,
) -> None:  # fmt: skip
    """Fill `one` and `two` (N,C), and forwards mean and rstd (N,G), from what is summed over x."""
    photos, channels, hw, groups = len(x), x.shape[1], x.shape[2] * x.shape[3], mean.shape[1]
    blocks, width = triton.cdiv(channels, CHANNELS), triton.next_power_of_2(channels // groups)
    splits = max(1, min(triton.cdiv(hw, ROWS), PROGRAMS // (photos * blocks)))
    sums = torch.empty(photos, splits, 2, channels, device=x.device, dtype=torch.float32)
    sums_kernel[(photos, splits, blocks)](
        x, dy, scale, shift, sums, hw, channels, triton.cdiv(hw, splits), back, act, ROWS, CHANNELS
    )
    count = hw * (channels // groups)
    group_kernel[(photos, groups)](
        sums, weight, bias, before, mean, rstd, one, two, channels, groups, splits, count, eps, back, width, 64
    )


def _apply(x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, a2: Tensor, b2: Tensor, back: bool, act: int) -> Tensor:
    out, hw, channels = torch.empty_like(x), x.shape[2] * x.shape[3], x.shape[1]
    grid = len(x), triton.cdiv(hw, ROWS), triton.cdiv(channels, CHANNELS)
    applied_kernel[grid](x, dy, scale, shift, a2, b2, out, hw, channels, back, act, ROWS, CHANNELS)
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, groups: int, eps: float, act: int
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        scale, shift = torch.empty(2, len(x), x.shape[1], device=x.device, dtype=torch.float32)
        mean, rstd = torch.empty(2, len(x), groups, device=x.device, dtype=torch.float32)
        _grouped(x, x, weight, bias, before, scale, shift, mean, rstd, scale, shift, eps, False, act)
        ctx.save_for_backward(x, weight, before, scale, shift, mean, rstd)
        ctx.act = act
        return _apply(x, x, scale, shift, scale, shift, False, act)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, before, scale, shift, mean, rstd = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        a2, b2 = torch.empty(2, *scale.shape, device=x.device, dtype=torch.float32)
        _grouped(x, dy, weight, weight, before, scale, shift, mean, rstd, a2, b2, 0.0, True, ctx.act)
        return _apply(x, dy, scale, shift, a2, b2, True, ctx.act), *(None,) * 6


ACTIVATIONS = {"none": 0, "silu": 1, "relu": 2}


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, activation: str, before: Tensor | None = None
) -> Tensor:
    """activation(GroupNorm(x + before)) of x (N,C,H,W) on a GPU, channels last; a gradient for x only.

    before: (C) or (N,C); nothing if None.
    """
    if before is None:
        before = torch.zeros(x.shape[:2], device=x.device)
    before = before.float().expand(x.shape[:2]).contiguous()
    return _Norm.apply(x, weight, bias, before, groups, eps, ACTIVATIONS[activation])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        out = torch.empty_like(y)
        added_kernel[(triton.cdiv(out.numel(), VALUES),)](x, y, bias, out, out.shape[1], out.numel(), VALUES)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        return dy, dy, None


def added(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """x + y (N,C,H,W) + bias (C) on a GPU, channels last; no gradient for the bias."""
    return _Sum.apply(*(z.contiguous(memory_format=torch.channels_last) for z in (x, y)), bias)


def doubled(x: Tensor) -> Tensor:
    """Bilinear scaling (aligned corners) of x (N,C,H,W) on a GPU, channels last, to twice the size; no gradient."""
    x = x.contiguous(memory_format=torch.channels_last)
    photos, channels, height, width = x.shape
    out = torch.empty(
        photos, channels, 2 * height, 2 * width, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    pixels = photos * 4 * height * width
    grid = triton.cdiv(pixels, ROWS), triton.cdiv(channels, CHANNELS)
    doubled_kernel[grid](x, out, height, width, channels, pixels, ROWS, CHANNELS)
    return out
