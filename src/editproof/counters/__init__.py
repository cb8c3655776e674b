"""Counter-attacks by name: what someone does to a protected photo before an editor sees it.

A counter is `(images, *, seed=0) -> images`: (B,3,H,W) in [0,1] to the same size; what changes the size scales it back.
Written as text it is `name` or `name:strength`, and `resize:0.5+jpeg:75` is one after the other. Every photo draws from
a generator of its own, so that a result does not depend on the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import on_grid
from editproof.counters.adverse_cleaner import adverse_cleaner
from editproof.counters.codecs import avif, check_avif, jpeg, social, webp
from editproof.counters.denoise import check_wavelet, nlm, wavelet
from editproof.counters.filters import bits, blur, median, noise
from editproof.counters.geometry import crop, flip, resize_and_back, rotate
from editproof.counters.impress import impress
from editproof.counters.jpeg_diff import jpeg_diff
from editproof.counters.purify import regenerate, vae
from editproof.errors import UserError
from editproof.plugins import add_plugins

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

Counter = Callable[..., Tensor]  # (images, *, seed=0) -> images
Make = Callable[[float, "Editor | None"], Counter]


@dataclass(frozen=True)
class CounterInfo:
    """One kind of counter: what its strength may be, and what it needs."""

    make: Make
    default: float
    low: float  # smallest and largest strength; the same where there is none to choose
    high: float
    note: str  # what the strength means
    whole: bool = False  # the strength is a whole number
    differentiable: bool = False  # gradients reach the photo: usable in attacks and in training, see transform.py
    moves: bool = False  # the content is in another place afterwards
    needs_editor: bool = False


def _none(images: Tensor, strength: float = 0, *, seed: int = 0) -> Tensor:
    """The photo as it is."""
    return images


def _plain(function: Callable[..., Tensor], check: Callable[[], None] = lambda: None) -> Make:
    def make(strength: float, editor: "Editor | None") -> Counter:
        check()
        return partial(function, strength=strength)

    return make


def _through(function: Callable[..., Tensor]) -> Make:
    return lambda strength, editor: partial(function, strength=strength, editor=editor)


QUALITY = "quality of Pillow's encoder"
COUNTERS: dict[str, CounterInfo] = {
    "none": CounterInfo(_plain(_none), 0, 0, 0, "nothing is done", differentiable=True),
    "jpeg": CounterInfo(_plain(jpeg), 75, 1, 100, QUALITY, whole=True),
    "jpeg-diff": CounterInfo(_plain(jpeg_diff), 75, 1, 100, "quality; JPEG with a gradient", whole=True,
                             differentiable=True),
    "webp": CounterInfo(_plain(webp), 75, 1, 100, QUALITY, whole=True),
    "avif": CounterInfo(_plain(avif, check_avif), 75, 1, 100, QUALITY, whole=True),
    "social": CounterInfo(_plain(social), 75, 1, 100, "quality of the JPEG, after the longest side was scaled to 1080",
                          whole=True),
    "resize": CounterInfo(_plain(resize_and_back), 0.5, 0.05, 1, "factor of both sides", differentiable=True),
    "crop": CounterInfo(_plain(crop), 0.9, 0.1, 1, "share of both sides that is kept, at a random place",
                        differentiable=True, moves=True),
    "rotate": CounterInfo(_plain(rotate), 5, -45, 45, "degrees, counter-clockwise", differentiable=True, moves=True),
    "flip": CounterInfo(_plain(flip), 0, 0, 0, "left and right exchanged", differentiable=True, moves=True),
    "blur": CounterInfo(_plain(blur), 1, 0, 10, "standard deviation in pixels", differentiable=True),
    "noise": CounterInfo(_plain(noise), 0.03, 0, 1, "standard deviation in [0,1] units", differentiable=True),
    "median": CounterInfo(_plain(median), 1, 0, 5, "radius in pixels: 1 is a window of 3x3", whole=True,
                          differentiable=True),
    "bits": CounterInfo(_plain(bits), 5, 1, 8, "bits a channel", whole=True, differentiable=True),
    "nlm": CounterInfo(_plain(nlm), 0.05, 0, 1, "h, the difference of patches that counts, in [0,1] units"),
    "wavelet": CounterInfo(_plain(wavelet, check_wavelet), 0.05, 0, 1, "standard deviation of the noise it assumes"),
    "adverse-cleaner": CounterInfo(_plain(adverse_cleaner), 64, 1, 256, "bilateral filters, before 4 guided ones",
                                   whole=True),
    "vae": CounterInfo(_through(vae), 1, 1, 10, "round trips through the editor's autoencoder", whole=True,
                       differentiable=True, needs_editor=True),
    "regenerate": CounterInfo(_through(regenerate), 0.2, 0.05, 0.5, "share of the denoising that is done anew",
                              needs_editor=True),
    "impress": CounterInfo(_through(impress), 0.1, 0, 1, "1 - SSIM to the photo that is let pass", needs_editor=True),
}  # fmt: skip
add_plugins("editproof.counters", COUNTERS, CounterInfo)


def parse_counter(text: str, editor: "Editor | None" = None) -> Counter:
    """The counter of a text such as "resize:0.5+jpeg": what an attacker does, on the 8-bit grid, without gradient.

    After each part of a chain the picture is rounded to 8 bits. Raises UserError for an unknown name, a strength out of
    range, a missing editor or library.
    """
    stages = make_stages(text, editor)

    @torch.no_grad()
    def counter(images: Tensor, *, seed: int = 0) -> Tensor:
        for number, stage in enumerate(stages):
            images = stage(images, seed=seed + number).clamp(0, 1)
            images = on_grid(images, images)
        return images

    return counter


def move_mask(text: str, mask: Tensor, *, seed: int = 0) -> Tensor:
    """Where a mask (B,1,H,W), 1 = repaint, of the photo is after a counter with the same seed: crop, rotate, flip."""
    for number, (name, strength) in enumerate(parse_chain(text)):
        if COUNTERS[name].moves:
            mask = (COUNTERS[name].make(strength, None)(mask.float(), seed=seed + number) > 0.5).to(mask)
    return mask


def counter_label(text: str) -> str:
    """The one way to write a counter, every strength told: "resize:.50+jpeg" -> "resize:0.5+jpeg:75"."""
    parts = [f"{name}:{strength:g}" if _chosen(name) else name for name, strength in parse_chain(text)]
    return "+".join(part for part in parts if part != "none") or "none"


def differentiable(text: str) -> bool:
    """Whether gradients reach the photo through all of a chain."""
    return all(COUNTERS[name].differentiable for name, _ in parse_chain(text))


def needs_editor(text: str) -> bool:
    """Whether a part of a chain works through an editor."""
    return any(COUNTERS[name].needs_editor for name, _ in parse_chain(text))


def parse_chain(text: str) -> list[tuple[str, float]]:
    """ "resize:0.5+jpeg" -> [("resize", 0.5), ("jpeg", 75)]. Raises UserError for what is not allowed."""
    return [_parse_part(part.strip()) for part in text.split("+")]


def make_stages(text: str, editor: "Editor | None" = None) -> list[Counter]:
    """The parts of a chain as they are: not rounded, differentiable where they can be. Raises UserError."""
    chain = parse_chain(text)
    for name, _ in chain:
        if COUNTERS[name].needs_editor and editor is None:
            raise UserError(f"counter '{name}' works through an editor, and none is given")
    return [COUNTERS[name].make(strength, editor) for name, strength in chain]


def _parse_part(text: str) -> tuple[str, float]:
    name, colon, written = text.partition(":")
    if name not in COUNTERS:
        raise UserError(f"counter '{name}' is unknown; allowed: {', '.join(COUNTERS)}, chained with +")
    info = COUNTERS[name]
    if not colon:
        return name, info.default
    if not _chosen(name):
        raise UserError(f"counter '{text}' has a strength, and '{name}' takes none; allowed: {name}")
    try:
        top, _, bottom = written.partition("/")
        strength = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        strength = math.nan
    if not info.low <= strength <= info.high or (info.whole and strength != int(strength)):
        kind = "a whole number" if info.whole else "a number"
        raise UserError(f"counter '{text}': allowed is {kind} from {info.low:g} to {info.high:g} ({info.note})")
    return name, strength


def _chosen(name: str) -> bool:
    return COUNTERS[name].low < COUNTERS[name].high
