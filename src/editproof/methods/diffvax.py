"""DiffVax (arXiv 2411.17957): one pass of a trained UNet++; no optimisation, no editor."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf, on_grid
from editproof.immunizer.network import load_immunizer, perturb
from editproof.methods.checks import kept_pixels

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback


@torch.no_grad()
def diffvax(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = Linf(8 / 255),  # noqa: B008  (frozen)
    steps: int = 1,
    weights: str | None = None,
    batch_norm: str | None = None,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1] of any size with the network's perturbation where the mask (B,1,H,W) is 0.

    weights: None for the embedded network, which needs no mask and uses one if given; or what `editproof train` wrote;
    or DiffVax's diffvax_trained.pth, which sees the photo with the edit region at mid-grey. batch_norm: "photo" (each
    photo's own statistics, as the authors run theirs) or "stored"; None: as the weights were trained. budget: a network
    that was trained with a bound is scaled to it, the output of any other is projected into it; None is the bound that
    the weights were trained with, and no bound for weights without one, as in the paper. editor, prompt, steps and seed
    have no effect. Results are rounded to 8 bits within the budget.
    """
    kept = kept_pixels(images, mask)
    network = load_immunizer(weights)
    if batch_norm is not None:
        network.use_batch_norm(batch_norm)
    network.on(images.device)
    hole = None if kept is None else 1 - kept
    if network.trained_eps is None:
        delta = perturb(network, images.float(), hole)
        delta = delta if budget is None else budget.project(delta)
    else:
        budget = Linf(network.trained_eps) if budget is None else budget
        eps = budget.eps if isinstance(budget, Linf) else 1.0
        delta = budget.project(perturb(network, images.float(), hole, eps))
    if callback is not None:
        callback(1, 1, 0.0)
    return on_grid(images + delta, images, budget, kept)
