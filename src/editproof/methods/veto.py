"""VETO (arXiv 2607.27292): scatter the attention between the edit and the photo, in the transformer's first block."""

from itertools import cycle
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.editors.attention import slice_entropy
from editproof.editors.speed.memory import on_cuda, roomy, together
from editproof.methods.checks import kept_pixels, require
from editproof.pgd import default_step, pgd
from editproof.randomness import generators, sent

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(4 / 255), 100
KEPT = 720  # values that a noise level keeps for the backward pass, for each pixel of a photo


def paper(height: int, width: int) -> "Paper":
    """The paper's budget, steps and step size, the same for pictures of any size."""
    return BUDGET, STEPS, 2 / 255


def veto(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = STEPS,
    step_size: "Step | None" = None,
    momentum: float = 0.9,
    transform: "Transform | None" = None,
    timesteps: int = 10,
    blocks: str = "double.0",
    guidance: float = 4.0,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] whose attention slices edit -> photo and photo -> edit have as much entropy as can be.

    The edit is the photo's own latent, noised; the gradient is the mean over all noise levels of a schedule of
    `timesteps` steps, with new noise at each. In-context editors only. mask (B,1,H,W): 1 = may be repainted; only the
    kept pixels (0) change; None: all change. budget: Linf(4/255) if None. step_size: the paper's 2/255 at its budget
    and steps, otherwise 2.5 eps / steps. blocks: see `token_context_mass`. The authors' prompt is empty.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: the authors attack FLUX.2 and detach the photo's tokens, so that their gradient reaches the photo
    through the noised latent only; here it goes through both. Results are rounded to 8 bits within the budget.
    """
    editor = require(editor, "veto")
    budget = budget or BUDGET
    pixels = images[:, 0].numel()

    def fits(levels: int) -> bool:  # on a CPU always: a result must not depend on what other programs do
        return not on_cuda(editor.device) or roomy(editor.device, levels * pixels * KEPT * editor.dtype.itemsize)

    at_once = together(timesteps, pixels, fits)
    draws = generators(seed, len(images)) * at_once
    levels = torch.tensor(editor.noise_levels(images, timesteps)).repeat_interleave(len(images))
    turns = cycle(levels.split(len(draws)))

    def negative_entropy(images: Tensor) -> Tensor:
        level = sent(next(turns), images.device)
        entropy = slice_entropy(
            editor, images, prompt, blocks=blocks, timestep=level, generator=draws, guidance=guidance
        )
        return -entropy.view(at_once, -1).mean(0)

    return pgd(
        negative_entropy,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept_pixels(images, mask),
        samples=timesteps // at_once,
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        callback=callback,
    )
