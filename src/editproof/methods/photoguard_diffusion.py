"""PhotoGuard, diffusion attack (arXiv 2302.06588): make the edit itself come out mid-grey, end to end."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import L2
from editproof.editors.speed.memory import on_cuda, together
from editproof.methods.method import Given, method, minimise
from editproof.randomness import children, generators, random_masks

if TYPE_CHECKING:
    from editproof.pgd import Paper


def paper(height: int, width: int) -> "Paper":
    """The paper's budget (L2), steps and step size for pictures of this size: 8.0 and .5 at 512x512."""
    side = (height * width) ** 0.5 / 512
    return L2(8.0 * side), 200, 0.5 * side


@method("photoguard-diffusion", paper=paper, fast={"steps": 12, "samples": 1, "momentum": 0.9}, compared=True)
def photoguard_diffusion(
    given: Given, *, samples: int = 10, denoising_steps: int = 4, guidance: float | None = None
) -> Tensor:
    """Pull the few-step edit to mid-grey, L2 distance over the whole edit.

    Without a mask, an inpainting editor's edit goes through a new random mask at every draw. The budget is in
    proportion to the square root of the area, and the step too.

    Args:
        given: The photos and what may change in them.
        samples: The gradient is the mean over this many draws of the edit's noise.
        denoising_steps: Of the edit.
        guidance: The editor's own if None (7.5 for Stable Diffusion, as in the paper).

    Deviations: the result is rounded to 8 bits within the budget.
    """
    editor, images, mask = given.editor, given.images, given.mask
    draws = generators(given.seed, len(images))
    at_once = 1  # a CPU gains nothing from more
    if on_cuda(images.device):
        at_once = together(
            samples, 2 * images[:, 0].numel(), lambda n: not editor.spares(n * len(images), images, denoising_steps)
        )

    def distance(images: Tensor) -> Tensor:
        own = draws if samples == 1 else children(draws, at_once)
        hole = random_masks(images, own) if editor.masked and mask is None else mask if editor.masked else None
        edited = editor.sample(images, given.prompt, mask=hole, steps=denoising_steps, guidance=guidance, generator=own)
        return (edited - 0.5).flatten(1).norm(dim=1).view(at_once, -1).mean(0)

    return minimise(distance, given, samples=samples // at_once)
