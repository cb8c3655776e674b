"""FSIM as DiffVax's evaluation takes it: that of image-similarity-measures, over phasepack's phase congruency.

Another number than FSIM of Zhang et al. (`editproof.metrics.fsim`), for tables that are to be held against theirs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.fsim import T1, T2, TINY, similar
from editproof.metrics.trial import check_pair

SCALES, ORIENTATIONS = 4, 6
WAVELENGTH, BANDWIDTH = 6, 0.5978
NOISE_DEVIATIONS = 2.0  # how far above the noise's mean energy a feature has to be
HALF_WIDTH, SHARPNESS = 0.5, 10.0  # features of fewer frequencies than this share count less, by a sigmoid
EPSILON = 1e-4
LARGEST = 65536  # squares are taken in 16 bits without a sign, and begin at 0 again here


def fsim_diffvax(images: Tensor, reference: Tensor) -> Tensor:
    """The FSIM of DiffVax's evaluation: (B,), 1 where both are equal.

    It differs from the paper's in that each colour channel is compared by itself and the three are averaged, without
    chrominance and at full size; in six orientations, whose phase congruencies are added; and in a gradient that is
    held in unsigned 16 bit numbers, so that negative slopes count as none and squares wrap around.

    Args:
        images: Pictures (B, 3, H, W) in [0, 1]; they are rounded to 8 bits.
        reference: What they are compared with, of the same shape.

    Returns:
        One number a picture, in float32.

    Raises:
        UserError: For other shapes, and for sides under 2 pixels.
    """
    check_pair(images, reference)
    if images.shape[1] != 3 or min(images.shape[-2:]) < 2:
        raise UserError(
            f"FSIM cannot be taken of pictures of {tuple(images.shape)}; allowed: 3 channels, sides from 2 pixels"
        )
    first, second = (channels(x) for x in (images, reference))
    phase1, phase2 = phase_congruency(first), phase_congruency(second)
    similarity = similar(phase1, phase2, T1) * similar(_gradient(first), _gradient(second), T2)
    weight = torch.maximum(phase1, phase2) + TINY
    return ((similarity * weight).sum((1, 2)) / weight.sum((1, 2))).view(-1, 3).mean(1).float()


def channels(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> each channel by itself, (3 B, H, W), whole numbers in 0..255."""
    return (images.detach().clamp(0, 1) * 255).round().double().flatten(0, 1)


def _gradient(y: Tensor) -> Tensor:
    """The length of the gradient (B, H, W) by Scharr's filters, mirrored at the border, in unsigned 16 bit numbers."""
    across = torch.tensor([[-3.0, 0, 3], [-10, 0, 10], [-3, 0, 3]], dtype=y.dtype, device=y.device)
    padded = F.pad(y[:, None], (1, 1, 1, 1), mode="reflect")
    slopes = F.conv2d(padded, torch.stack([across, across.T])[:, None]).clamp(min=0)
    return ((slopes**2 % LARGEST).sum(1) % LARGEST).sqrt()


def phase_congruency(y: Tensor) -> Tensor:
    """How far the waves at a pixel agree in phase (Kovesi 1999 and 2003), (B, H, W) in 0..255 -> (B, H, W).

    The sum over six orientations, so up to 6.
    """
    spectrum, (radial, angular) = torch.fft.fft2(y), _filters(y)
    total = torch.zeros_like(y)
    for direction in angular:
        waves = torch.fft.ifft2(spectrum[:, None] * (radial * direction))  # (B, scales, H, W)
        sizes = waves.abs()
        together = waves.sum(1, keepdim=True)
        along = waves * (together / (together.abs() + EPSILON)).conj()  # turned so that the mean phase is 0
        energy = (along.real - along.imag.abs()).sum(1)
        energy = (energy - _noise(sizes[:, 0]).view(-1, 1, 1)).clamp(min=0)
        width = (sizes.sum(1) / (sizes.amax(1) + EPSILON) - 1) / (SCALES - 1)
        total += torch.sigmoid(SHARPNESS * (width - HALF_WIDTH)) * energy / sizes.sum(1).clamp(min=TINY)
    return total


def _noise(finest: Tensor) -> Tensor:
    """The energy that noise would rarely exceed (B,), by the amplitudes of the finest scale (B, H, W).

    Amplitudes of noise have a Rayleigh distribution; those of coarser scales are taken to halve from scale to scale.
    """
    ordered = finest.flatten(1).sort(1).values
    middle = (ordered[:, (ordered.shape[1] - 1) // 2] + ordered[:, ordered.shape[1] // 2]) / 2
    scale = middle / math.sqrt(math.log(4)) * (2 - 2.0 ** (1 - SCALES))
    return (scale * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2))).clamp(min=EPSILON)


def _filters(y: Tensor) -> tuple[Tensor, Tensor]:
    """Log-Gabor filters for (B, H, W): (scales, H, W) by wavelength and (orientations, H, W) by direction."""
    fy, fx = (_frequencies(side) for side in y.shape[-2:])
    fy, fx = torch.meshgrid(fy, fx, indexing="ij")
    radius = (fx**2 + fy**2).sqrt()
    radius[0, 0] = 1
    smooth = 1 / (1 + (radius / 0.45) ** 30)  # a Butterworth low-pass: no corners of the spectrum
    centres = torch.tensor([1 / (WAVELENGTH * 2**scale) for scale in range(SCALES)], dtype=torch.float64)
    radial = (-((radius / centres.view(-1, 1, 1)).log() ** 2) / (2 * math.log(BANDWIDTH) ** 2)).exp() * smooth
    radial[:, 0, 0] = 0
    turn = torch.atan2(-fy, fx) - torch.arange(ORIENTATIONS).view(-1, 1, 1) * math.pi / ORIENTATIONS
    turn = torch.atan2(turn.sin(), turn.cos()).abs()
    angular = ((turn * ORIENTATIONS / 2).clamp(max=math.pi).cos() + 1) / 2
    return radial.to(y), angular.to(y)


def _frequencies(side: int) -> Tensor:
    """Those of a Fourier transform; of an odd side stretched so that they reach from -.5 to .5."""
    return torch.fft.fftfreq(side, dtype=torch.float64) * side / (side - side % 2)
