"""VETO (arXiv 2607.27292): scatter the attention between the edit and the photo, in the transformer's first block."""

from itertools import cycle

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.attention import slice_entropy
from editproof.editors.speed.memory import on_cuda, roomy, together
from editproof.methods.method import Given, method, minimise
from editproof.randomness import generators, sent

VALUES = 720  # that a noise level keeps for the backward pass, for each pixel of a photo


@method(
    "veto", needs="in_context", paper=(Linf(4 / 255), 100, 2 / 255), momentum=0.9,
    fast={"steps": 20, "timesteps": 4}, first_block=True,
)  # fmt: skip
def veto(
    given: Given, *, timesteps: int = 10, blocks: str = "double.0", guidance: float = 4.0, same_positions: bool = True
) -> Tensor:
    """The attention slices edit -> photo and photo -> edit have as much entropy as can be.

    The edit is the photo's own latent, noised; the gradient is the mean over all noise levels of a schedule, with new
    noise at each. The authors' prompt is empty.

    Args:
        given: The photos and what may change in them.
        timesteps: Noise levels of the schedule.
        blocks: See `token_context_mass`.
        guidance: What the transformer is told.
        same_positions: The photo's tokens have the positions of the edit's, as the authors give them; otherwise the
            editor's own.

    Deviations: the authors attack FLUX.2 and detach the photo's tokens, so that their gradient reaches the photo
    through the noised latent only; here it goes through both. They work at 512x512, here it is the size at which the
    editor sees the photo (--size 512 is theirs). Results are rounded to 8 bits within the budget.
    """
    editor, images = given.editor, given.images
    pixels = images[:, 0].numel()

    def fits(levels: int) -> bool:  # on a CPU always: a result must not depend on what other programs do
        return not on_cuda(editor.device) or roomy(editor.device, levels * pixels * VALUES * editor.dtype.itemsize)

    at_once = together(timesteps, pixels, fits)
    draws = generators(given.seed, len(images)) * at_once
    levels = torch.tensor(editor.noise_levels(images, timesteps)).repeat_interleave(len(images))
    turns = cycle(levels.split(len(draws)))

    def negative_entropy(images: Tensor) -> Tensor:
        level = sent(next(turns), images.device)
        entropy = slice_entropy(
            editor,
            images,
            given.prompt,
            blocks=blocks,
            timestep=level,
            generator=draws,
            guidance=guidance,
            same_positions=same_positions,
        )
        return -entropy.view(at_once, -1).mean(0)

    return minimise(negative_entropy, given, samples=timesteps // at_once)
