"""The size at which an editor sees a photo: what its shipped pipeline makes of one if it is told nothing.

A protection that was computed at another size can be void (docs/in-context.md), so methods work at this one. The rules
are those of diffusers 0.42; tests/test_sizes.py runs the pipelines and looks at what reaches their VAEs.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from editproof.editors.hub import told
from editproof.resolution import working_size

MEGAPIXEL = 1024 * 1024
FILL_LATENTS = 128  # on a side: FLUX Fill's pipeline has it written in its code
# FLUX.1 Kontext was trained at these (height, width), and brings every photo to the one of the nearest aspect ratio.
KONTEXT = (
    (1568, 672), (1504, 688), (1456, 720), (1392, 752), (1328, 800), (1248, 832), (1184, 880), (1104, 944),
    (1024, 1024), (944, 1104), (880, 1184), (832, 1248), (800, 1328), (752, 1392), (720, 1456), (688, 1504), (672, 1568)
)  # fmt: skip
Rule = Callable[[int, int, int, int], tuple[int, int]]  # height, width, trained side, multiple -> height, width


def kept(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The area of side x side pixels, the aspect ratio kept: the embedded editors, which editproof alone runs."""
    return working_size(height, width, side)


def squashed(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """A square of the trained side, whatever the photo's shape."""
    return side, side


def own(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The photo's own size, sides cut down to multiples."""
    return max(multiple, height // multiple * multiple), max(multiple, width // multiple * multiple)


def preferred(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The one of Kontext's sizes whose aspect ratio is nearest; of two as near the narrower one."""
    nearest = min(KONTEXT, key=lambda size: (abs(width / height - size[1] / size[0]), size[1]))
    return own(*nearest, side, multiple)


def at_most_a_megapixel(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The photo's own size, scaled down to 1024 x 1024 pixels' area where it has more; cut to multiples."""
    if height * width > MEGAPIXEL:
        scale = math.sqrt(MEGAPIXEL / (height * width))
        height, width = int(height * scale), int(width * scale)
    return own(height, width, side, multiple)


def area_of_side(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The area of side x side pixels with the photo's aspect ratio, cut to multiples."""
    scale = side / (height * width) ** 0.5
    return own(int(height * scale), int(width * scale), side, multiple)


def rounded_megapixel(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """1024 x 1024 pixels' area with the photo's aspect ratio, both sides to the nearest multiple of 32."""
    wide = math.sqrt(MEGAPIXEL * width / height)
    return round(wide / (width / height) / 32) * 32, round(wide / 32) * 32


# Of each pipeline: the rule, and of what both sides are multiples where the model has its usual VAE (of factor 8).
RULES: dict[str, tuple[Rule, int]] = {
    "StableDiffusionInpaintPipeline": (squashed, 8),
    "StableDiffusionXLInpaintPipeline": (squashed, 8),
    "FluxFillPipeline": (squashed, 16),
    "StableDiffusionInstructPix2PixPipeline": (own, 8),
    "StableDiffusionXLImg2ImgPipeline": (own, 8),
    "StableDiffusion3Img2ImgPipeline": (squashed, 16),
    "QwenImageEditPlusPipeline": (rounded_megapixel, 16),
    "FluxKontextPipeline": (preferred, 16),
    "Flux2KleinPipeline": (at_most_a_megapixel, 16),
    "Step1XPipeline": (area_of_side, 16),
}


def size_of(class_name: str, height: int, width: int, side: int, multiple: int | None = None) -> tuple[int, int]:
    """(height, width) at which a pipeline of this class, trained at `side`, sees a photo of height x width pixels."""
    rule, usual = RULES[class_name]
    return rule(height, width, side, multiple or usual)


def side_and_multiple(class_name: str, source: str, label: str, folder: bool) -> tuple[int, int | None]:
    """The trained side, and the multiple where it is not the usual one, of a pipeline that is not loaded.

    Read from the small config files of a folder or hub model.
    """
    vae = _config(source, "vae", label, folder)
    halvings = vae.get("temperal_downsample") or vae.get("block_out_channels", (0,) * 4)[1:]  # of Qwen's, of others'
    factor = 2 ** len(halvings)
    multiple = factor * RULES[class_name][1] // 8
    if class_name == "Step1XPipeline":
        return _config(source, "", label, folder).get("side", 512), multiple
    if RULES[class_name][0] is not squashed:
        return 1024, multiple
    if class_name == "FluxFillPipeline":
        return FILL_LATENTS * factor, multiple
    part = "transformer" if class_name == "StableDiffusion3Img2ImgPipeline" else "unet"
    return _config(source, part, label, folder)["sample_size"] * factor, multiple


def _config(source: str, part: str, label: str, folder: bool) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    name = f"{part}/config.json" if part else "model_index.json"
    with told(label, source, name):
        path = Path(source, name) if folder else Path(hf_hub_download(source, name))
        return json.loads(path.read_text())
