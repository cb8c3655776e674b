"""Autoencoder attack (ours, no paper): what autoencoders make of the photo loses its structure.

An editor works on what its autoencoder tells it of the photo, so what is broken there is broken in every edit. No
denoiser is called: after the encoder attack it is the cheapest of the attacks here.
"""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.spaces import load_spaces, round_trip
from editproof.methods.method import Given, method, minimise
from editproof.metrics.contrast import contrast_structure


@method(
    "autoencoder",
    paper=(Linf(8 / 255), 100, 8 / 255 / 40),
    momentum=0.9,
    fast={"steps": 12, "start": "immunizer"},
    without_editor="spaces",
)
def autoencoder(given: Given, *, spaces: str | None = None) -> Tensor:
    """Encoding and decoding take as much as can be of the photo's structure.

    Minimised: the contrast-structure SSIM of the decoded photo to the photo, mean over the spaces, over the pixels that
    may change. A shift of light or colour, which an attacker undoes, counts for nothing. Random start. The prompt has
    no effect.

    Args:
        given: Without `spaces` the editor's own autoencoder is attacked; an inpainting editor encodes the photo with
            its hole in mid-grey.
        spaces: Autoencoders to attack instead, together, and no editor is needed: sd1, sdxl, flux1, flux2, hub ids,
            folders or .safetensors files, with commas between them (editors/spaces.py). They see the whole photo.
    """
    editor, images = given.editor, given.images
    vaes = None if spaces is None else load_spaces(spaces, images.device)
    kept = None if given.kept is None else given.kept.to(images.device)

    def structure(moved: Tensor) -> Tensor:
        if vaes is None:
            return contrast_structure(editor.decode(editor.encode(moved, given.mask)), images, kept)
        return torch.stack([contrast_structure(round_trip(vae, moved), images, kept) for vae in vaes]).mean(0)

    return minimise(structure, given, random_start=True)
