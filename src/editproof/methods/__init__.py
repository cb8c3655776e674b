"""The protections by name: `(editor, images, *, mask, prompt, budget, steps, seed, callback, <own knobs>) -> images`.

A method's keyword defaults are its paper's values; PRESETS holds other values for the same knobs.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from editproof.methods.autoencoder import autoencoder
from editproof.methods.autoencoder import paper as autoencoder_paper
from editproof.methods.decontext import decontext
from editproof.methods.decontext import paper as decontext_paper
from editproof.methods.diffusionguard import diffusionguard
from editproof.methods.diffusionguard import paper as diffusionguard_paper
from editproof.methods.diffvax import diffvax
from editproof.methods.facelock import facelock
from editproof.methods.facelock import paper as facelock_paper
from editproof.methods.noise import noise
from editproof.methods.photoguard_diffusion import paper as photoguard_diffusion_paper
from editproof.methods.photoguard_diffusion import photoguard_diffusion
from editproof.methods.photoguard_encoder import paper as photoguard_encoder_paper
from editproof.methods.photoguard_encoder import photoguard_encoder
from editproof.methods.veto import paper as veto_paper
from editproof.methods.veto import veto
from editproof.pgd import Paper

METHODS: dict[str, Callable[..., Tensor]] = {
    "noise": noise,
    "photoguard-encoder": photoguard_encoder,
    "photoguard-diffusion": photoguard_diffusion,
    "diffusionguard": diffusionguard,
    "diffvax": diffvax,
    "decontext": decontext,
    "veto": veto,
    "autoencoder": autoencoder,
    "facelock": facelock,
}

# Of the methods that optimise: (height, width) of the pictures -> the paper's budget, steps and step size.
PAPERS: dict[str, Callable[[int, int], Paper]] = {
    "photoguard-encoder": photoguard_encoder_paper,
    "photoguard-diffusion": photoguard_diffusion_paper,
    "diffusionguard": diffusionguard_paper,
    "decontext": decontext_paper,
    "veto": veto_paper,
    "autoencoder": autoencoder_paper,
    "facelock": facelock_paper,
}

# "fast" is ours: 3-40 s of one core for a 256x256 photo and the embedded editor (docs/speed.md).
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {},
    "fast": {
        "photoguard-encoder": {"steps": 20},
        "photoguard-diffusion": {"steps": 12, "samples": 1, "momentum": 0.9},
        "diffusionguard": {"steps": 40, "momentum": 0.9},
        "decontext": {"steps": 100, "momentum": 0.9},
        "veto": {"steps": 20, "timesteps": 4},
        "autoencoder": {"steps": 40},
        "facelock": {"steps": 40, "momentum": 0.9, "enough": 0.85},
    },
}
