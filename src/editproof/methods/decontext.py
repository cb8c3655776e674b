"""DeContext (arXiv 2512.16625): keep the edit from attending to the photo."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.editors.attention import block_names, context_mass
from editproof.errors import UserError
from editproof.methods.checks import kept_pixels, require
from editproof.methods.prompts import POOL
from editproof.methods.starts import first
from editproof.pgd import default_step, pgd
from editproof.randomness import generators, rand, sent

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(12.75 / 255), 800
SINGLE_BLOCKS = 26  # of FLUX's 38


def paper(height: int, width: int) -> "Paper":
    """The paper's budget, steps and step size, the same for pictures of any size."""
    return BUDGET, STEPS, 0.6375 / 255


def decontext(
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
    blocks: str | None = None,
    lowest_timestep: float = 0.98,
    samples: int = 1,
    read_every: int = 1,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] to which an edit that starts from pure noise pays as little attention as can be.

    At each step every image draws noise, a timestep between `lowest_timestep` and 1 and one of 60 prompts; a prompt
    that is not empty is used instead. In-context editors only. mask (B,1,H,W): 1 = may be repainted; only the kept
    pixels (0) change; None: all change. budget: Linf(12.75/255) if None. step_size: the paper's .6375/255 at its budget
    and steps, otherwise eps with momentum and 2.5 eps / steps without. blocks: see `token_context_mass`; None: the
    paper's, single blocks 0 to 25, or all of them in a smaller model. samples: the gradient is the mean over this many
    draws. read_every: how many draws share their prompts, which saves time where a language model reads them together
    with the photo (Step1X-Edit).
    start: "diffvax" begins at what the embedded immunizer makes of the photo.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: the prompts are ours, in the paper's six groups; the perturbation stays float32 (theirs is bfloat16),
    any size works, and the result is rounded to 8 bits within the budget (theirs is truncated).
    """
    editor = require(editor, "decontext")
    budget = budget or BUDGET
    if step_size is None and momentum > 0:
        step_size = budget.eps  # better on tiny-kontext than shorter steps
    if read_every < 1:
        raise UserError(f"read_every is {read_every}; allowed: a whole number of at least 1")
    if not 0 <= lowest_timestep <= 1:
        raise UserError(f"lowest_timestep is {lowest_timestep}; allowed: 0 (no noise) to 1 (pure noise)")
    if blocks is None:
        blocks = ",".join(block_names(editor.denoiser, "all single")[:SINGLE_BLOCKS])
    draws = generators(seed, len(images))
    editor.encode_prompts([prompt] if prompt else POOL)

    calls, reading = 0, {}

    def mass(images: Tensor) -> Tensor:
        nonlocal calls, reading
        chance = rand((2,), draws)
        timestep = sent(lowest_timestep + (1 - lowest_timestep) * chance[:, 0], images.device)
        if calls % read_every == 0:
            prompts = [prompt or POOL[int(number * len(POOL))] for number in chance[:, 1].tolist()]
            reading = editor.read(images.detach(), prompts)
        calls += 1
        return context_mass(editor, images, reading, blocks=blocks, timestep=timestep, generator=draws)

    return pgd(
        mass,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept_pixels(images, mask),
        start=first(start, images, mask, budget),
        samples=samples,
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        callback=callback,
    )
