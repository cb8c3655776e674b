"""The immunizer (ours, no paper): one pass of the embedded network; no optimisation, no editor, no mask needed."""

from torch import Tensor

from editproof.methods.method import Given, method
from editproof.methods.one_pass import one_pass


@method("immunizer", needs="none", one_pass=True, compared=True)
def immunizer(given: Given, *, weights: str | None = None, batch_norm: str | None = None, bits: int = 32) -> Tensor:
    """The network's perturbation, added to photos of any size. It uses a mask if given, and needs none.

    Args:
        given: The photos, what may change in them and how far; no budget: the bound that the weights were trained with.
        weights: None: the embedded network; or what `training/immunizer.py` or `editproof train` wrote.
        batch_norm: "photo" (each photo's own statistics) or "stored"; None: as the weights were trained.
        bits: 32, or 8 on a CPU with AVX-512 VNNI or AVX-VNNI: a third of the time for nearly the same perturbation
            (docs/operations.md).
    """
    return one_pass(given, weights, batch_norm, bits)
