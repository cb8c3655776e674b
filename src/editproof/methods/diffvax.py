"""DiffVax (arXiv 2411.17957): one pass of a UNet++, told the mask, trained with the paper's loss; no editor needed."""

from torch import Tensor

from editproof.methods.method import Given, method
from editproof.methods.one_pass import one_pass


@method("diffvax", needs="none", one_pass=True, told=True)
def diffvax(given: Given, *, weights: str | None = None, batch_norm: str | None = None) -> Tensor:
    """The network's perturbation, added to photos of any size.

    Args:
        given: The photos, and what may change in them: the network was trained with the mask told, and sees the photo
            with the edit region at mid-grey. No budget: the bound that the weights were trained with, and no bound for
            weights without one, as the authors'.
        weights: None: the embedded network, trained with the paper's loss against tiny-inpaint; or the authors'
            diffvax_trained.pth, or what `editproof train`, which has the paper's loss, wrote.
        batch_norm: "photo" (each photo's own statistics, as the authors run theirs) or "stored"; None: as the weights
            were trained.
    """
    return one_pass(given, weights, batch_norm)
