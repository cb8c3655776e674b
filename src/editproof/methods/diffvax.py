"""DiffVax (arXiv 2411.17957): one pass of a trained UNet++; no optimisation, no editor."""

import torch
from torch import Tensor

from editproof.budgets import Linf, on_grid
from editproof.immunizer.network import perturb, ready_immunizer
from editproof.methods.method import Given, method


@method("diffvax", needs="none", one_pass=True, compared=True)
@torch.no_grad()
def diffvax(given: Given, *, weights: str | None = None, batch_norm: str | None = None) -> Tensor:
    """The network's perturbation, added to photos of any size.

    Args:
        given: `budget`: a network that was trained with a bound is scaled to it, the output of any other is projected
            into it; None is the bound that the weights were trained with, and no bound for weights without one, as in
            the paper.
        weights: None for the embedded network, which needs no mask and uses one if given; or what `editproof train`
            wrote; or DiffVax's diffvax_trained.pth, which sees the photo with the edit region at mid-grey.
        batch_norm: "photo" (each photo's own statistics, as the authors run theirs) or "stored"; None: as the weights
            were trained.
    """
    images, budget = given.images, given.budget
    network = ready_immunizer(weights, batch_norm, images.device)
    hole = None if given.kept is None else 1 - given.kept
    if network.trained_eps is None:
        delta = perturb(network, images.float(), hole)
        delta = delta if budget is None else budget.project(delta)
    else:
        budget = Linf(network.trained_eps) if budget is None else budget
        eps = budget.eps if isinstance(budget, Linf) else 1.0
        delta = budget.project(perturb(network, images.float(), hole, eps))
    if given.callback is not None:
        given.callback(1, 1, 0.0)
    return on_grid(images + delta, images, budget, given.kept)
