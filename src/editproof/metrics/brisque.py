"""How natural a picture looks, without a reference: BRISQUE."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.luminance import yiq

LEAST = 16  # pixels: below, there is nothing to take statistics of
SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # of the neighbours a pixel is multiplied with
# The least and largest value of each feature in the data that the published model was trained on, at both scales.
LOWEST = (
    0.336999, 0.019667, 0.23, -0.125959, 0.000167, 0.000616, 0.231, -0.125873, 0.000165, 0.0006, 0.241, -0.128814,
    0.000179, 0.000386, 0.243, -0.13308, 0.000182, 0.000421, 0.436998, 0.016929, 0.247, -0.200231, 0.000104, 0.000834,
    0.257, -0.200017, 0.000112, 0.000876, 0.257, -0.155072, 0.000112, 0.000356, 0.258, -0.154374, 0.000117, 0.000351,
)  # fmt: skip
HIGHEST = (
    9.999411, 0.807472, 1.644021, 0.202917, 0.712384, 0.468672, 1.644021, 0.169548, 0.713132, 0.467896, 1.553016,
    0.101368, 0.687324, 0.533087, 1.554016, 0.101, 0.689177, 0.533133, 3.639918, 0.800955, 1.096995, 0.175286,
    0.755547, 0.39927, 1.095995, 0.155928, 0.751488, 0.402398, 1.041992, 0.093209, 0.623516, 0.532925, 1.042992,
    0.093714, 0.621958, 0.534484,
)  # fmt: skip


class Svr(NamedTuple):
    """A support vector regression with a radial basis function."""

    vectors: Tensor  # (N, 36)
    weights: Tensor  # (N,)
    gamma: float
    rho: float


def brisque(images: Tensor, source: str | None = None) -> Tensor:
    """BRISQUE of Mittal et al. (IEEE TIP 2012): (B,), about 0 for a natural photo to 100 for a badly distorted one.

    (B, 3, H, W) in [0, 1], sides of at least 16 pixels; nan for a picture of one colour. source: the published model as
    a file in libsvm's format; None takes the one of the package `brisque` (extra `brisque`). Raises UserError.
    """
    model = _load(source)
    least, largest = (torch.tensor(values, dtype=torch.float64) for values in (LOWEST, HIGHEST))
    scaled = 2 * (features(images) - least) / (largest - least) - 1
    scores = (-model.gamma * torch.cdist(scaled, model.vectors) ** 2).exp() @ model.weights - model.rho
    flat = (images.amax((2, 3)) == images.amin((2, 3))).all(1)
    return scores.float().to(images.device).masked_fill(flat, torch.nan)


def features(images: Tensor) -> Tensor:
    """The 36 natural scene statistics (B, 36) of pictures (B, 3, H, W) in [0, 1]: 18 at each of two scales.

    In float64 on the CPU, as not every device has it. Raises UserError for other shapes.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < LEAST:
        raise UserError(
            f"BRISQUE cannot be taken of pictures of {tuple(images.shape)}; allowed: (B, 3, H, W), sides from {LEAST}"
        )
    luminance = yiq(images.detach().cpu().double())[:, :1]
    half = F.interpolate(
        luminance, [-(-side // 2) for side in luminance.shape[-2:]], mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([_statistics(luminance), _statistics(half)], 1)


def _statistics(luminance: Tensor) -> Tensor:
    """The 18 statistics of one scale, (B, 1, H, W) in 0..255 -> (B, 18)."""
    normal = _normalised(luminance)
    power = normal.square().flatten(1).mean(1)
    found = [_shape(power / normal.abs().flatten(1).mean(1) ** 2), power]
    for shift in SHIFTS:
        found += _asymmetric((normal * normal.roll(shift, (-2, -1))).flatten(1))
    return torch.stack(found, 1)


def _normalised(luminance: Tensor) -> Tensor:
    """Each pixel's difference to the mean around it, in standard deviations around it; black around the picture."""
    x = torch.arange(-3, 4, dtype=luminance.dtype, device=luminance.device)
    bell = (-(x**2) / (2 * (7 / 6) ** 2)).exp()
    window = torch.outer(bell, bell).view(1, 1, 7, 7) / bell.sum() ** 2
    mean = F.conv2d(luminance, window, padding=3)
    deviation = (F.conv2d(luminance**2, window, padding=3) - mean**2).abs().sqrt()
    return (luminance - mean) / (deviation + 1)


def _asymmetric(values: Tensor) -> list[Tensor]:
    """Shape, mean, left and right variance (B,) of an asymmetric generalised Gaussian fitted to values (B, N)."""
    power = values.square()
    left, right = (
        ((power * side).sum(1) / side.sum(1)).sqrt() for side in ((values < 0).double(), (values > 0).double())
    )
    skew = left / right
    ratio = values.abs().mean(1) ** 2 / power.mean(1) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = _shape(1 / ratio)
    mean = (right - left) * (torch.lgamma(2 / shape) - (torch.lgamma(1 / shape) + torch.lgamma(3 / shape)) / 2).exp()
    return [shape, mean, left**2, right**2]


def _shape(ratio: Tensor) -> Tensor:
    """The shape of the generalised Gaussian whose E[x^2] / E[|x|]^2 is nearest to `ratio` (B,), by moment matching."""
    shapes = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64, device=ratio.device)
    ratios = (torch.lgamma(1 / shapes) + torch.lgamma(3 / shapes) - 2 * torch.lgamma(2 / shapes)).exp()
    return torch.where(ratio.isnan(), torch.nan, shapes[(ratios - ratio[:, None]).abs().argmin(1)])


@lru_cache(maxsize=1)
def _load(source: str | None) -> Svr:
    """A regression from a text file of libsvm's."""
    if source is None:
        package = find_spec("brisque")  # its files are all that is needed of it
        if package is None or not package.submodule_search_locations:
            raise UserError("brisque needs its published model: pip install 'editproof[brisque]', or name the file")
        source = str(Path(package.submodule_search_locations[0], "models", "svm.txt"))
    try:
        header, _, body = Path(source).read_text().partition("\nSV\n")
        settings = dict(line.split(" ", 1) for line in header.splitlines())
        rows = [line.split() for line in body.splitlines()]
        vectors = torch.zeros(len(rows), len(LOWEST), dtype=torch.float64)
        for vector, (_, *entries) in zip(vectors, rows, strict=True):
            for entry in entries:
                place, value = entry.split(":")
                vector[int(place) - 1] = float(value)
        weights = torch.tensor([float(row[0]) for row in rows], dtype=torch.float64)
        return Svr(vectors, weights, float(settings["gamma"]), float(settings["rho"]))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"brisque: '{source}' is not a regression in libsvm's format ({error})") from error
