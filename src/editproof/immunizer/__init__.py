"""The one-pass immunizer: its network, its training, DiffVax's data layout."""

from editproof.immunizer.network import NestedUNet, load_immunizer, perturb

__all__ = ["NestedUNet", "load_immunizer", "perturb"]
