"""The control every table has: random signs at full strength, aimed at nothing (no paper)."""

from torch import Tensor

from editproof.budgets import on_grid
from editproof.methods.method import Given, method
from editproof.randomness import generators, randn


@method("noise", needs="none")
def noise(given: Given) -> Tensor:
    """Noise on the budget's border: Linf: random signs times eps. L2: a random direction of length eps."""
    images = given.images
    drawn = randn(images.shape[1:], generators(given.seed, len(images)), images.device) * given.weight
    delta = given.budget.eps * given.budget.steepest(drawn)
    if given.callback is not None:
        given.callback(1, 1, 0.0)
    return on_grid(images + delta, images, given.budget, given.kept)
