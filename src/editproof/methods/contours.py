"""DiffusionGuard's mask augmentation (arXiv 2410.05694): the kept region with its outline shaken inwards."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree
from skimage.measure import find_contours
from skimage.transform import resize
from torch import Tensor

SIDE = 512  # the authors' sizes are in pixels of a picture of this side
ROUNDS = 15  # fewer than this
STRENGTH, SMOOTHNESS = 1.1, 0.1  # of the region's radius


class Contour:
    """A kept region (H,W), 1 = keep, from whose largest part random smaller ones are made, at the side of 512."""

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept.bool().cpu().numpy()
        scale = SIDE / max(self.kept.shape)
        shape = tuple(round(side * scale) for side in self.kept.shape)
        self.region = resize(self.kept, shape, order=0) if shape != self.kept.shape else self.kept
        self.radius = math.sqrt(math.pi * self.region.sum() / 2)
        self.first = outline(self.region)

    def shrink(self, generator: torch.Generator) -> Tensor:
        """A random part of the kept region (H,W), 1 = keep.

        Once a mask, a reach is drawn: int(1.1 u), u uniform in (0, radius). Then 1 to 14 times the corners of the
        region's outline move by whole pixels, uniform within the reach and smoothed along the outline with a Gaussian
        of .1 radius (corners, not pixels); those that leave the region go to the outline's nearest corner; what the
        moved corners enclose is the region of the next round.
        """
        rounds = int(torch.randint(1, ROUNDS, (), generator=generator))
        reach = int(STRENGTH * self.radius * float(torch.rand((), generator=generator)))
        smaller, region, corners = self.kept, self.region, self.first
        for _ in range(rounds):
            offsets = torch.randint(-reach, reach + 1, corners.shape, generator=generator).numpy()
            region = filled(self._moved(region, corners, offsets), region.shape)
            there = self._at_own_size(region)
            if not there.any():  # so little is kept that a smaller picture does not show it
                break
            smaller, corners = there, outline(region)
        return torch.from_numpy(smaller)

    def _moved(self, region: np.ndarray, corners: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        smoothed = gaussian_filter1d(offsets, SMOOTHNESS * self.radius, axis=0)  # of whole numbers: whole numbers
        moved = (corners + smoothed).clip(0, np.array(region.shape) - 1)
        outside = ~region[tuple(moved.T)]
        moved[outside] = corners[cKDTree(corners).query(moved[outside])[1]]
        return moved

    def _at_own_size(self, region: np.ndarray) -> np.ndarray:
        there = resize(region, self.kept.shape, order=0) if region.shape != self.kept.shape else region
        return there & self.kept


def outline(region: np.ndarray) -> np.ndarray:
    """The corners (N, 2) of the outline of the largest part of a region (H,W): pixels of it, as (row, column).

    Pixels between two others on a straight line (sideways, upright or diagonal) are left out, as OpenCV does.
    """
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    top, left = rows[0], columns[0]
    part = np.pad(
        region[top : rows[-1] + 1, left : columns[-1] + 1], 1
    )  # a frame closes outlines that touch the border
    points = max(find_contours(part.astype(float), 0.5, fully_connected="high"), key=_area)[:-1]
    low, high = np.floor(points).astype(int), np.ceil(points).astype(int)
    pixels = np.where(part[tuple(low.T)][:, None], low, high)  # every point is half-way between one inside and one not
    pixels = np.concatenate([pixels[:1], pixels[1:][(np.diff(pixels, axis=0) != 0).any(1)]])
    if len(pixels) > 1 and (pixels[0] == pixels[-1]).all():
        pixels = pixels[:-1]
    step = np.roll(pixels, -1, axis=0) - pixels
    corners = pixels[(step != np.roll(step, 1, axis=0)).any(1)]
    return (corners if len(corners) else pixels[:1]) - 1 + (top, left)


def filled(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The polygon of (row, column) corners, its outline included, as a boolean (H,W); Pillow is quick at this."""
    canvas = Image.new("1", (shape[1], shape[0]))
    draw, points = ImageDraw.Draw(canvas), corners[:, ::-1].ravel().tolist()
    if len(corners) > 1:
        draw.polygon(points, fill=1, outline=1)
    else:
        draw.point(points, fill=1)
    return np.array(canvas)


def _area(outline: np.ndarray) -> float:
    """The area inside a closed outline (shoelace formula)."""
    rows, columns = outline.T
    return abs(float(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1)))) / 2
