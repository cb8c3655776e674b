"""DiffusionGuard (arXiv 2410.05694): blow up the denoiser's first noise prediction, under masks that keep moving."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.methods.checks import kept_pixels, require
from editproof.methods.starts import first
from editproof.pgd import default_step, pgd
from editproof.randomness import children, generators, random_masks, sent

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(16 / 255), 800


def paper(height: int, width: int) -> "Paper":
    """The paper's budget, steps and step size, the same for pictures of any size."""
    return BUDGET, STEPS, 1 / 255


def diffusionguard(
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
    samples: int = 1,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] for which the norm of the first noise prediction is as large as can be.

    The editor sees the masked photo, pure-noise latents and the first of 4 timesteps; noise and mask are drawn anew at
    each step. Inpainting editors only. mask (B,1,H,W): 1 = may be repainted; only the kept pixels (0) change, and the
    masks drawn keep a part of them. None: all change, and any random mask is drawn. budget: Linf(16/255) if None.
    step_size: the paper's 1/255 at its budget and steps, otherwise 2.5 eps / steps. The authors' prompt is empty.
    samples: masks (and noise) drawn at each step, which go through the editor together; DiffVax's port draws 4.
    start: "diffvax" begins at what the embedded immunizer makes of the photo.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: a model that predicts velocity has the norm of that raised. Results are rounded to 8 bits within the
    budget.
    """
    from editproof.methods.contours import Contour  # here, as scipy takes longer to import than one-pass protection

    editor = require(editor, "diffusionguard")
    budget = budget or BUDGET
    kept = kept_pixels(images, mask)
    draws = generators(seed, len(images))
    contours = None if kept is None else [Contour(region) for region in kept[:, 0]]

    def negative_norm(images: Tensor) -> Tensor:
        own = draws if samples == 1 else children(draws, samples)
        if contours is None:
            hole = random_masks(images, own)
        else:
            smaller = [contour.shrink(draw) for contour, draw in zip(contours * samples, own, strict=True)]
            hole = sent(1 - torch.stack(smaller)[:, None].float(), images.device)
        prediction = editor.first_prediction(images, prompt, mask=hole, steps=4, generator=own)
        return -prediction.flatten(1).norm(dim=1).view(samples, -1).mean(0)

    return pgd(
        negative_norm,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept,
        start=first(start, images, mask, budget),
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        callback=callback,
    )
