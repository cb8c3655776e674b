"""AdvPaint (arXiv 2503.10081): attention inside an inpainting model goes elsewhere than for the unprotected photo."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.errors import UserError
from editproof.methods.method import Given, method, minimise
from editproof.randomness import generators

ITERATIONS = 250  # for each of two masks
GROWN = 0.1  # of the box around the kept region, on each side: the authors' boxes are drawn by hand


def falling(step: int) -> float:
    """The authors' step: .015, falling linearly to a hundredth of that for each mask (half of theirs in [-1,1])."""
    return 0.015 * (1 - 0.99 * (step % ITERATIONS) / ITERATIONS)


@method("advpaint", needs="masked", paper=(Linf(0.03), 2 * ITERATIONS, falling), fast={"steps": 30, "momentum": 0.9})
def advpaint(given: Given) -> Tensor:
    """Self-attention's queries, keys and values and cross-attention's queries move away from the photo's own.

    L2 distances in all layers, at the first denoising step. In the first half of the steps the box around the kept
    region, grown, is shown and the rest repainted; in the second half the other way round. Random start.

    Deviations: the noise is the same for both photos and drawn anew at each step (theirs differs between the two); the
    latents are pure noise; without a mask the box is the middle of the picture, and pixels that the mask lets repaint
    stay as they are, which leaves the second half nothing to change if all of them lie outside the box: then all steps
    are spent on the first; in a transformer (FLUX Fill) queries, keys and values of joint attention take the place of
    both kinds; the result is rounded to 8 bits within the budget.
    """
    editor, images = given.editor, given.images
    box = torch.cat([_box(kept) for kept in _kept(given)])
    masks = [1 - box, box]
    if given.kept is not None and (given.kept * (1 - box)).sum() == 0:
        masks = masks[:1]
    draws, calls = generators(given.seed, len(images)), 0

    def closeness(moved: Tensor) -> Tensor:
        nonlocal calls
        mask = masks[calls * len(masks) // max(given.steps, 1) % len(masks)].to(moved.device)
        calls += 1
        states = [draw.get_state() for draw in draws]
        with torch.no_grad():
            before = _attention(editor, images, given.prompt, mask, draws)
        for draw, state in zip(draws, states, strict=True):
            draw.set_state(state)
        after = _attention(editor, moved, given.prompt, mask, draws)
        apart = [(a - b).float().flatten(1).norm(dim=1) for a, b in zip(after, before, strict=True)]
        return -torch.stack(apart).sum(0) / len(apart)

    return minimise(closeness, given, random_start=True)


def _kept(given: Given) -> Tensor:
    """What is kept, (B,1,H,W); without a mask the middle of the picture."""
    if given.kept is not None:
        return given.kept
    height, width = given.images.shape[-2:]
    middle = torch.zeros_like(given.images[:, :1])
    middle[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return middle


def _box(kept: Tensor) -> Tensor:
    """The box around a region (1,H,W), grown: (1,1,H,W), 1 inside; always something is outside."""
    height, width = kept.shape[-2:]
    rows, columns = kept[0].any(1).nonzero().flatten(), kept[0].any(0).nonzero().flatten()
    grown_y, grown_x = round(GROWN * len(rows)), round(GROWN * len(columns))
    top, bottom = max(1, int(rows[0]) - grown_y), min(height - 1, int(rows[-1]) + 1 + grown_y)
    left, right = max(1, int(columns[0]) - grown_x), min(width - 1, int(columns[-1]) + 1 + grown_x)
    box = torch.zeros(1, 1, height, width)
    box[..., min(top, height - 2) : max(bottom, 2), min(left, width - 2) : max(right, 2)] = 1
    return box


def _attention(editor: Any, images: Tensor, prompt: str, mask: Tensor, draws: list[torch.Generator]) -> list[Tensor]:
    """The projections (B,N,C) of all attention layers at the first of 4 denoising steps."""
    with _projections(editor.denoiser) as seen:
        editor.first_prediction(images, prompt, mask=mask, steps=4, generator=draws)
    if not seen:
        raise UserError(
            f"advpaint sees no attention in {editor.name}: on a GPU, load it without recording (--no-record)"
        )
    return seen


@contextmanager
def _projections(denoiser: Any) -> Iterator[list[Tensor]]:
    """What the query, key and value layers give while the block runs."""
    seen: list[Tensor] = []
    joint = ("attn.to_q", "attn.to_k", "attn.to_v")  # of transformers, where pictures attend to themselves and texts
    wanted = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", *joint)
    layers = [module for name, module in denoiser.named_modules() if name.endswith(wanted)]
    hooks = [layer.register_forward_hook(lambda module, given, output: seen.append(output)) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
