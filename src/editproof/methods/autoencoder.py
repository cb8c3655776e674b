"""Autoencoder attack (ours, no paper): what the editor's VAE makes of the photo is pushed away from the photo.

An editor that copies well passes on what its VAE gives it, so an error there comes out in every edit. No denoiser is
called: after the encoder attack it is the cheapest of the attacks here.
"""

from torch import Tensor

from editproof.budgets import Linf
from editproof.methods.method import Given, method, minimise


@method("autoencoder", paper=(Linf(8 / 255), 100, 8 / 255 / 40), momentum=0.9, fast={"steps": 40})
def autoencoder(given: Given) -> Tensor:
    """The VAE, encoding and decoding, takes the photo as far as can be from what it was.

    The distance is L2 over the pixels that may change; random start. An inpainting editor encodes the photo with its
    hole in mid-grey. The prompt has no effect.
    """
    editor = given.editor

    def nearness(moved: Tensor) -> Tensor:
        away = editor.decode(editor.encode(moved, given.mask)) - given.images
        return -(away * given.weight).flatten(1).norm(dim=1)

    return minimise(nearness, given, random_start=True)
