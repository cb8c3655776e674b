"""JPEG with a gradient: what libjpeg computes (ITU-T T.81), all but the lossless coding.

Everything is rounded as there on the way forward. The gradient passes the rounding as if there were none, but only a
part of it goes through coefficients that become 0, which carry nothing through the file.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# The standard's example tables (Annex K), which libjpeg scales by the quality.
LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
TO_RGB = [[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]]

LOST = 0.5  # of the gradient, through coefficients that become 0
DOWN, UP = (1 / 4, 2 / 4), (8 / 16, 7 / 16)  # what even and odd columns of chroma are raised by before rounding down


def jpeg_diff(images: Tensor, strength: float = 75, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] as after a JPEG of quality `strength` (1 to 100), chroma 4:2:0; any size, float32."""
    height, width = images.shape[-2:]
    padded = F.pad(images.float() * 255, (0, -width % 16, 0, height % 2), "replicate")
    luma, chroma = _mix(padded, TO_YCBCR).split([1, 2], 1)  # around 0: libjpeg adds 128 and takes it off again
    luma, chroma = _round(luma) - 128, _floor(F.avg_pool2d(_round(chroma), 2), DOWN)
    luma = _blocks(luma, table(LUMA, strength).to(images.device)) + 128
    chroma = _blocks(chroma, table(CHROMA, strength).to(images.device))
    chroma = chroma[..., : -(-height // 2), : -(-width // 2)]
    chroma = _floor(F.interpolate(chroma, scale_factor=2.0, mode="bilinear"), UP)  # libjpeg's "fancy" upsampling
    mixed = _mix(torch.cat([luma[..., :height, :width], chroma[..., :height, :width]], 1), TO_RGB)
    return (_round(mixed) / 255).clamp(0, 1)


def _blocks(channels: Tensor, table: Tensor) -> Tensor:
    """Channels (B,C,H,W) around 0 through the 8x8 cosine transform, division by the table, rounding, and back."""
    rows, columns = channels.shape[-2:]
    channels = F.pad(channels, (0, -columns % 8, 0, -rows % 8), "replicate")
    shape, basis = channels.shape, dct().to(channels.device)
    blocks = channels.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    coefficients = _quantised(basis @ blocks @ basis.mT / table) * table
    blocks = basis.mT @ coefficients @ basis
    decoded = blocks.transpose(-3, -2).reshape(shape)[..., :rows, :columns]
    return _round(decoded).clamp(-128, 127)


def _round(values: Tensor) -> Tensor:
    """To whole numbers, the gradient passing as if nothing were rounded."""
    return values + (values.round() - values).detach()


def _floor(values: Tensor, raised: tuple[float, float]) -> Tensor:
    """To whole numbers, likewise: down, after even and odd columns were raised."""
    columns = torch.tensor(raised, device=values.device).repeat(-(-values.shape[-1] // 2))[: values.shape[-1]]
    return values + ((values + columns).floor() - values).detach()


def _quantised(coefficients: Tensor) -> Tensor:
    """To whole numbers, a gradient of 1 where they are not 0."""
    rounded = coefficients.detach().round()
    passing = coefficients * torch.where(rounded == 0, LOST, 1.0)
    return passing + (rounded - passing).detach()


def _mix(images: Tensor, matrix: list[list[float]]) -> Tensor:
    return torch.einsum("rc,bchw->brhw", torch.tensor(matrix, device=images.device), images)


def table(text: str, quality: float) -> Tensor:
    """A quantisation table (8,8), scaled as libjpeg scales it."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    numbers = torch.tensor([int(number) for number in text.split()]).view(8, 8)
    return ((numbers * scale + 50) // 100).clamp(1, 255).float()


@cache
def dct() -> Tensor:
    """The orthonormal cosine transform of 8 values, (8,8)."""
    frequency, place = torch.arange(8.0).view(-1, 1), torch.arange(8.0)
    matrix = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
