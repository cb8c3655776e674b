"""DiffVax (arXiv 2411.17957): one pass of a UNet++ trained with the paper's loss; no optimisation, no editor."""

from torch import Tensor

from editproof.methods.method import Given, method
from editproof.methods.one_pass import one_pass

WEIGHTS = "FILE (--set weights=FILE): the authors' diffvax_trained.pth, or what `editproof train` wrote"


@method("diffvax", needs="none", one_pass=True, required={"weights": WEIGHTS})
def diffvax(given: Given, *, weights: str, batch_norm: str | None = None) -> Tensor:
    """The network's perturbation, added to photos of any size; none is embedded.

    Args:
        given: The photos, and what may change in them: the paper tells it the mask. No budget: the bound that the
            weights were trained with, and no bound for weights without one, as the authors'.
        weights: The authors' diffvax_trained.pth, which sees the photo with the edit region at mid-grey, or what
            `editproof train`, which has the paper's loss, wrote.
        batch_norm: "photo" (each photo's own statistics, as the authors run theirs) or "stored"; None: as the weights
            were trained.
    """
    return one_pass(given, weights, batch_norm)
