"""How a JPEG was written: its quality and its chroma sampling."""

from collections.abc import Sequence
from typing import Any

import numpy as np

STANDARD = np.array([  # the luminance table of ITU-R T.81 annex K, of which libjpeg makes those of its qualities
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def jpeg_quality(table: Sequence[int]) -> int:
    """The quality (1 to 100) at which libjpeg's luminance table is nearest to this one, as Pillow counts it."""
    found = np.array(table)

    def scaled(quality: int) -> np.ndarray:
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        return np.clip((STANDARD * scale + 50) // 100, 1, 255)

    return min(range(1, 101), key=lambda quality: float(np.abs(np.log(scaled(quality) / found)).sum()))


def written_with(image: Any) -> tuple[int, str] | None:
    """Quality and chroma sampling of an opened picture; None if it is no JPEG. Unusual sampling counts as 4:4:4."""
    if image.format not in ("JPEG", "MPO") or not getattr(image, "quantization", None):
        return None
    from PIL import JpegImagePlugin

    return jpeg_quality(image.quantization[0]), SAMPLINGS.get(JpegImagePlugin.get_sampling(image), "4:4:4")
