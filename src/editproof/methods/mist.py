"""Mist (arXiv 2305.12683): the encoder sees a texture for the photo, and the denoiser does not know the photo."""

import math

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.denoising import denoising_loss
from editproof.methods.method import Given, method, minimise
from editproof.randomness import generators, random_masks

PERIOD = 64  # pixels of the texture, at the side of 512
LATENTS = 4 * 64 * 64  # of Stable Diffusion at 512x512, where the authors weigh the two losses


@method("mist", paper=(Linf(16 / 255), 100, 1 / 255), fast={"steps": 20, "momentum": 0.9})
def mist(given: Given, *, rate: float = 1e4, about: str = "a photo") -> Tensor:
    """Latents near a texture's, squared distance, and a large denoising loss at a noise level drawn at each step.

    Args:
        given: The photos and what may change in them.
        rate: Weight of the denoising loss where there are as many latents as at 512x512 in Stable Diffusion; 0: the
            texture alone, which calls no denoiser.
        about: What the denoiser is told, if there is no prompt; the authors' word for works of art is "a painting".

    Deviations: the texture is ours, stripes and rings of high contrast like the authors' picture of the word; the
    denoising loss is the editor's own (they attack Stable Diffusion 1.4 without a hole); the result is rounded to
    8 bits within the budget.
    """
    editor = given.editor
    with torch.no_grad():
        wanted = editor.encode(texture(*given.images.shape[-2:]).to(given.images.device))
    draws, levels = generators(given.seed, len(given.images)), torch.Generator().manual_seed(given.seed)

    def distance(images: Tensor) -> Tensor:
        loss = (editor.encode(images, given.mask) - wanted).square().flatten(1).sum(1)
        if rate == 0:
            return loss
        mask = given.mask if given.mask is not None or not editor.masked else random_masks(images, draws)
        strength = 0.02 + 0.98 * float(torch.rand((), generator=levels))
        shown = mask if editor.masked else None
        unknown = denoising_loss(editor, images, given.prompt or about, mask=shown, strength=strength, generator=draws)
        return loss - rate * wanted.numel() / LATENTS * unknown

    return minimise(distance, given)


def texture(height: int, width: int) -> Tensor:
    """A picture (1,3,H,W) in [0,1] of black and white stripes that are crossed by rings."""
    scale = 2 * math.pi * 512 / (PERIOD * math.sqrt(height * width))
    rows, columns = torch.arange(height).view(-1, 1) * scale, torch.arange(width).view(1, -1) * scale
    rings = torch.sin((rows - rows.mean()).hypot(columns - columns.mean()))
    return ((rings * torch.sin(rows + columns)) > 0).float().expand(1, 3, -1, -1)
