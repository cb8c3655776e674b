"""Triton kernels of norms.py: pictures in channels-last order, (photos, hw rows, c channels).

act: 0 none, 1 SiLU, 2 ReLU; z is what goes into it, dz the gradient there. Tiles have `tall` rows and `broad` channels.
Sums, scale, shift, mean and rstd are float32.
"""

import triton
import triton.language as tl


@triton.jit
def _activated(z, act: tl.constexpr):
    if act == 1:
        z = z * tl.sigmoid(z)
    if act == 2:
        z = tl.maximum(z, 0.0)
    return z


@triton.jit
def _slope(z, act: tl.constexpr):
    if act == 1:
        s = tl.sigmoid(z)
        return s * (1 + z * (1 - s))
    if act == 2:
        return tl.where(z > 0, 1.0, 0.0)
    return tl.full(z.shape, 1.0, tl.float32)


@triton.jit
def sums_kernel(
    x, dy, scale, shift, out, hw, c, per, back: tl.constexpr, act: tl.constexpr, tall: tl.constexpr, broad: tl.constexpr
):
    """Of `per` rows of a photo, for each channel: sum of x and x * x, or (back) of dz and dz * x."""
    photo, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    channel = tl.program_id(2) * broad + tl.arange(0, broad)
    there = channel < c
    first, second = tl.zeros((broad,), tl.float32), tl.zeros((broad,), tl.float32)
    if back:
        a = tl.load(scale + photo * c + channel, mask=there, other=0.0)[None, :]
        b = tl.load(shift + photo * c + channel, mask=there, other=0.0)[None, :]
    for start in range(0, per, tall):
        row = split * per + start + tl.arange(0, tall)
        at = photo.to(tl.int64) * hw * c + row[:, None].to(tl.int64) * c + channel[None, :]
        inside = (row < hw)[:, None] & there[None, :] & (start + tl.arange(0, tall) < per)[:, None]
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if back:
            dz = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32) * _slope(v * a + b, act)
            first += tl.sum(dz, 0)
            second += tl.sum(dz * v, 0)
        else:
            first += tl.sum(v, 0)
            second += tl.sum(v * v, 0)
    to = out + ((photo * splits + split) * 2) * c + channel
    tl.store(to, first, mask=there)
    tl.store(to + c, second, mask=there)


@triton.jit
def applied_kernel(
    x,
    dy,
    scale,
    shift,
    a2,
    b2,
    out,
    hw,
    c,
    back: tl.constexpr,
    act: tl.constexpr,
    tall: tl.constexpr,
    broad: tl.constexpr,
):
    """A tile of act(x * scale + shift), or (back) of dz * scale + x * a2 + b2."""
    photo = tl.program_id(0)
    row, channel = tl.program_id(1) * tall + tl.arange(0, tall), tl.program_id(2) * broad + tl.arange(0, broad)
    there = channel < c
    at = photo.to(tl.int64) * hw * c + row[:, None].to(tl.int64) * c + channel[None, :]
    inside = (row < hw)[:, None] & there[None, :]
    of = photo * c + channel
    a = tl.load(scale + of, mask=there, other=0.0)[None, :]
    b = tl.load(shift + of, mask=there, other=0.0)[None, :]
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    z = v * a + b
    if back:
        dz = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32) * _slope(z, act)
        z = dz * a + v * tl.load(a2 + of, mask=there, other=0.0)[None, :]
        z += tl.load(b2 + of, mask=there, other=0.0)[None, :]
    else:
        z = _activated(z, act)
    tl.store(out + at, z.to(out.dtype.element_ty), mask=inside)


@triton.jit
def group_kernel(sums, weight, bias, before, mean, rstd, one, two, c, groups, splits, count, eps,
           back: tl.constexpr, width: tl.constexpr, step: tl.constexpr):  # fmt: skip
    """Of a group: mean, rstd and each channel's scale and shift, so that norm(x) = scale * x + shift; or (back) what
    makes the gradient of x: scale * dz + one * x + two.

    sums: of x and x * x, or (back) of dz and dz * x. What is normed is x + before (a number for each photo and
    channel), which is not in the sums and is added here.
    """
    photo, group = tl.program_id(0), tl.program_id(1)
    wide = c // groups
    channel = group * wide + tl.arange(0, width)
    there = tl.arange(0, width) < wide
    first, second = tl.zeros((width,), tl.float32), tl.zeros((width,), tl.float32)
    for start in range(0, splits, step):
        split = start + tl.arange(0, step)
        at = ((photo * splits + split) * 2)[:, None] * c + channel[None, :]
        inside = (split < splits)[:, None] & there[None, :]
        first += tl.sum(tl.load(sums + at, mask=inside, other=0.0), 0)
        second += tl.sum(tl.load(sums + at + c, mask=inside, other=0.0), 0)
    w = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    to = photo * c + channel
    added = tl.load(before + to, mask=there, other=0.0)
    if back:
        second += added * first
        m, r = tl.load(mean + photo * groups + group), tl.load(rstd + photo * groups + group)
        plain, moved = tl.sum(first * w, 0), tl.sum(second * w, 0)  # of dz * weight, of dz * weight * x
        slant = (moved - m * plain) * r * r * r / count
        tl.store(one + to, tl.zeros((width,), tl.float32) - slant, mask=there)
        tl.store(two + to, slant * m - r * plain / count - slant * added, mask=there)
    else:
        pixels = count / wide
        second += added * (2 * first + pixels * added)
        first += pixels * added
        m = tl.sum(first, 0) / count
        r = tl.rsqrt(tl.maximum(tl.sum(second, 0) / count - m * m, 0.0) + eps)
        tl.store(mean + photo * groups + group, m)
        tl.store(rstd + photo * groups + group, r)
        tl.store(one + to, w * r, mask=there)
        shift = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32) + w * r * (added - m)
        tl.store(two + to, shift, mask=there)


@triton.jit
def added_kernel(x, y, bias, out, c, values, wide: tl.constexpr):
    """x + y + bias, one for each channel."""
    at = tl.program_id(0).to(tl.int64) * wide + tl.arange(0, wide)
    inside = at < values
    total = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + tl.load(y + at, mask=inside, other=0.0)
    total += tl.load(bias + at % c, mask=inside, other=0.0)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def doubled_kernel(x, out, h, w, c, pixels, tall: tl.constexpr, broad: tl.constexpr):
    """Bilinear scaling to twice the height and width with aligned corners: a tile of output pixels and channels."""
    pixel = tl.program_id(0) * tall + tl.arange(0, tall)
    channel = tl.program_id(1) * broad + tl.arange(0, broad)
    across, down = pixel % (2 * w), (pixel // (2 * w)) % (2 * h)
    photo = (pixel // (4 * w * h)).to(tl.int64)
    y, x_at = down * ((h - 1) / (2.0 * h - 1)), across * ((w - 1) / (2.0 * w - 1))
    top, left = y.to(tl.int32), x_at.to(tl.int32)
    low, right = tl.minimum(top + 1, h - 1), tl.minimum(left + 1, w - 1)
    part_y, part_x = (y - top)[:, None], (x_at - left)[:, None]
    inside = (pixel < pixels)[:, None] & (channel < c)[None, :]
    first = photo * h * w
    a = tl.load(x + ((first + top * w + left) * c)[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + ((first + top * w + right) * c)[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    d = tl.load(x + ((first + low * w + left) * c)[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    e = tl.load(x + ((first + low * w + right) * c)[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    upper, lower = a + (b - a) * part_x, d + (e - d) * part_x
    at = pixel.to(tl.int64)[:, None] * c + channel[None, :]
    tl.store(out + at, (upper + (lower - upper) * part_y).to(out.dtype.element_ty), mask=inside)
