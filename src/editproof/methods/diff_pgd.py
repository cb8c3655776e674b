"""Diff-PGD as DeContext (arXiv 2512.16625) runs it as a baseline: the denoiser fails at what it was trained for."""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.denoising import denoising_loss
from editproof.methods.method import Given, method, minimise
from editproof.methods.prompts import POOL
from editproof.randomness import generators, rand, random_masks


@method("diff-pgd", paper=(Linf(12.75 / 255), 600, 0.6375 / 255), fast={"steps": 30, "momentum": 0.9})
def diff_pgd(given: Given, *, lowest_timestep: float = 0.98) -> Tensor:
    """Raise the denoising loss (on FLUX the flow matching loss) at noise levels near pure noise.

    At each step every photo draws noise and one of 60 prompts, all of them a level; a prompt that is not empty is used
    instead, and without a mask an inpainting editor is shown random ones.

    Args:
        given: The photos and what may change in them.
        lowest_timestep: From 0 (no noise) to 1 (pure noise).

    Deviations: the denoiser's target is the photo itself, noised, where the authors make an edit of the unprotected
    photo for each of 60 prompts beforehand; float32; the result is rounded to 8 bits within the budget.
    """
    editor, images = given.editor, given.images
    draws, levels = generators(given.seed, len(images)), torch.Generator().manual_seed(given.seed)
    editor.encode_ahead([given.prompt] if given.prompt else POOL)

    def knowledge(images: Tensor) -> Tensor:
        chance = rand((1,), draws)[:, 0].tolist()
        prompts = [given.prompt or POOL[int(number * len(POOL))] for number in chance]
        mask = given.mask if given.mask is not None or not editor.masked else random_masks(images, draws)
        strength = lowest_timestep + (1 - lowest_timestep) * float(torch.rand((), generator=levels))
        shown = mask if editor.masked else None
        return -denoising_loss(editor, images, prompts, mask=shown, strength=strength, generator=draws)

    return minimise(knowledge, given)
