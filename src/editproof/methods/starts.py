"""Where an optimisation may begin: the photo itself, or what a one-pass immunizer makes of it."""

from torch import Tensor

from editproof.budgets import Budget
from editproof.errors import UserError
from editproof.methods.diffvax import diffvax


def first(start: str | None, images: Tensor, mask: Tensor | None, budget: Budget) -> Tensor | None:
    """The images (B,3,H,W) to start from: None (the photos themselves), or "diffvax" (the embedded immunizer's)."""
    if start is None:
        return None
    if start != "diffvax":
        raise UserError(f"start {start!r}: allowed are 'diffvax' and None")
    return diffvax(None, images, mask=mask, budget=budget)
