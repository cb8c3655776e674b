"""Counters inside an attack or a training, so that what comes out survives them.

The text lists chains of differentiable counters: of "none,jpeg-diff:75,resize:0.5+jpeg-diff:75" each step draws one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.counters import COUNTERS, differentiable, make_stages
from editproof.errors import UserError

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

Transform = str | Callable[[Tensor], Tensor]


def make_transform(
    transform: Transform | None, editor: "Editor | None", seed: int
) -> Callable[[Tensor], Tensor] | None:
    """What `pgd(transform=...)` takes: images (B,3,H,W) in [0,1] -> the same size, differentiable, not rounded.

    Every call draws one of the listed chains, the same for all photos, and a new seed for it; what is drawn depends on
    `seed` and the number of the call only. A function is returned as it is, and None for none. Raises UserError.
    """
    if transform is None or callable(transform):
        return transform
    check_transform(transform)
    chains = [make_stages(text, editor) for text in transform.split(",")]
    draws = torch.Generator().manual_seed(seed)

    def drawn(images: Tensor) -> Tensor:
        chosen, first = torch.randint(2**31, (2,), generator=draws).tolist()
        for number, stage in enumerate(chains[chosen % len(chains)]):
            images = stage(images, seed=first + number)
        return images

    return drawn


def check_transform(transform: str) -> None:
    """Raise UserError unless the text names differentiable counters."""
    for text in transform.split(","):
        if not differentiable(text):
            allowed = ", ".join(name for name, info in COUNTERS.items() if info.differentiable)
            raise UserError(f"transform '{text}' has no gradient; allowed: {allowed}, chained with +, listed with ,")
