"""The latent spaces of real editors, by small autoencoders: the teachers in a folder of weights, or any of diffusers'.

`load_space("sd1", WEIGHTS, device)`; a folder or hub id in diffusers' layout (a student, say) works in a name's place.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

CHANNELS = {"sd1": 4, "sdxl": 4, "flux1": 16, "flux2": 32}
FILES = {"sd1": "taesd", "sdxl": "taesdxl", "flux1": "taef1"}


class Space(nn.Module):
    """An autoencoder on pictures (B,3,H,W) in [0,1], without gradients to its weights; not clamped."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, channels: int, signed: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.channels, self.signed = encoder, decoder, channels, signed
        self.requires_grad_(False).eval()

    def encode(self, images: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,C,H/8,W/8), as the diffusion model sees them."""
        return self.encoder(2 * images - 1 if self.signed else images)

    def decode(self, latents: Tensor) -> Tensor:
        out = self.decoder(latents)
        return out / 2 + 0.5 if self.signed else out

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


class Block(nn.Module):
    """TAESD's residual block; the innermost ones of FLUX.2's also read the picture's wider surroundings (`pool`)."""

    def __init__(self, inputs: int, outputs: int, pool: bool = False) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(i, outputs, 3, padding=1) for i in (inputs, outputs, outputs)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.pool = (
            nn.Sequential(
                nn.Conv2d(inputs, 4 * inputs, 1, bias=False), nn.GroupNorm(4, 4 * inputs), nn.ReLU(),
                nn.Conv2d(4 * inputs, inputs, 1, bias=False),
            )
            if pool
            else None
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + self.skip(x))


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def flux2_parts(channels: int = 32) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder as their author numbers the layers."""
    down = [nn.Conv2d(3, 64, 3, padding=1), Block(64, 64)]
    for stage in range(3):
        blocks = [Block(64, 64, pool=stage == 2) for _ in range(3)]
        down += [nn.Conv2d(64, 64, 3, padding=1, stride=2, bias=False), *blocks]
    up: list[nn.Module] = [Clamp(), nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU()]
    for stage in range(3):
        up += [Block(64, 64, pool=stage == 0) for _ in range(3)]
        up += [nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, padding=1, bias=False)]
    encoder = nn.Sequential(*down, nn.Conv2d(64, channels, 3, padding=1))
    return encoder, nn.Sequential(*up, Block(64, 64), nn.Conv2d(64, 3, 3, padding=1))


def load_vae(name: str, weights: Path | None) -> AutoencoderTiny:
    """In float32: sd1, sdxl or flux1 from `weights`, or a folder or hub id of an AutoencoderTiny."""
    if name not in FILES:
        return AutoencoderTiny.from_pretrained(name, dtype=torch.float32)
    if weights is None:
        raise SystemExit(f"{name} is a teacher: give the folder of the teachers as --weights")
    vae = AutoencoderTiny(latent_channels=CHANNELS[name])
    vae.load_state_dict({k: v.float() for k, v in load_file(weights / f"{FILES[name]}.safetensors").items()})
    return vae


def load_space(name: str, weights: Path, device: str | torch.device) -> Space:
    """A name in CHANNELS (its files in `weights`), or a folder or hub id of an AutoencoderTiny."""
    if name == "flux2":
        parts = flux2_parts()
        for part, file in zip(parts, ("encoder", "decoder"), strict=True):
            part.load_state_dict({k: v.float() for k, v in load_file(weights / f"taef2_{file}.safetensors").items()})
        return Space(*parts, CHANNELS[name], signed=False).to(device)
    vae = load_vae(name, weights)
    return Space(vae.encoder, vae.decoder, vae.config.latent_channels, signed=True).to(device)
