"""DiffusionGuard's mask augmentation (arXiv 2410.05694): the kept region with its outline shaken inwards."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.fft import irfft, rfft
from scipy.ndimage import gaussian_filter1d
from skimage.measure import find_contours
from skimage.transform import resize
from torch import Tensor

SIDE = 512  # the authors' sizes are in pixels of a picture of this side


class Contour:
    """The outline of the largest part of a kept region (H,W), 1 = keep, in pixels of a 512-pixel picture."""

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept.bool().cpu().numpy()
        height, width = self.kept.shape
        self.scale = SIDE / max(height, width)
        shape = (round(height * self.scale), round(width * self.scale))
        self.region = resize(self.kept, shape, order=0) if shape != (height, width) else self.kept
        # A frame of unkept pixels closes outlines that touch the border.
        outlines = find_contours(np.pad(self.region, 1).astype(float), 0.5)
        self.points = max(outlines, key=_area) - 1
        self.radius = math.sqrt(math.pi * self.region.sum() / 2)
        # A filter that is as long as the outline would take most of the time: smoothing is a product of spectra.
        impulse = np.zeros(len(self.points))
        impulse[0] = 1
        self.smooth = rfft(gaussian_filter1d(impulse, 0.1 * self.radius, mode="wrap"))[:, None]

    def shrink(self, generator: torch.Generator) -> Tensor:
        """A random part of the kept region (H,W), 1 = keep: 1 to 14 rounds of moving each point of the outline by whole
        pixels within int(1.1 u), u uniform in (0, radius), smoothing along the outline with a Gaussian of .1 radius,
        and putting points that left the region back where they began. The region itself where nothing would be left."""
        rounds = int(torch.randint(1, 15, (), generator=generator))
        points = self.points
        for _ in range(rounds):
            reach = int(1.1 * self.radius * float(torch.rand((), generator=generator)))
            offsets = torch.randint(-reach, reach + 1, points.shape, generator=generator).numpy()
            moved = irfft(rfft(points + offsets, axis=0) * self.smooth, len(points), axis=0)
            points = np.where(self._inside(moved)[:, None], moved, self.points)
        smaller = _filled(points / self.scale, self.kept.shape) & self.kept
        return torch.from_numpy(smaller if smaller.any() else self.kept)

    def _inside(self, points: np.ndarray) -> np.ndarray:
        rows, columns = np.rint(points).astype(int).T
        height, width = self.region.shape
        within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return within & self.region[rows.clip(0, height - 1), columns.clip(0, width - 1)]


def _filled(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The polygon of (row, column) points as a boolean mask; Pillow is 100 times as fast as scikit-image at this."""
    canvas = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(canvas).polygon(points[:, ::-1].ravel().tolist(), fill=1)
    return np.asarray(canvas)


def _area(outline: np.ndarray) -> float:
    """The area inside a closed outline (shoelace formula)."""
    rows, columns = outline.T
    return abs(float(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1)))) / 2
