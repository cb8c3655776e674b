"""AdverseCleaner (github.com/lllyasviel/AdverseCleaner, 2023): smooth all texture away, then put the edges back."""

import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR, SPACE, RADIUS = 8.0, 8.0, 2  # of the bilateral filter: levels of 255, pixels, pixels
HALF = [(y, x) for y in range(3) for x in range(-2, 3) if x * x + y * y <= RADIUS**2 and (y, x) > (0, 0)]
GUIDED_PASSES, GUIDED_RADIUS, GUIDED_EPS = 4, 4, 16.0  # the latter in squared levels


@torch.no_grad()
def adverse_cleaner(images: Tensor, strength: float = 64, *, seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] after `strength` bilateral filters (64 in the published tool) and 4 guided filters.

    Both filters have the windows, weights and borders of OpenCV's, with which the published tool works.
    """
    photo = images.float() * 255
    smooth = photo
    for _ in range(int(strength)):
        smooth = bilateral(smooth)
    for _ in range(GUIDED_PASSES):
        smooth = guided(photo, smooth)
    return (smooth / 255).clamp(0, 1)


def bilateral(images: Tensor) -> Tensor:
    """One bilateral filter (B,3,H,W), 0 to 255: a disc, weights by distance and by the summed difference of colours."""
    padded = F.pad(images, (RADIUS,) * 4, "reflect")
    total, weights = padded.clone(), torch.ones_like(padded[:, :1])  # the pixel itself
    for y, x in HALF:  # of a pair of pixels, each counts for the other
        rows, columns = padded.shape[-2] - y, padded.shape[-1] - abs(x)
        here = (..., slice(0, rows), slice(max(0, -x), max(0, -x) + columns))
        there = (..., slice(y, y + rows), slice(max(0, x), max(0, x) + columns))
        difference = (padded[there] - padded[here]).abs_().sum(1, keepdim=True)
        weight = difference.square_().mul_(-0.5 / COLOUR**2).sub_(0.5 * (x * x + y * y) / SPACE**2).exp_()
        total[here].addcmul_(weight, padded[there])
        total[there].addcmul_(weight, padded[here])
        weights[here].add_(weight)
        weights[there].add_(weight)
    return (total / weights)[..., RADIUS:-RADIUS, RADIUS:-RADIUS]


def guided(guide: Tensor, images: Tensor) -> Tensor:
    """A guided filter (He et al. 2010) with a colour guide, both (B,3,H,W), 0 to 255: locally linear in the guide."""
    guide, images = guide.double(), images.double()
    mean_guide, mean = _mean(guide), _mean(images)
    covariance = _mean(guide[:, :, None] * guide[:, None]) - mean_guide[:, :, None] * mean_guide[:, None]
    cross = _mean(guide[:, :, None] * images[:, None]) - mean_guide[:, :, None] * mean[:, None]
    covariance = covariance.permute(0, 3, 4, 1, 2) + GUIDED_EPS * torch.eye(3, dtype=guide.dtype, device=guide.device)
    slope = torch.linalg.solve(covariance, cross.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
    offset = mean - (slope * mean_guide[:, :, None]).sum(1)
    return ((_mean(slope) * guide[:, :, None]).sum(1) + _mean(offset)).float()


def _mean(images: Tensor) -> Tensor:
    """Mean over a window around each pixel of the last two dimensions, the picture mirrored with its edge repeated."""
    r, shape = GUIDED_RADIUS, images.shape
    images = images.flatten(1, -3)
    images = torch.cat([images[..., :r, :].flip(-2), images, images[..., -r:, :].flip(-2)], -2)
    images = torch.cat([images[..., :r].flip(-1), images, images[..., -r:].flip(-1)], -1)
    return F.avg_pool2d(images, 2 * r + 1, stride=1).reshape(shape)
