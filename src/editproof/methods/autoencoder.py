"""Autoencoder attack (ours, no paper): what autoencoders make of the photo loses its structure.

An editor works on what its autoencoder tells it of the photo, so what is broken there is broken in every edit. No
denoiser is called: after the encoder attack it is the cheapest of the attacks here.
"""

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors.spaces import load_spaces, round_trip
from editproof.errors import UserError
from editproof.methods.method import Given, method, minimise
from editproof.methods.quiet import Quiet, texture
from editproof.metrics.contrast import structure_at_scales


@method(
    "autoencoder",
    paper=(Linf(8 / 255), 100, 8 / 255 / 40),
    momentum=0.9,
    fast={"steps": 24, "start": "immunizer"},
    without_editor="spaces",
)
def autoencoder(given: Given, *, spaces: str | None = None, smooth: float = 0.6) -> Tensor:
    """Encoding and decoding take as much as can be of the photo's structure.

    Minimised: contrast and structure (as MS-SSIM has them, Wang et al. 2003) of the decoded photo to the photo at three
    scales, mean over the spaces, over the pixels that may change. A shift of light or colour, which an attacker undoes,
    counts for nothing, and fine ripples alone for little. Only brightness changes, less where the photo is smooth, so
    that it is seen less. Random start. The prompt has no effect.

    Args:
        given: Without `spaces` the editor's own autoencoder is attacked; an inpainting editor encodes the photo with
            its hole in mid-grey.
        spaces: Autoencoders to attack instead, together, and no editor is needed: sd1, sdxl, flux1, flux2, hub ids,
            folders or .safetensors files, with commas between them (editors/spaces.py). They see the whole photo.
        smooth: The share of the budget that smooth parts of the photo get, where changes are seen most; above 0, up to
            1, at which all parts are alike.
    """
    if not 0 < smooth <= 1:
        raise UserError(f"smooth is {smooth}; allowed: above 0, up to 1")
    editor, images = given.editor, given.images
    vaes = None if spaces is None else load_spaces(spaces, images.device)
    kept = None if given.kept is None else given.kept.to(images.device)

    def structure(moved: Tensor) -> Tensor:
        if vaes is None:
            return structure_at_scales(editor.decode(editor.encode(moved, given.mask)), images, kept)
        return torch.stack([structure_at_scales(round_trip(vae, moved), images, kept) for vae in vaes]).mean(0)

    share = smooth + (1 - smooth) * texture(images)
    return minimise(structure, given, random_start=True, within=Quiet(given.budget, share))
