"""A protection that holds at several sizes: at each step of the descent the editor sees the photo at another one."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.methods.checks import kept_pixels
from editproof.pgd import Objective
from editproof.resolution import resize, working_mask, working_size

if TYPE_CHECKING:
    from editproof.methods.method import Given

ALL = "all"
USUAL = (512, 768, 1024)  # pixels: the sides of squares as large as editors see photos


def at_all_sizes(objective: Objective, given: "Given") -> Objective:
    """An objective that draws one of `given.descent.sizes` at each call, and takes the method's objective there.

    The size that the photos have is always among them and has the objective that is given; those of other sizes are
    made when they are first drawn, by calling the method with the photos and masks at that size.
    """
    height, width = given.images.shape[-2:]
    sizes = list(dict.fromkeys([(height, width), *_sizes(str(given.descent.sizes), height, width)]))
    draws, known = torch.Generator().manual_seed(given.seed), {(height, width): objective}

    def drawn(images: Tensor) -> Tensor:
        size = sizes[int(torch.randint(len(sizes), (), generator=draws))]
        if size not in known:
            known[size] = _objective_at(size, given)
        return known[size](resize(images, size).clamp(0, 1) if size != (height, width) else images)

    return drawn


def check_sizes(text: str) -> None:
    """Raise UserError for a text that names no sizes."""
    _sizes(text, 512, 512)


def _sizes(text: str, height: int, width: int) -> list[tuple[int, int]]:
    side = math.sqrt(height * width)
    if text == ALL:  # a smaller editor: in proportion
        sides = [s for s in USUAL if abs(s - side) > 16] if side >= USUAL[0] / 1.5 else [side / 2, side * 3 / 4]
    else:
        try:
            sides = [int(part) for part in text.split(",")]
        except ValueError:
            sides = []
        if not sides or not all(16 <= side <= 8192 for side in sides):
            raise UserError(f"sizes '{text}': allowed are sides from 16 to 8192 pixels with commas, or all")
    return [working_size(height, width, round(side)) for side in sides]


def _objective_at(size: tuple[int, int], given: "Given") -> Objective:
    """What the method minimises for the same photos at another size."""
    asked: list[Callable[[Tensor], Any]] = []
    with torch.no_grad():
        images = resize(given.images, size).clamp(0, 1)
    mask = None if given.mask is None else working_mask(given.mask.float(), size).to(images.device)
    there = replace(
        given, images=images, mask=mask, kept=kept_pixels(images, mask), asked=asked,
        descent=replace(given.descent, sizes=None),
    )  # fmt: skip
    given.method.function(there, **given.own)
    return asked[0]
