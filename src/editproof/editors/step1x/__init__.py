"""Step1X-Edit (arXiv 2504.17761): its model, its pipeline, and its published files brought together."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from editproof.editors.step1x.model import Step1XTransformer

__all__ = ["load_transformer"]


def load_transformer(state_dict: "Mapping[str, Tensor]", version: str) -> "Step1XTransformer":
    """See editproof.editors.step1x.model, which is imported here: diffusers takes seconds, the list of editors none."""
    from editproof.editors.step1x.model import load_transformer as load

    return load(state_dict, version)
