"""PhotoGuard, encoder attack (arXiv 2302.06588): make the editor's encoder see mid-grey instead of the photo."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.methods.checks import kept_pixels, require
from editproof.methods.starts import first
from editproof.pgd import default_step, pgd
from editproof.randomness import generators

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(0.03), 1000


def falling(step: int) -> float:
    """The paper's step: .005, falling linearly to a hundredth of that (half of the authors' values in [-1,1])."""
    return 0.005 * (1 - 0.99 * step / STEPS)


def paper(height: int, width: int) -> "Paper":
    """The paper's budget, steps and step size, the same for pictures of any size."""
    return BUDGET, STEPS, falling


def photoguard_encoder(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = STEPS,
    step_size: "Step | None" = None,
    momentum: float = 0.0,
    start: str | None = None,
    transform: "Transform | None" = None,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] whose latent mean is pulled to that of mid-grey, L2 distance; random start.

    mask (B,1,H,W): 1 = may be repainted; only the kept pixels (0) change. None: all change, the whole photo is encoded.
    budget: Linf(.03) if None. step_size: the paper's at its budget and steps, otherwise 2.5 eps / steps. The prompt has
    no effect.
    start: "diffvax" begins at what the embedded immunizer makes of the photo.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: an inpainting editor encodes the photo with its hole in mid-grey, so that is what is attacked (the
    authors attack the encoding of the whole photo). The result is rounded to 8 bits within the budget.
    """
    editor = require(editor, "photoguard-encoder")
    budget = budget or BUDGET
    kept = kept_pixels(images, mask)
    with torch.no_grad():
        grey = editor.encode(torch.full_like(images[:1], 0.5))

    def distance(images: Tensor) -> Tensor:
        return (editor.encode(images, mask) - grey).flatten(1).norm(dim=1)

    return pgd(
        distance,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept,
        random_start=True,
        start=first(start, images, mask, budget),
        momentum=momentum,
        generator=generators(seed, len(images)),
        transform=make_transform(transform, editor, seed),
        callback=callback,
    )
