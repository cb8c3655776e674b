"""IMPRESS (Cao et al. 2023, arXiv 2310.19248): a photo that its autoencoder reproduces is likely to be unprotected."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import Linf
from editproof.counters.purify import fitting
from editproof.pgd import pgd
from editproof.resolution import resize

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

STEPS, STEP_SIZE = 20, 0.01


def impress(
    images: Tensor,
    strength: float = 0.1,
    *,
    editor: "Editor",
    steps: int = STEPS,
    step_size: float = STEP_SIZE,
    weight: float = 1.0,
    distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] moved until the editor's autoencoder hardly changes them any more.

    Minimises the squared error (mean, in [-1,1] units) between a photo and its round trip plus `weight` times what its
    distance to the photo as given exceeds `strength` by. distance: `(images, reference) -> (B,)`; 1 - SSIM if None,
    which needs no weights (the authors': LPIPS, bound .1).

    Deviations: signed steps with momentum, `step_size` falling along half a cosine, and few of them (the authors' run
    100 to 1000 of Adam's, from a noised photo).
    """
    from editproof.metrics import edit_change

    height, width = images.shape[-2:]
    far = distance or edit_change
    small = fitting(images, editor).to(editor.device)

    def inconsistency(purified: Tensor) -> Tensor:
        change = 2 * (editor.decode(editor.encode(purified)) - purified)
        return change.square().mean((1, 2, 3)) + weight * (far(purified, small) - strength).clamp_min(0)

    purified = pgd(
        inconsistency,
        small,
        Linf(1.0),
        steps=steps,
        step_size=lambda step: step_size * (1 + math.cos(math.pi * step / steps)) / 2,
        momentum=0.9,
    )
    return resize(purified.to(images.device), (height, width)).clamp(0, 1)
