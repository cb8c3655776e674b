"""Pictures as the page shows them: small enough to send, PNG so that a perturbation survives, edits with a mark."""

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editproof.app.words import MARK
from editproof.bench.report.gallery import GAIN
from editproof.errors import UserError
from editproof.photo.masks import open_mask
from editproof.photo.reading import Photo, to_levels
from editproof.video.reading import frames_of, levels_of, open_clip

SHOWN_SIDE = 1280  # longest, in pixels, of what is shown
PAINTED_SIDE = 800  # and of what is painted on


def shown(photo: Photo, side: int = SHOWN_SIDE) -> Image.Image:
    """A photo at no more than `side` pixels along its longer side, on white where it is transparent."""
    image = Image.fromarray(photo.levels.numpy())
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(photo.alpha.numpy()))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if photo.icc is not None:
        image.info["icc_profile"] = photo.icc
    return image


def first_frame_of(clip: Path) -> Photo:
    """The first frame of a clip, as a photo. Raises UserError."""
    opened = open_clip(clip, whole=False)
    for _, frame in frames_of(opened, 0, 1):
        return Photo(clip, levels_of(frame, opened))
    raise UserError(f"clip '{clip}' has no frame; allowed: one or more")


def first_frame(clip: Path) -> Image.Image:
    """The first frame of a clip, as it is shown. Raises UserError."""
    return shown(first_frame_of(clip))


def save(image: Image.Image, path: Path) -> str:
    """Write a picture as PNG, quickly, and return its name."""
    image.save(path, format="PNG", compress_level=1, icc_profile=image.info.get("icc_profile"))
    return str(path)


def amplified(protected: Image.Image, original: Image.Image) -> Image.Image:
    """What was changed, GAIN times as strong, around mid-grey."""
    change = np.asarray(protected, np.float32) - np.asarray(original, np.float32)
    return Image.fromarray((127.5 + GAIN * change).round().clip(0, 255).astype(np.uint8))


def painted_over(painted: dict[str, Any] | None) -> Image.Image | None:
    """What was painted, without the photo, as it looks: RGBA. None if there is nothing."""
    layers = [np.asarray(layer) for layer in (painted or {}).get("layers", []) if layer is not None]
    layers = [layer for layer in layers if (layer[..., 3] > 0).any()]
    return reduce(Image.alpha_composite, map(Image.fromarray, layers)) if layers else None


def painted_mask(painted: dict[str, Any] | None, path: Path) -> bool:
    """Write what was painted as a mask file: black, to be kept, where there is paint. False if there is none."""
    over = painted_over(painted)
    if over is None:
        return False
    save_mask(torch.from_numpy(np.asarray(over)[..., 3] == 0).float()[None, None], path)
    return True


def save_mask(mask: Tensor, path: Path) -> None:
    """Write a mask (1, 1, H, W) as a file that open_mask reads: white = may be repainted."""
    Image.fromarray((mask[0, 0] > 0.5).byte().mul(255).cpu().numpy()).save(path, format="PNG")


def read_mask(path: Path | None, photo: Photo) -> Tensor | None:
    """The mask in a file at the photo's size (1, 1, H, W); None without a file."""
    return None if path is None else open_mask(path, photo.size)


def marked(pixels: Tensor) -> Image.Image:
    """An edit (1, 3, H, W) as it is shown, with a mark that says what it is."""
    image = Image.fromarray(to_levels(pixels[0]).numpy())
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return mark(image)


def mark(image: Image.Image) -> Image.Image:
    """A picture with the words of MARK in its lower right corner, and in its text."""
    pen = ImageDraw.Draw(image)
    size = max(9, round(min(image.size) * 0.035))
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = pen.textbbox((0, 0), MARK, font=font)
    pad = size // 3
    box = (image.width - (right - left) - 2 * pad, image.height - (bottom - top) - 2 * pad, image.width, image.height)
    pen.rectangle(box, fill="black")
    pen.text((box[0] + pad - left, box[1] + pad - top), MARK, fill="white", font=font)
    return image
