"""Where an optimisation may begin: the photo itself, or what the immunizer makes of it."""

from torch import Tensor

from editproof.budgets import Budget
from editproof.errors import UserError
from editproof.methods.immunizer import immunizer


def first(start: str | None, images: Tensor, mask: Tensor | None, budget: Budget) -> Tensor | None:
    """The images (B,3,H,W) to start from: None (the photos), or "immunizer" (what the embedded one makes of them)."""
    if start is None:
        return None
    if start != "immunizer":
        raise UserError(f"start {start!r}: allowed are 'immunizer' and None")
    return immunizer(None, images, mask=mask, budget=budget)
