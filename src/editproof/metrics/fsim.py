"""Feature similarity: structure where the picture has structure."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.luminance import yiq
from editproof.metrics.trial import check_pair

SCALES, ORIENTATIONS = 4, 4  # of the log-Gabor filters; wavelengths of 6, 12, 24 and 48 pixels
WAVELENGTH, BANDWIDTH, SPREAD = 6, 0.55, math.pi / ORIENTATIONS / 1.2
NOISE_DEVIATIONS = 2.0  # how far above the noise's mean energy a feature has to be
T1, T2, T3, CHROMA = 0.85, 160.0, 200.0, 0.03  # the paper's constants: phase, gradient, chrominance, its exponent
SHORTER_SIDE = 256  # pixels: the shorter side to which pictures are brought, by averaging whole pixels
TINY = 1e-8  # where there is no feature at all, every pixel counts the same


def fsim(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """FSIMc of Zhang et al. (IEEE TIP 2011): (B,) in [0, 1], 1 where both are equal.

    The similarity of phase congruency, gradient and chrominance at each pixel, averaged with the larger of the two
    phase congruencies as weight, where the mask (B, 1, H, W) is 1 or everywhere. Where chrominances are so opposed that
    their similarity is negative, its size counts, as in piq. (B, 3, H, W) twice, in [0, 1]. Raises UserError for other
    shapes and for sides under 2 pixels.
    """
    check_pair(images, reference, mask)
    if images.shape[1] != 3 or min(images.shape[-2:]) < 2:
        raise UserError(
            f"FSIM cannot be taken of pictures of {tuple(images.shape)}; allowed: 3 channels, sides from 2 pixels"
        )
    factor = max(1, round(min(images.shape[-2:]) / SHORTER_SIDE))
    (y1, i1, q1), (y2, i2, q2) = (F.avg_pool2d(yiq(x), factor).split(1, 1) for x in (images, reference))
    phase1, phase2 = phase_congruency(y1), phase_congruency(y2)
    similarity = similar(phase1, phase2, T1) * similar(_gradient(y1), _gradient(y2), T2)
    chroma = similar(i1, i2, T3) * similar(q1, q2, T3)
    weight = torch.maximum(phase1, phase2) + TINY
    if mask is not None:
        weight = weight * F.avg_pool2d(mask.to(weight), factor)
    return (similarity * chroma.abs() ** CHROMA * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def similar(a: Tensor, b: Tensor, constant: float) -> Tensor:
    """How alike values of at least 0 are, 1 where they are equal; differences far below the constant do not count."""
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def _gradient(y: Tensor) -> Tensor:
    """The length of the gradient (B, 1, H, W), by Scharr's filters; black around the picture."""
    scharr = torch.tensor([[3.0, 0, -3], [10, 0, -10], [3, 0, -3]], dtype=y.dtype, device=y.device) / 16
    return F.conv2d(y, torch.stack([scharr, scharr.T])[:, None], padding=1).norm(dim=1, keepdim=True)


def phase_congruency(y: Tensor) -> Tensor:
    """How far the waves at a pixel agree in phase (Kovesi 1999), luminance (B, 1, H, W) in 0..255 -> (B, 1, H, W).

    0: not at all, or no more than noise does; 1: all of them, whatever the contrast.
    """
    spectrum = torch.fft.fft2(y)[:, 0]
    radial, angular = _filters(y)
    energy, amplitude = torch.zeros_like(spectrum.real), torch.zeros_like(spectrum.real)
    for direction in angular:
        filters = radial * direction
        waves = torch.fft.ifft2(spectrum[:, None] * filters)  # (B, scales, H, W): even part real, odd part imaginary
        total = waves.sum(1, keepdim=True)
        along = waves * (total / (total.abs() + 1e-4)).conj()  # turned so that the mean phase is 0
        coherent = (along.real - along.imag.abs()).sum(1)
        energy += (coherent - _noise(waves[:, 0], filters).view(-1, 1, 1)).clamp(min=0)
        amplitude += waves.abs().sum(1)
    return (energy / (amplitude + 1e-4))[:, None]


def _noise(finest: Tensor, filters: Tensor) -> Tensor:
    """The energy that noise alone would rarely exceed, (B,), judged by the waves of the finest scale (B, H, W).

    Noise of power p has energies of a Rayleigh distribution; their median is that of the finest waves, where most of a
    picture is noise.
    """
    mean_square = -(finest.abs() ** 2).flatten(1).median(1).values / math.log(0.5)
    power = mean_square / (filters[0] ** 2).sum()
    responses = torch.fft.ifft2(filters).real * math.sqrt(filters[0].numel())
    squares, products = (responses**2).sum(), (responses.sum(0) ** 2).sum() - (responses**2).sum()  # of pairs, twice
    sigma = (power * (squares + products)).sqrt()
    threshold = sigma * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2))
    return threshold / 1.7  # Kovesi's correction for the overlap of the filters


def _filters(y: Tensor) -> tuple[Tensor, Tensor]:
    """Log-Gabor filters for (B, 1, H, W): (scales, H, W) by wavelength and (orientations, H, W) by direction."""
    fy, fx = (torch.fft.fftfreq(side, dtype=torch.float64) for side in y.shape[-2:])
    fy, fx = torch.meshgrid(fy, fx, indexing="ij")
    radius = (fx**2 + fy**2).sqrt()
    radius[0, 0] = 1
    smooth = 1 / (1 + (radius / 0.45) ** 30)  # a Butterworth low-pass: no corners of the spectrum
    centres = torch.tensor([1 / (WAVELENGTH * 2**scale) for scale in range(SCALES)])
    radial = (-((radius / centres.view(-1, 1, 1)).log() ** 2) / (2 * math.log(BANDWIDTH) ** 2)).exp() * smooth
    radial[:, 0, 0] = 0
    angles = torch.arange(ORIENTATIONS).view(-1, 1, 1) * math.pi / ORIENTATIONS
    turn = torch.atan2(-fy, fx) - angles
    turn = torch.atan2(turn.sin(), turn.cos())
    angular = (-(turn**2) / (2 * SPREAD**2)).exp()
    return radial.to(y), angular.to(y)
