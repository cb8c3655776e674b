"""PhotoGuard, diffusion attack (arXiv 2302.06588): make the edit itself come out mid-grey, end to end."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import L2, Budget
from editproof.methods.checks import kept_pixels, require
from editproof.pgd import default_step, pgd
from editproof.randomness import generators, random_masks

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Step

STEPS = 200


def photoguard_diffusion(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = STEPS,
    step_size: "Step | None" = None,
    momentum: float = 0.0,
    samples: int = 10,
    denoising_steps: int = 4,
    guidance: float | None = None,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] whose few-step edit is pulled to mid-grey, L2 distance over the whole edit.

    mask (B,1,H,W): 1 = may be repainted; only the kept pixels (0) change. None on an inpainting editor: all change, and
    every draw edits through a new random mask. budget: the paper's L2 ball if None, 8.0 at 512x512, in proportion to
    the square root of the area. step_size: the paper's .5 at its budget and steps (same proportion), otherwise
    2.5 eps / steps. guidance: the editor's own if None (7.5 for Stable Diffusion, as in the paper). samples: the
    gradient is the mean over this many draws of the edit's noise.

    Deviations: the result is rounded to 8 bits within the budget.
    """
    editor = require(editor, "photoguard-diffusion")
    side = (images.shape[-2] * images.shape[-1]) ** 0.5 / 512
    paper = L2(8.0 * side)
    budget = budget or paper
    kept = kept_pixels(images, mask)
    draws = generators(seed, len(images))

    def distance(images: Tensor) -> Tensor:
        hole = random_masks(images, draws) if editor.masked and mask is None else mask if editor.masked else None
        edited = editor.sample(images, prompt, mask=hole, steps=denoising_steps, guidance=guidance, generator=draws)
        return (edited - 0.5).flatten(1).norm(dim=1)

    return pgd(
        distance,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, (paper, STEPS, 0.5 * side)),
        support=kept,
        samples=samples,
        momentum=momentum,
        callback=callback,
    )
