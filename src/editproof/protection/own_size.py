"""A perturbation at the photo's own size, in strips: 48 megapixels need a few strips' worth of floats, no more."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from editproof.budgets import L2, LEVELS, Budget, norms
from editproof.resolution import resize

ROWS = 64  # of a strip


def scaled(picture: Tensor, size: tuple[int, int]) -> Callable[[int, int], Tensor]:
    """A picture (3, h, w) at `size` (H, W), bicubic as `resize`: a function from top and bottom row to (rows, W, 3)."""
    height, width = size
    rows = resize(torch.eye(picture.shape[-2])[None, None], (height, picture.shape[-2]))[0, 0]  # (H, h), next to all 0
    wide = resize(picture[None], (picture.shape[-2], width))[0].permute(1, 2, 0).reshape(picture.shape[-2], -1)

    def strip(top: int, bottom: int) -> Tensor:
        weights = rows[top:bottom]
        used = weights.any(0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        return (weights[:, first:last] @ wide[first:last]).view(bottom - top, width, 3)

    return strip


def lifted(delta: Tensor, size: tuple[int, int]) -> Callable[[int, int], Tensor]:
    """The perturbation (3, h, w) at `size` (H, W): a function from top and bottom row to (rows, W, 3).

    Bicubic as `resize`, but clamped to the largest value of `delta`. A service that scales the result down again keeps
    patterns that are several pixels wide at (h, w) and weakens finer ones; no other way of scaling up changes that.
    """
    strip, reach = scaled(delta, size), delta.abs().max().item()
    return lambda top, bottom: strip(top, bottom).clamp_(-reach, reach)


def painted(levels: Tensor, edited: Tensor, repaint: Tensor | None = None) -> Tensor:
    """A photo (H, W, 3) uint8 with an edit (3, h, w) in [0, 1] at its size: uint8 again.

    With `repaint` (H, W) bool, only pixels where it is True are the edit's. What `paste_back` makes of whole pictures.
    """
    out, strip = levels.clone(), scaled(edited, (levels.shape[0], levels.shape[1]))
    for top in range(0, len(levels), ROWS):
        rows = slice(top, min(top + ROWS, len(levels)))
        new = (strip(rows.start, rows.stop).clamp_(0, 1) * 255).round_().to(torch.uint8)
        out[rows] = new if repaint is None else torch.where(repaint[rows, :, None], new, levels[rows])
    return out


def lift(delta: Tensor, size: tuple[int, int]) -> Tensor:
    """The same for whole pictures: (B, 3, h, w) -> (B, 3, H, W)."""
    return torch.stack([lifted(one, size)(0, size[0]).permute(2, 0, 1) for one in delta])


def add(levels: Tensor, delta: Tensor, budget: Budget | None, keep: Tensor | None = None, grey: bool = False) -> Tensor:
    """A photo (H, W, 3) uint8 with the perturbation `delta` (3, h, w), lifted and within the budget: uint8 again.

    With `keep` (H, W) bool, only pixels where it is True change; a `grey` photo has equal channels afterwards. What
    budgets.on_grid makes of a photo on the 8-bit grid, sooner; an L2 budget is shared out among the strips by the
    length that the perturbation has in each.
    """
    height, width = levels.shape[:2]
    strip, tops = lifted(delta * LEVELS, (height, width)), range(0, height, ROWS)

    def wanted() -> Iterator[tuple[slice, Tensor]]:
        for top in tops:
            rows = slice(top, min(top + ROWS, height))
            change = strip(rows.start, rows.stop)
            yield rows, change if keep is None else change * keep[rows, :, None]

    lengths = [norms(change[None]).item() for _, change in wanted()] if isinstance(budget, L2) else [0.0] * len(tops)
    total = sum(length**2 for length in lengths) ** 0.5
    out = torch.empty_like(levels)
    for (rows, change), length in zip(wanted(), lengths, strict=True):
        if isinstance(budget, L2):
            share = max(1e-12, length / LEVELS * min(1.0, budget.eps * LEVELS / max(total, 1e-12)))
            originals = levels[rows].float()[None]
            raised = originals + L2(share * LEVELS).project(change[None])
            out[rows] = L2(share).snap(raised.clamp(0, LEVELS), originals)[0].clamp_(0, LEVELS)
            continue
        reach = LEVELS if budget is None else int(budget.eps * LEVELS + 1e-3)  # a thousandth of a level, as Linf.snap
        out[rows] = change.round_().clamp_(-reach, reach).add_(levels[rows]).clamp_(0, LEVELS)
    if grey:
        out[..., 1:] = out[..., :1]
    return out


def changes(result: Tensor, levels: Tensor) -> tuple[float, int]:
    """How far two photos (H, W, 3) uint8 differ: the mean square in [0,1] units, and the most levels of a channel."""
    square, largest = 0.0, 0
    for top in range(0, len(levels), ROWS):
        difference = (result[top : top + ROWS].float() - levels[top : top + ROWS]).flatten()
        square += difference.dot(difference).item()
        largest = max(largest, int(difference.abs_().max()))
    return square / levels.numel() / LEVELS**2, largest
