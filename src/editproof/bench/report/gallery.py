"""The pictures of a report, small enough to be part of the page."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editproof.bench.report.tables import size_of
from editproof.bench.store import Key, picture_path, read_lines
from editproof.errors import UserError
from editproof.photo.reading import open_photo

SIDE, QUALITY = 224, 80  # of the pictures: longest side in pixels, WebP
GAIN = 10  # of perturbations
MOST = 400  # pictures in a page


@dataclass(frozen=True)
class Shown:
    """A protected photo, what was changed in it, and what the editor made of it."""

    method: str
    protected: str  # data URIs
    change: str
    attacked: str
    key: Key


@dataclass(frozen=True)
class Strip:
    """A photo, its edit, and all methods on it."""

    editor: str
    photo: str
    prompt: str
    original: str
    edit: str
    shown: list[Shown]


def gallery(folder: Path, rows: Mapping[Key, Any], methods: list[str], photos: int) -> list[Strip]:
    """The first photos of each editor, with the first prompt and seed, without a counter-attack.

    A method with several budgets is shown with the middle one. What is no longer in the cache is left out.
    """
    index = {Key(*(line[n] for n in Key._fields)): line for line in read_lines(folder / "pictures.jsonl")}
    strips, used = [], 0
    for editor in dict.fromkeys(key.editor for key in rows):
        mine = [key for key in rows if key.editor == editor and key in index and key.counter == "none"]
        for photo in sorted({key.photo for key in mine})[:photos]:
            of_photo = [key for key in mine if key.photo == photo]
            prompt, seed = of_photo[0].prompt, min(key.seed for key in of_photo)
            chosen = [key for key in of_photo if key.prompt == prompt and key.seed == seed]
            strip = _strip(folder, chosen, index, methods)
            if strip is not None and used + 2 + 3 * len(strip.shown) <= MOST:
                strips.append(strip)
                used += 2 + 3 * len(strip.shown)
    return strips


def _strip(folder: Path, keys: list[Key], index: Mapping[Key, Any], methods: list[str]) -> Strip | None:
    def load(key: Key, what: str) -> Tensor | None:
        try:
            return open_photo(picture_path(folder, index[key][what])).pixels
        except (UserError, KeyError):
            return None

    shown = []
    original = edit = None
    for method in methods:
        mine = sorted((key for key in keys if key.method == method), key=lambda key: size_of(key.budget))
        if not mine:
            continue
        key = mine[len(mine) // 2]
        original, edit = load(key, "original"), load(key, "edit")
        protected, attacked = load(key, "protected"), load(key, "attacked")
        if original is None or edit is None:
            return None
        if protected is None or attacked is None or method == "none":
            continue
        change = 0.5 + GAIN * (protected - original)
        shown.append(Shown(method, _embed(protected), _embed(change), _embed(attacked), key))
    if original is None or edit is None or not shown:
        return None
    return Strip(keys[0].editor, keys[0].photo, keys[0].prompt, _embed(original), _embed(edit), shown)


def _embed(picture: Tensor) -> str:
    """A picture (3,H,W) as a data URI."""
    array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(array)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
