"""How far a protected photo may be from its original: norm balls over each photo, and the one place that puts results
on the 8-bit grid. All sizes are in [0,1] pixel units."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.randomness import Generators, rand, randn

LEVELS = 255  # an 8-bit channel has the values 0/255 .. 255/255


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


@dataclass(frozen=True)
class Linf:
    """No channel of any pixel moves by more than `eps` (in [0,1], e.g. 8/255)."""

    eps: float

    def __post_init__(self) -> None:
        if not _is_number(self.eps) or not 0 < self.eps <= 1:
            raise UserError(f"Linf eps {self.eps}: allowed are numbers above 0 up to 1, such as 8/255 = {8 / 255:.4f}")

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbation within the budget."""
        return delta.clamp(-self.eps, self.eps)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 that raises the loss fastest: the sign."""
        return gradient.sign()

    def random(self, like: Tensor, generators: Generators) -> Tensor:
        """Uniform in the ball, float32, one generator for each image of `like` (B,3,H,W)."""
        return (2 * rand(like.shape[1:], generators, like.device) - 1) * self.eps

    def snap(self, levels: Tensor, originals: Tensor) -> Tensor:
        """Whole levels near `levels` (both in 0..255) that are within the budget of `originals`."""
        reach = self.eps * LEVELS + 1e-3  # a thousandth of a level: float32 knows 8/255 only so well
        lowest, highest = (originals - reach).ceil(), (originals + reach).floor()
        nearest = originals.round()  # where no level is within reach of an original between two levels
        return torch.where(lowest > highest, nearest, levels.round().maximum(lowest).minimum(highest))


@dataclass(frozen=True)
class L2:
    """The Euclidean norm of a photo's whole perturbation is at most `eps` (8.0 at 512x512: 2.3/255 a channel)."""

    eps: float

    def __post_init__(self) -> None:
        if not _is_number(self.eps) or not 0 < self.eps < math.inf:
            raise UserError(f"L2 eps {self.eps}: allowed are numbers above 0, such as 8.0 for 512x512 pixels")

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbation within the budget."""
        return delta * (self.eps / norms(delta).clamp_min(1e-12)).clamp(max=1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 that raises the loss fastest: the gradient, normalised per image."""
        return gradient / norms(gradient).clamp_min(1e-12)

    def random(self, like: Tensor, generators: Generators) -> Tensor:
        """Uniform in the ball, float32, one generator for each image of `like` (B,3,H,W)."""
        direction = self.steepest(randn(like.shape[1:], generators, like.device))
        radius = rand((1, 1, 1), generators, like.device) ** (1 / like[0].numel())
        return direction * radius * self.eps

    def snap(self, levels: Tensor, originals: Tensor) -> Tensor:
        """Whole levels near `levels`, which are within the budget of `originals` (both in 0..255), and still within it.

        Every value goes to the nearest level; if that makes the norm too large, those that would be rounded away from
        the original are rounded towards it instead, the ones with most to gain from it first.
        """
        floor, ceil = levels.floor(), levels.ceil()
        toward = torch.where((floor - originals).abs() <= (ceil - originals).abs(), floor, ceil)
        away = toward + (levels - toward).sign()
        excess = (levels - toward).abs()
        low, high = torch.full_like(levels[:, :1, :1, :1], 0.5), torch.ones_like(levels[:, :1, :1, :1])
        threshold = low
        for _ in range(20):  # bisect the fraction from which a value is rounded away; the first try is plain rounding
            snapped = torch.where(excess > threshold, away, toward)
            fits = norms(snapped - originals) <= self.eps * LEVELS * (1 + 1e-6)
            low, high = torch.where(fits, low, threshold), torch.where(fits, threshold, high)
            threshold = (low + high) / 2
        return torch.where(excess > high, away, toward)


Budget = Linf | L2


def as_budget(given: object) -> Budget | None:
    """A budget; a fraction such as 8/255 is the eps of Linf. Raises UserError for anything else but None."""
    if given is None or isinstance(given, Linf | L2):
        return given
    if isinstance(given, float):
        return Linf(given)
    raise UserError(
        f"budget {given!r}; allowed: a number from 0 to 1, such as 8/255 = {8 / 255:.4f}, Linf(8/255), L2(8.0)"
    )


def norms(images: Tensor) -> Tensor:
    """The L2 norm of each image, `(B,1,1,1)`."""
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def check_budget(budget: Budget | None, levels: float, length: float, name: str) -> None:
    """Raise UserError if a result is farther from its original than its budget allows; looked at before it is written.

    `levels`: the largest change of a channel, of 255; `length`: the L2 norm of all changes, in [0,1] units; `name`:
    what it is called.
    """
    moved, unit = (levels / LEVELS, "Linf") if isinstance(budget, Linf) else (length, "L2")
    if budget is not None and not moved <= budget.eps * (1 + 1e-4) + 1e-5:  # NaN, too
        raise UserError(
            f"{name} came out {moved:.4g} from its original ({unit}), beyond the budget of {budget.eps:.4g}, so nothing"
            " was written for it; allowed: other weights, or a report of this as a fault of editproof"
        )


def on_grid(images: Tensor, originals: Tensor, budget: Budget | None = None, support: Tensor | None = None) -> Tensor:
    """`images` (B,3,H,W) with whole 8-bit levels k/255, still within `budget` of `originals`.

    With `support` (B,1,H,W), pixels where it is 0 come from `originals`, bit for bit if those are 8-bit photos.
    Originals between two levels are rounded too: what is saved is what was measured.
    """
    images, originals = images.float(), originals.float()
    if budget is not None:
        images = originals + budget.project(images - originals)
    if support is not None:
        images = torch.where(support > 0, images, originals)
    levels, originals = images.clamp(0, 1) * LEVELS, originals * LEVELS
    snapped = levels.round() if budget is None else budget.snap(levels, originals)
    return snapped.clamp(0, LEVELS) / LEVELS


def grey(images: Tensor) -> Tensor:
    """Which of some images (B,3,H,W) are grey: (B,1,1,1) bool. Their perturbations are grey, too."""
    return (images == images[:, :1]).flatten(1).all(1).view(-1, 1, 1, 1)
