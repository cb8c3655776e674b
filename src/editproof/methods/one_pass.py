"""What the methods share that are one pass of a trained network: no optimisation, no editor."""

import torch
from torch import Tensor

from editproof.budgets import Linf, on_grid
from editproof.immunizer.network import perturb, ready_immunizer
from editproof.methods.method import Given


@torch.no_grad()
def one_pass(given: Given, weights: str | None, batch_norm: str | None, bits: int = 32) -> Tensor:
    """The network's perturbation, added to photos of any size.

    Args:
        given: `budget`: a network that was trained with a bound is scaled to it, the output of any other is projected
            into it; None is the bound that the weights were trained with, and no bound for weights without one.
        weights: A file or folder of a network (see `immunizer.network.load_immunizer`); None: the one that is embedded
            for the method.
        batch_norm: "photo" (each photo's own statistics) or "stored"; None: as the weights were trained.
        bits: of the numbers that the network computes with, 32 or 8 (see immunizer.eight_bits).

    Returns:
        The protected photos, (B, 3, H, W) in [0, 1], on the 8-bit grid, within the budget.

    Raises:
        UserError: For weights that cannot be used, and photos too small for the network.
    """
    images, budget = given.images, given.budget
    network = ready_immunizer(given.method.network({"weights": weights}), batch_norm, images.device, bits)
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
