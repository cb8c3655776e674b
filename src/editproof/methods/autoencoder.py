"""Autoencoder attack (ours, no paper): what the editor's VAE makes of the photo is pushed away from the photo.

An editor that copies well passes on what its VAE gives it, so an error there comes out in every edit. No denoiser is
called: after the encoder attack it is the cheapest of the attacks here.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.methods.checks import kept_pixels, require
from editproof.pgd import default_step, pgd
from editproof.randomness import generators

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(8 / 255), 100


def paper(height: int, width: int) -> "Paper":
    """The budget, steps and step size that are taken if none are given: ours, there is no paper."""
    return BUDGET, STEPS, BUDGET.eps / 40


def autoencoder(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = STEPS,
    step_size: "Step | None" = None,
    momentum: float = 0.9,
    transform: "Transform | None" = None,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] that the VAE, encoding and decoding, takes as far as can be from what they were.

    The distance is L2 over the pixels that may change; random start. mask (B,1,H,W): 1 = may be repainted; only the
    kept pixels (0) change, and an inpainting editor encodes the photo with its hole in mid-grey. None: all change.
    budget: Linf(8/255) if None. step_size: 2.5 eps / steps if None. The prompt has no effect.
    transform: counters that the protection should survive, see `make_transform`.
    """
    editor = require(editor, "autoencoder")
    budget = budget or BUDGET
    kept = kept_pixels(images, mask)
    weight = torch.ones_like(images[:, :1]) if kept is None else kept

    def nearness(moved: Tensor) -> Tensor:
        return -((editor.decode(editor.encode(moved, mask)) - images) * weight).flatten(1).norm(dim=1)

    return pgd(
        nearness,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept,
        random_start=True,
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        generator=generators(seed, len(images)),
        callback=callback,
    )
