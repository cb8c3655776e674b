"""DiffusionGuard (arXiv 2410.05694): blow up the denoiser's first noise prediction, under masks that keep moving."""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.methods.method import Given, method, minimise
from editproof.randomness import children, generators, random_masks, sent


@method(
    "diffusionguard", needs="masked", paper=(Linf(8 / 255), 800, 0.5 / 255), fast={"steps": 40, "momentum": 0.9},
    compared=True,
)  # fmt: skip
def diffusionguard(given: Given, *, samples: int = 1) -> Tensor:
    """Raise the norm of the first noise prediction as far as can be.

    The editor sees the masked photo, pure-noise latents and the first of 4 timesteps; noise and mask are drawn anew at
    each step: a part of what the mask keeps, or without a mask any region. The authors' prompt is empty.

    Args:
        given: The photos and what may change in them.
        samples: Masks (and noise) drawn at each step, which go through the editor together; DiffVax's port draws 4.

    The authors' configuration says 16/255 and steps of 1/255, which their code applies in [-1,1]: half of that here.
    Deviations: a model that predicts velocity has the norm of that raised. Results are rounded to 8 bits within the
    budget.
    """
    from editproof.methods.contours import Contour  # here, as scipy takes longer to import than one-pass protection

    draws = generators(given.seed, len(given.images))
    contours = None if given.kept is None else [Contour(region) for region in given.kept[:, 0]]

    def negative_norm(images: Tensor) -> Tensor:
        own = draws if samples == 1 else children(draws, samples)
        if contours is None:
            hole = random_masks(images, own)
        else:
            smaller = [contour.shrink(draw) for contour, draw in zip(contours * samples, own, strict=True)]
            hole = sent(1 - torch.stack(smaller)[:, None].float(), images.device)
        prediction = given.editor.first_prediction(images, given.prompt, mask=hole, steps=4, generator=own)
        return -prediction.flatten(1).norm(dim=1).view(samples, -1).mean(0)

    return minimise(negative_norm, given)
