"""DCT-Shield (arXiv 2504.17894): the encoder attack on a JPEG's cosine coefficients, so that JPEG does not undo it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.budgets import Budget, Linf, on_grid
from editproof.counters.jpeg_diff import LUMA, dct, table
from editproof.errors import UserError
from editproof.methods.method import Given, method, minimise
from editproof.randomness import Generators

WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in the luminance


@method("dct-shield", paper=(Linf(16 / 255), 200, 2 / 255), fast={"steps": 30})
def dct_shield(given: Given, *, quality: int = 75, reach: float = 2.0) -> Tensor:
    """Pull the latent mean to that of mid-grey by changes of the luminance's 8x8 cosine coefficients.

    Coefficients move by whole steps of a JPEG's quantisation table and by no more than `reach` of them; colour stays.
    The prompt has no effect.

    Args:
        given: The photos and what may change in them.
        quality: Of the JPEG whose table is meant, 1 to 100.
        reach: In steps of the table.

    Deviations: only the idea, the JPEG pipeline and luminance alone are the paper's; its numbers were not at hand where
    this was written, so budget, steps, quality and reach are ours. The budget bounds pixels too, and the result is on
    the 8-bit grid, not a JPEG.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}; allowed: a whole number from 1 to 100")
    editor, images = given.editor, given.images
    with torch.no_grad():
        grey = editor.encode(torch.full_like(images[:1], 0.5))

    def distance(moved: Tensor) -> Tensor:
        return (editor.encode(moved, given.mask) - grey).flatten(1).norm(dim=1)

    moved = minimise(distance, given, within=Luminance(given.budget, quality, reach))
    return on_grid(moved, images, given.budget, given.kept)


@dataclass(frozen=True)
class Luminance:
    """A budget within another: of changes to quantised coefficients of the luminance."""

    pixels: Budget
    quality: int
    reach: float

    @property
    def eps(self) -> float:
        """That of the pixels' budget."""
        return self.pixels.eps

    def project(self, delta: Tensor) -> Tensor:
        """The nearest change of luminance whose coefficients are within reach, within the pixels' budget."""
        steps = _coefficients(delta) * 255 / self._table(delta)
        changed = _picture(steps.clamp(-self.reach, self.reach) * self._table(delta) / 255, delta)
        return self.pixels.project(changed)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of each coefficient's gradient, as a picture whose largest change is 1."""
        signs = _coefficients(gradient).sign() * self._table(gradient)
        picture = _picture(signs, gradient)
        return picture / picture.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)

    def random(self, like: Tensor, generators: Generators) -> Tensor:
        """A random point of the pixels' budget, brought within this one."""
        return self.project(self.pixels.random(like, generators))

    def snap(self, levels: Tensor, originals: Tensor) -> Tensor:
        """Whole levels within the pixels' budget."""
        return self.pixels.snap(levels, originals)

    def _table(self, like: Tensor) -> Tensor:
        return table(LUMA, self.quality).to(like.device)


def _coefficients(delta: Tensor) -> Tensor:
    """Cosine coefficients (B,h,w,8,8) of the luminance of changes (B,3,H,W), padded to whole blocks."""
    luma = (delta * torch.tensor(WEIGHTS, device=delta.device).view(1, 3, 1, 1)).sum(1)
    luma = F.pad(luma, (0, -luma.shape[-1] % 8, 0, -luma.shape[-2] % 8))
    blocks = luma.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    basis = dct().to(delta.device)
    return basis @ blocks @ basis.mT


def _picture(coefficients: Tensor, like: Tensor) -> Tensor:
    """The same change of all three channels (B,3,H,W) that has these coefficients of luminance."""
    basis = dct().to(like.device)
    blocks = basis.mT @ coefficients @ basis
    luma = blocks.transpose(-3, -2).flatten(-2).flatten(1, 2)[..., : like.shape[-2], : like.shape[-1]]
    return luma[:, None].expand(-1, 3, -1, -1)
