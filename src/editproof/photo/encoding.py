"""Lossy files that keep what protection added, at no higher quality than that takes."""

import io
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from editproof.photo.formats import FORMATS, QUALITY, decode, encode
from editproof.photo.reading import Photo

KEPT = 0.95  # of the perturbation: what a file in the photo's own format keeps at least
LADDER = (60, 70, 80, 85, 90, 95, 98, 100)  # qualities that are tried above the photo's own


@dataclass(frozen=True, eq=False)
class Encoded:
    """A file, what a viewer sees of it (H, W, 3) uint8, and of a lossy one its quality and the share that is left."""

    file: io.BytesIO
    seen: Tensor
    quality: int | None = None
    left: float | None = None


def encoded(
    levels: Tensor, photo: Photo, name: str, quality: int | None, same: bool, left: Callable[[Tensor], float]
) -> Encoded:
    """A result (H, W, 3) uint8 in the format `name`.

    Where `same` and no quality is asked for, a JPEG gets the quality and chroma sampling that its photo came with, or
    the next better ones at which `left`, the share of the perturbation that is there in what is seen, is KEPT.
    """
    if FORMATS[name].lossless:
        return Encoded(encode(levels, photo, name), levels)
    ways: list[tuple[int, dict[str, str]]] = [(QUALITY if quality is None else quality, {})]
    if same and quality is None and photo.jpeg is not None:
        own, sampling = photo.jpeg
        ways = [(own, {"subsampling": sampling}), (own, {}), *((better, {}) for better in LADDER if better > own)]
    for chosen, more in ways:
        file = encode(levels, photo, name, chosen, **more)
        seen = decode(file)
        found = Encoded(file, seen, chosen, left(seen))
        if len(ways) == 1 or (found.left is not None and found.left >= KEPT):
            break
    return found
