"""Perturbations that hold still where a clip does: what has not moved keeps the perturbation that it had.

Each frame is compared with a reference: what the picture showed, pixel by pixel, when its perturbation was computed. So
slow changes add up until they count, and nothing drifts.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

STILL, MOVED = 2 / 255, 5 / 255  # of a local mean: up to the first nothing has moved, from the second on all is new
MEAN, AROUND = 5, 9  # pixels at the working size: the side of that mean, and how far a change is felt


def moved(now: Tensor, reference: Tensor) -> Tensor:
    """How far each pixel is another: (C,h,w) twice, in [0,1] -> (1,h,w), 0 still to 1 all new."""
    difference = functional.avg_pool2d((now - reference)[None], MEAN, 1, MEAN // 2, count_include_pad=False).abs()
    change = functional.max_pool2d(difference.amax(1, keepdim=True), AROUND, 1, AROUND // 2)
    return ((change - STILL) / (MOVED - STILL)).clamp(0, 1)[0]


def follow(frames: Sequence[Tensor], reference: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """What is new in each of consecutive frames (C,h,w), and the reference after them; None: all is new at first."""
    news = []
    for frame in frames:
        new = torch.ones_like(frame[:1]) if reference is None else moved(frame, reference)
        reference = frame if reference is None else torch.lerp(reference, frame, new)
        news.append(new)
    assert reference is not None
    return news, reference


def hold(
    news: Sequence[Tensor], last: Tensor | None, compute: Callable[[list[int]], Sequence[Tensor]]
) -> tuple[list[Tensor], list[int]]:
    """Perturbations (3,h,w) for frames with these news, and which of them each frame has: -1 for `last`.

    `compute` is asked for those of the frames in which something is new.
    """
    needed = [i for i, new in enumerate(news) if (last is None and i == 0) or bool((new > 0).any())]
    fresh = dict(zip(needed, compute(needed) if needed else [], strict=True))
    deltas: list[Tensor] = []
    which: list[int] = []
    for i, new in enumerate(news):
        if i in fresh:
            last = fresh[i] if last is None else torch.lerp(last, fresh[i], new)
            deltas.append(last)
        which.append(len(deltas) - 1)
    return deltas, which
