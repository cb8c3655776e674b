"""The protections by name: `(editor, images, *, mask, prompt, budget, steps, seed, callback, <its own>) -> images`.

Each is a file with one function and, above it, one row with all that is known of it (see method.py). Other packages add
theirs by the entry point group `editproof.methods` (docs/researchers.md).
"""

from editproof.methods.advpaint import advpaint
from editproof.methods.autoencoder import autoencoder
from editproof.methods.dct_shield import dct_shield
from editproof.methods.decontext import decontext
from editproof.methods.diff_pgd import diff_pgd
from editproof.methods.diffusionguard import diffusionguard
from editproof.methods.diffvax import diffvax
from editproof.methods.facelock import facelock
from editproof.methods.immunizer import immunizer
from editproof.methods.method import Method
from editproof.methods.mist import mist
from editproof.methods.noise import noise
from editproof.methods.pca import pca
from editproof.methods.photoguard_diffusion import photoguard_diffusion
from editproof.methods.photoguard_encoder import photoguard_encoder
from editproof.methods.universal import universal
from editproof.methods.veto import veto
from editproof.plugins import add_plugins

METHODS: dict[str, Method] = {
    "noise": noise,
    "immunizer": immunizer,
    "photoguard-encoder": photoguard_encoder,
    "photoguard-diffusion": photoguard_diffusion,
    "diffusionguard": diffusionguard,
    "diffvax": diffvax,
    "decontext": decontext,
    "veto": veto,
    "autoencoder": autoencoder,
    "facelock": facelock,
    "pca": pca,
    "mist": mist,
    "dct-shield": dct_shield,
    "advpaint": advpaint,
    "diff-pgd": diff_pgd,
    "universal": universal,
}
# The papers' budgets and steps; the same at the area of 512x512, as DeContext's code works; each row's `fast`, 3 to
# 40 s of one core for a small photo; that at several sizes.
PRESETS = ("paper", "paper-512", "fast", "sizes")
PRESET_SIZES = {"paper-512": 512}

add_plugins("editproof.methods", METHODS, Method)


def ready() -> tuple[str, ...]:
    """The methods that run as they are, by name: all but those that have to be given something first."""
    return tuple(name for name, method in METHODS.items() if not method.required)
