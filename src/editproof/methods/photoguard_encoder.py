"""PhotoGuard, encoder attack (arXiv 2302.06588): make the editor's encoder see mid-grey instead of the photo."""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.methods.method import Given, method, minimise

STEPS = 1000


def falling(step: int) -> float:
    """The paper's step: .005, falling linearly to a hundredth of that (half of the authors' values in [-1,1])."""
    return 0.005 * (1 - 0.99 * step / STEPS)


@method("photoguard-encoder", paper=(Linf(0.03), STEPS, falling), fast={"steps": 20}, compared=True)
def photoguard_encoder(given: Given) -> Tensor:
    """Pull the latent mean to that of mid-grey, L2 distance; random start. The prompt has no effect.

    An inpainting editor encodes the photo with its hole in mid-grey, so that is what is attacked, as in the authors'
    notebook for inpainting (DiffVax's port attacks the encoding of the whole photo). Deviation: the result is rounded
    to 8 bits within the budget.
    """
    editor = given.editor
    with torch.no_grad():
        grey = editor.encode(torch.full_like(given.images[:1], 0.5))

    def distance(images: Tensor) -> Tensor:
        return (editor.encode(images, given.mask) - grey).flatten(1).norm(dim=1)

    return minimise(distance, given, random_start=True)
