"""A budget within another that shows less: brightness only, and less of it where a photo is smooth."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.budgets import Budget
from editproof.metrics.luminance import yiq
from editproof.metrics.ssim import WINDOW
from editproof.randomness import Generators

TEXTURE = 0.04  # the local contrast (standard deviation of the luma) from which a texture hides all that is allowed


@torch.no_grad()
def texture(images: Tensor) -> Tensor:
    """(B,1,H,W) in [0,1] of images (B,3,H,W): 0 where a photo is smooth, 1 where its local contrast hides much."""
    luma = yiq(images)[:, :1] / 255

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, 1)

    spread = (mean(luma**2) - mean(luma) ** 2).clamp_min(0).sqrt()
    # near an edge of a smooth part little is hidden: the least of the surroundings counts
    return -F.max_pool2d(-(spread / TEXTURE).clamp(max=1), 9, 1, 4)


@dataclass(frozen=True)
class Quiet:
    """Changes that are alike in all three channels, at each pixel by a `share` (B,1,H,W), above 0, of `pixels`."""

    pixels: Budget
    share: Tensor

    @property
    def eps(self) -> float:
        """That of the pixels' budget."""
        return self.pixels.eps

    def project(self, delta: Tensor) -> Tensor:
        """The mean of the channels, within the share of the budget that each pixel has."""
        return self.pixels.project(_alike(delta) / self.share) * self.share

    def steepest(self, gradient: Tensor) -> Tensor:
        """The budget's own direction, along which pixels move by their share."""
        return self.pixels.steepest(_alike(gradient) * self.share) * self.share

    def random(self, like: Tensor, generators: Generators) -> Tensor:
        """A random point of the pixels' budget, its channels' mean for all three, each pixel moved by its share."""
        return _alike(self.pixels.random(like, generators)) * self.share

    def snap(self, levels: Tensor, originals: Tensor) -> Tensor:
        """Whole levels within the pixels' budget."""
        return self.pixels.snap(levels, originals)


def _alike(delta: Tensor) -> Tensor:
    return delta.mean(1, keepdim=True).expand_as(delta)
