"""DeContext (arXiv 2512.16625): keep the edit from attending to the photo."""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.attention import block_names, context_mass
from editproof.editors.speed.compiling import pays
from editproof.errors import UserError
from editproof.methods.method import Given, method, minimise
from editproof.methods.prompts import POOL
from editproof.randomness import generators, rand, sent

SINGLE_BLOCKS = 26  # of FLUX's 38


@method(
    "decontext", needs="in_context", paper=(Linf(12.75 / 255), 800, 0.6375 / 255),
    momentum_step=1.0, fast={"steps": 100, "momentum": 0.9, "guidance": None}, compared=True,
)  # fmt: skip
def decontext(
    given: Given,
    *,
    blocks: str | None = None,
    lowest_timestep: float = 0.98,
    samples: int = 1,
    read_every: int = 1,
    guidance: float | None = 3.5,
    pure_noise_every: int | None = None,
) -> Tensor:
    """An edit that starts from pure noise pays as little attention to the photo as can be.

    At each step every photo draws noise, a timestep between `lowest_timestep` and 1 and one of 60 prompts; a prompt
    that is not empty is used instead. With momentum a step is eps long, if no step size is given: better on
    tiny-kontext than shorter ones.

    Args:
        given: The photos and what may change in them.
        blocks: See `token_context_mass`; None: the paper's, single blocks 0 to 25, or all of them in a smaller model.
        lowest_timestep: From 0 (no noise) to 1 (pure noise).
        samples: The gradient is the mean over this many draws.
        read_every: How many draws share their prompts, which saves time where a language model reads them together
            with the photo (Step1X-Edit).
        guidance: What a transformer that embeds it (FLUX.1) is told; None: the editor's own.
        pure_noise_every: At every so many draws the timestep is 1, as the authors have it on Step1X-Edit (10); None: at
            none, as on FLUX.

    Deviations: the prompts are ours, in the paper's six groups; the perturbation stays float32 (theirs is bfloat16),
    any size works, and the result is rounded to 8 bits within the budget (theirs is truncated).
    """
    editor, images = given.editor, given.images
    if read_every < 1:
        raise UserError(f"read_every is {read_every}; allowed: a whole number of at least 1")
    if not 0 <= lowest_timestep <= 1:
        raise UserError(f"lowest_timestep is {lowest_timestep}; allowed: 0 (no noise) to 1 (pure noise)")
    if blocks is None:
        blocks = ",".join(block_names(editor.denoiser, "all single")[:SINGLE_BLOCKS])
    draws = generators(given.seed, len(images))
    editor.encode_ahead([given.prompt] if given.prompt else POOL)
    one_size = editor.plan == "whole" and given.descent.sizes is None
    compiled = pays(editor.device, given.steps * samples, whole=one_size)

    calls, reading = 0, {}

    def mass(images: Tensor) -> Tensor:
        nonlocal calls, reading
        chance = rand((2,), draws)
        level = lowest_timestep + (1 - lowest_timestep) * chance[:, 0]
        if pure_noise_every and calls % pure_noise_every == 0:
            level = torch.ones_like(level)
        timestep = sent(level, images.device)
        if calls % read_every == 0:
            prompts = [given.prompt or POOL[int(number * len(POOL))] for number in chance[:, 1].tolist()]
            reading = editor.encode_prompt(images.detach(), prompts)
        calls += 1
        return context_mass(
            editor, images, reading, blocks=blocks, timestep=timestep, generator=draws, guidance=guidance,
            compiled=compiled,
        )  # fmt: skip

    return minimise(mass, given, samples=samples)
