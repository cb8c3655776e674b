"""PhotoGuard, diffusion attack (arXiv 2302.06588): make the edit itself come out mid-grey, end to end."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import L2, Budget
from editproof.counters.transform import make_transform
from editproof.editors.speed.memory import on_cuda, together
from editproof.methods.checks import kept_pixels, require
from editproof.methods.starts import first
from editproof.pgd import default_step, pgd
from editproof.randomness import children, generators, random_masks

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

STEPS = 200


def paper(height: int, width: int) -> "Paper":
    """The paper's budget (L2), steps and step size for pictures of this size: 8.0 and .5 at 512x512."""
    side = (height * width) ** 0.5 / 512
    return L2(8.0 * side), STEPS, 0.5 * side


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
    start: str | None = None,
    transform: "Transform | None" = None,
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
    start: "diffvax" begins at what the embedded immunizer makes of the photo.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: the result is rounded to 8 bits within the budget.
    """
    editor = require(editor, "photoguard-diffusion")
    values = paper(*images.shape[-2:])
    budget = budget or values[0]
    kept = kept_pixels(images, mask)
    draws = generators(seed, len(images))
    at_once = 1  # a CPU gains nothing from more
    if on_cuda(images.device):
        at_once = together(
            samples, 2 * images[:, 0].numel(), lambda n: not editor.spares(n * len(images), images, denoising_steps)
        )

    def distance(images: Tensor) -> Tensor:
        own = draws if samples == 1 else children(draws, at_once)
        hole = random_masks(images, own) if editor.masked and mask is None else mask if editor.masked else None
        edited = editor.sample(images, prompt, mask=hole, steps=denoising_steps, guidance=guidance, generator=own)
        return (edited - 0.5).flatten(1).norm(dim=1).view(at_once, -1).mean(0)

    return pgd(
        distance,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, values),
        support=kept,
        samples=samples // at_once,
        start=first(start, images, mask, budget),
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        callback=callback,
    )
