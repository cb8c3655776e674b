"""An attacker who has the public one-pass network: a second network learns from its pairs to take the perturbation off.

The threat of BridgePure (Wang et al. 2024, arXiv 2412.21061), with a small regression network instead of a diffusion
bridge. No weights are shipped: `training/inverse.py` trains them from any folder of photos in minutes.
"""

import math
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from editproof.errors import UserError
from editproof.resolution import resize, working_size

SIDE = 512  # pixels: the size at which the embedded immunizer's perturbation is made, smaller photos at their own
WIDTH = 16  # channels at full size, twice as many at each of two halvings


class InverseNet(nn.Module):
    """Protected photos (B,3,h,w) in [0,1], sides multiples of 4 -> what was added to them, of the same shape."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        wide = (width, 2 * width, 4 * width)
        self.first = nn.Sequential(_layer(3, wide[0]), _layer(wide[0], wide[0]))
        self.second = nn.Sequential(_layer(wide[0], wide[1], 2), _layer(wide[1], wide[1]))
        self.third = nn.Sequential(_layer(wide[1], wide[2], 2), *(_layer(wide[2], wide[2]) for _ in range(3)))
        self.up = nn.Sequential(_layer(wide[2] + wide[1], wide[1]), _layer(wide[1], wide[1]))
        self.last = _layer(wide[1] + wide[0], wide[0])
        self.added = nn.Conv2d(wide[0], 3, 3, padding=1)
        nn.init.zeros_(self.added.weight)  # begins with "nothing was added"

    def forward(self, images: Tensor) -> Tensor:
        """What was added, in [0,1] units."""
        full = self.first(images - 0.5)
        half = self.second(full)
        quarter = F.interpolate(self.third(half), scale_factor=2.0, mode="nearest")
        half = self.up(torch.cat([quarter, half], 1))
        return self.added(self.last(torch.cat([F.interpolate(half, scale_factor=2.0, mode="nearest"), full], 1)))


def _layer(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.LeakyReLU(0.1, inplace=True))


def undo(images: Tensor, strength: float = 1, *, weights: str | Path, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] less `strength` times what the network at `weights` takes for added to them."""
    height, width = images.shape[-2:]
    network = load_inverse(str(weights)).to(images.device)
    side = min(SIDE, round(math.sqrt(height * width)))
    small = resize(images, working_size(height, width, side)).clamp(0, 1)
    added = resize(network(small), (height, width))
    return (images - strength * added).clamp(0, 1)


@cache
def load_inverse(weights: str) -> InverseNet:
    """The network that `training/inverse.py` wrote to a file. Raises UserError for another file."""
    try:
        tensors = load_file(weights)
        network = InverseNet(tensors["first.0.0.weight"].shape[0])
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        raise UserError(
            f"inverse weights '{weights}' cannot be used; allowed: a .safetensors that training/inverse.py wrote"
        ) from None
    return network.eval().requires_grad_(False)


def save_inverse(network: InverseNet, weights: str | Path) -> None:
    """Write a network to a file, for load_inverse."""
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
