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
from editproof.counters.codecs import jpeg
from editproof.counters.geometry import resize_and_back
from editproof.errors import UserError

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

Counter = Callable[..., Tensor]  # (images, *, seed=0) -> images


@dataclass(frozen=True)
class CounterInfo:
    """One kind of counter: what its strength may be, and what it needs."""

    make: Callable[[float, "Editor | None"], Counter]
    default: float
    low: float  # smallest and largest strength; the same where there is none to choose
    high: float
    whole: bool  # the strength is a whole number
    differentiable: bool  # gradients reach the photo: usable as a transform in attacks and in training
    needs_editor: bool
    note: str  # what the strength means


def _plain(function: Callable[..., Tensor]) -> Callable[[float, "Editor | None"], Counter]:
    return lambda strength, editor: partial(function, strength=strength)


def _none(images: Tensor, strength: float = 0, *, seed: int = 0) -> Tensor:
    """The photo as it is."""
    return images


COUNTERS: dict[str, CounterInfo] = {
    "none": CounterInfo(_plain(_none), 0, 0, 0, True, True, False, "nothing is done"),
    "jpeg": CounterInfo(_plain(jpeg), 75, 1, 100, True, False, False, "quality of Pillow's encoder"),
    "resize": CounterInfo(
        _plain(resize_and_back), 0.5, 0.05, 1, False, True, False, "factor of both sides; then back to the old size"
    ),
}


def parse_counter(text: str, editor: "Editor | None" = None) -> Counter:
    """The counter of a text such as "resize:0.5+jpeg": what an attacker does, on the 8-bit grid, without gradient.

    After each part of a chain the picture is rounded to 8 bits. Raises UserError for an unknown name, a strength out of
    range, a missing editor or library.
    """
    stages = _stages(text, editor)

    @torch.no_grad()
    def counter(images: Tensor, *, seed: int = 0) -> Tensor:
        for number, stage in enumerate(stages):
            images = stage(images, seed=seed + number).clamp(0, 1)
            images = on_grid(images, images)
        return images

    return counter


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


def _stages(text: str, editor: "Editor | None") -> list[Counter]:
    chain = parse_chain(text)
    for name, _ in chain:
        if COUNTERS[name].needs_editor and editor is None:
            raise UserError(f"counter '{name}' works through an editor, and none is given")
    return [COUNTERS[name].make(strength, editor) for name, strength in chain]
