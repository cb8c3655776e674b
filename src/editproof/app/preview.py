"""The third step's live look: the face and the smoothest part at 100 %, before and after, for a strength."""

import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from torch import Tensor

from editproof.app import words
from editproof.app.choosing import People
from editproof.app.texts import say
from editproof.app.visits import Visit
from editproof.budgets import Linf
from editproof.methods import METHODS
from editproof.photo.masks import AUTO
from editproof.photo.reading import Photo
from editproof.protection import own_size
from editproof.protection.apply import DEFAULT_METHOD, perturbation, size_to_work_at
from editproof.resolution import working_copy, working_mask

SIDE = 176  # pixels of the photo, shown as many on the page
SPOT = 60  # of its sides, what is compared to find the smoothest
Place = tuple[int, int]  # left and top of a square in the photo


def is_quick(method: str) -> bool:
    """Whether a method can be looked at while the slider moves: it optimises nothing and needs no editor."""
    return METHODS[method].paper is None and METHODS[method].needs == "none"


def protected_levels(photo: Photo, mask: Tensor | None, strength: float, method: str = DEFAULT_METHOD) -> Tensor:
    """The photo (H, W, 3) uint8 as Protect would write it with a method that is_quick.

    mask: (1, 1, H, W), 1 = not protected; None: everything is protected.
    """
    budget, size = Linf(words.eps_of(strength)), size_to_work_at(method, None, {}, photo.size)
    delta = perturbation(
        working_copy(photo.levels.permute(2, 0, 1)[None], size),
        method=method,
        editor=None,
        mask=None if mask is None else working_mask(mask, size),
        budget=budget,
    )
    return own_size.add(photo.levels, delta[0], budget, None if mask is None else mask[0, 0] == 0)


def places(photo: Photo, keep: np.ndarray | None, people: People | None) -> list[tuple[str, Place]]:
    """Where to look: (a key of the catalogs, the square's corner), the face or the middle first, then the smoothest."""
    grey = np.asarray(Image.fromarray(photo.levels.numpy()).convert("L").resize(_small(photo)), np.float32)
    scale = photo.size[0] / grey.shape[0]
    window = max(1, round(SPOT / scale))
    kept = np.ones(grey.shape, np.float32) if keep is None else _resized(keep, (grey.shape[1], grey.shape[0]))
    inside = ndimage.uniform_filter(kept, window, mode="constant")
    mean, square = (ndimage.uniform_filter(one, window) for one in (grey, grey**2))
    rough = (square - mean**2) + 1e6 * (inside < min(0.95, 0.95 * inside.max()))
    smooth = np.unravel_index(rough.argmin(), rough.shape)
    face = None
    if people is not None:
        share = photo.size[0] / people.numbers.shape[0]
        chosen = [(x, y) for x, y in people.faces if people.numbers[y, x] in people.chosen]
        face = (chosen[0][0] * share, chosen[0][1] * share) if chosen else None
    name, (x, y) = "look_face", face or (0.0, 0.0)
    if face is None:
        row, column = np.unravel_index(inside.argmax(), inside.shape) if keep is not None else np.array(grey.shape) // 2
        name, (x, y) = "look_detail", (column * scale, row * scale)
    return [(name, _corner(photo, x, y)), ("look_smooth", _corner(photo, smooth[1] * scale, smooth[0] * scale))]


def _small(photo: Photo) -> tuple[int, int]:
    scale = min(1.0, 640 / max(photo.size))
    return max(1, round(photo.size[1] * scale)), max(1, round(photo.size[0] * scale))


def _resized(keep: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(keep.astype(np.uint8) * 255).resize(size), np.float32) / 255


def _corner(photo: Photo, x: float, y: float) -> Place:
    height, width = photo.size
    return (
        int(np.clip(round(x) - SIDE // 2, 0, max(0, width - SIDE))),
        int(np.clip(round(y) - SIDE // 2, 0, max(0, height - SIDE))),
    )


def looks(
    visit: Visit, photo: Photo, mask: Tensor | None, people: People | None, strength: float,
    method: str = DEFAULT_METHOD,
) -> str:  # fmt: skip
    """The squares before and after, as HTML with a line to move; of the default where the method is not quick."""
    after = protected_levels(photo, mask, strength, method if is_quick(method) else DEFAULT_METHOD)
    keep = None if mask is None else (mask[0, 0] == 0).numpy()
    pairs = []
    for name, (left, top) in places(photo, keep, people):
        square = slice(top, top + SIDE), slice(left, left + SIDE)
        pairs.append(pair(visit.language, say(visit.language, name), photo.levels[square], after[square]))
    told = say(visit.language, "look")
    if not is_quick(method):
        default = say(visit.language, words.HOW[DEFAULT_METHOD])
        name = say(visit.language, words.HOW[method]) if method in words.HOW else method
        told += " " + say(visit.language, "look_other", default=default, method=name)
    return f'<p>{html.escape(told)}</p><div class="looks">{"".join(pairs)}</div>'


def pair(language: str, place: str, before: Tensor, after: Tensor) -> str:
    """Two pictures (h, w, 3) uint8 on top of each other, and a line between them that is moved by hand or by keys."""
    height, width = before.shape[:2]
    label = html.escape(say(language, "slide", place=place), quote=True)
    return (
        f'<figure class="pair"><b>{html.escape(place)}</b><div class="stack" style="width:{width}px;height:{height}px">'
        f'<img alt="" src="{_inline(before)}"><img alt="" class="after" src="{_inline(after)}"><span></span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{label}"></div>'
        f"<figcaption><span>{html.escape(say(language, 'before'))}</span> "
        f"<span>{html.escape(say(language, 'after'))}</span></figcaption></figure>"
    )


def _inline(levels: Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray(levels.numpy()).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def mask_tensor(chosen: str | Path | None, people: People | None, photo: Photo) -> Tensor | None:
    """The mask that Protect will use (1, 1, H, W), from what choosing.mask_of gives."""
    from editproof.app.pictures import read_mask

    file = (people.mask if people is not None else None) if chosen == AUTO else chosen
    return None if file is None else read_mask(Path(file), photo)
