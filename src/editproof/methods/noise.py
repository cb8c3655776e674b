"""The control every table has: random signs at full strength, aimed at nothing (no paper)."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import Budget, Linf, on_grid
from editproof.methods.checks import kept_pixels
from editproof.randomness import generators, randn

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback


def noise(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = 1,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] with noise on the budget's border where the mask (B,1,H,W) is 0.

    budget: Linf(8/255) if None. Linf: random signs times eps. L2: a random direction of length eps. editor,
    prompt and steps have no effect.
    """
    budget = budget or Linf(8 / 255)
    kept = kept_pixels(images, mask)
    drawn = randn(images.shape[1:], generators(seed, len(images)), images.device)
    delta = budget.eps * budget.steepest(drawn if kept is None else drawn * kept)
    if callback is not None:
        callback(1, 1, 0.0)
    return on_grid(images + delta, images, budget, kept)
