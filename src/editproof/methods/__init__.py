"""The protections by name: `(editor, images, *, mask, prompt, budget, steps, seed, callback, <own knobs>) -> images`.

A method's keyword defaults are its paper's values; PRESETS holds other values for the same knobs.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from editproof.methods.diffusionguard import diffusionguard
from editproof.methods.diffusionguard import paper as diffusionguard_paper
from editproof.methods.diffvax import diffvax
from editproof.methods.noise import noise
from editproof.methods.photoguard_diffusion import paper as photoguard_diffusion_paper
from editproof.methods.photoguard_diffusion import photoguard_diffusion
from editproof.methods.photoguard_encoder import paper as photoguard_encoder_paper
from editproof.methods.photoguard_encoder import photoguard_encoder
from editproof.pgd import Paper

METHODS: dict[str, Callable[..., Tensor]] = {
    "noise": noise,
    "photoguard-encoder": photoguard_encoder,
    "photoguard-diffusion": photoguard_diffusion,
    "diffusionguard": diffusionguard,
    "diffvax": diffvax,
}

# Of the methods that optimise: (height, width) of the pictures -> the paper's budget, steps and step size.
PAPERS: dict[str, Callable[[int, int], Paper]] = {
    "photoguard-encoder": photoguard_encoder_paper,
    "photoguard-diffusion": photoguard_diffusion_paper,
    "diffusionguard": diffusionguard_paper,
}

# "fast" is ours: 20-60 s on a CPU for a 256x256 photo and the embedded editor.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {},
    "fast": {
        "photoguard-encoder": {"steps": 60, "momentum": 0.9},
        "photoguard-diffusion": {"steps": 20, "samples": 1, "momentum": 0.9},
        "diffusionguard": {"steps": 60, "momentum": 0.9},
    },
}
