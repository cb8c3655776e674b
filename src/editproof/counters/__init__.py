"""Counter-attacks by name: what someone does to a protected photo before an editor sees it.

A counter is `(images, *, seed=0) -> images`: (B,3,H,W) in [0,1] to the same size; what changes the size scales it back.
Written as text it is `name` or `name:strength`, and `resize:0.5+jpeg:75` is one after the other. `@MODEL` names the
model that a counter works through: `regenerate:0.2@tiny-kontext`, `inverse@weights.safetensors`. Every photo draws from
a generator of its own, so that a result does not depend on the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from editproof.budgets import on_grid
from editproof.counters.adverse_cleaner import adverse_cleaner
from editproof.counters.codecs import avif, check_avif, jpeg, social, webp
from editproof.counters.denoise import check_wavelet, nlm, wavelet
from editproof.counters.filters import bits, blur, median, noise
from editproof.counters.geometry import crop, fit, flip, resize_and_back, rotate, screenshot
from editproof.counters.impress import impress
from editproof.counters.inverse import load_inverse, undo
from editproof.counters.jpeg_diff import jpeg_diff
from editproof.counters.purify import regenerate, vae
from editproof.errors import UserError
from editproof.plugins import add_plugins
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

Counter = Callable[..., Tensor]  # (images, *, seed=0) -> images
Make = Callable[[float, "Editor | None"], Counter]
Load = Callable[[str], "Editor"]


class Part(NamedTuple):
    """One part of a chain; `model` is what it works through, as named after an @, "" if nothing is named."""

    name: str
    strength: float
    model: str


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
    needs_editor: bool = False  # the one that is tested, or the one named after an @
    needs_weights: bool = False  # a file, named after an @


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


def _with_weights(function: Callable[..., Tensor]) -> Make:
    """Its `editor` is the name of a file here; see make_stages."""
    return lambda strength, editor: partial(function, strength=strength, weights=editor)


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
    "fit": CounterInfo(_plain(fit), 1080, 16, 20_000, "pixels of the longer side; larger photos go down to it and back",
                       whole=True, differentiable=True),
    "screenshot": CounterInfo(_plain(screenshot), 0.8, 0.2, 2, "factor at which a screen shows it, off its grid",
                              differentiable=True),
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
    "inverse": CounterInfo(_with_weights(undo), 1, 0, 2, "share of what a network has learnt to take off",
                           needs_weights=True),
}  # fmt: skip
add_plugins("editproof.counters", COUNTERS, CounterInfo)
CHAINS = {  # what happens to photos on their way; a name stands for the chain
    "feed": "fit:1080+jpeg:75",
    "messenger": "fit:1600+jpeg:70",
    "forwarded": "fit:1600+jpeg:70+fit:1280+jpeg:70",
    "reposted": "screenshot:0.8+fit:1080+jpeg:75",
    "photographed": "blur:1+rotate:1+noise:0.02+jpeg:85",
}


def parse_counter(text: str, editor: "Editor | None" = None, load: "Load | None" = None) -> Counter:
    """The counter of a text such as "resize:0.5+jpeg": what an attacker does, on the 8-bit grid, without gradient.

    After each part of a chain the picture is rounded to 8 bits. `load` gives the editors named after an @ (load_editor,
    on the device of `editor`, if None). Raises UserError for an unknown name, a strength out of range, a missing
    editor, file or library.
    """
    stages = make_stages(text, editor, load)

    @undisturbed
    @torch.no_grad()
    def counter(images: Tensor, *, seed: int = 0) -> Tensor:
        for number, stage in enumerate(stages):
            images = stage(images, seed=seed + number).clamp(0, 1)
            images = on_grid(images, images)
        return images

    return counter


@undisturbed
def move_mask(text: str, mask: Tensor, *, seed: int = 0) -> Tensor:
    """Where a mask (B,1,H,W), 1 = repaint, of the photo is after a counter with the same seed: crop, rotate, flip."""
    for number, (name, strength, _) in enumerate(parse_chain(text)):
        if COUNTERS[name].moves:
            mask = (COUNTERS[name].make(strength, None)(mask.float(), seed=seed + number) > 0.5).to(mask)
    return mask


def counter_text(text: str) -> str:
    """The one way to write a counter, every strength told: "resize:.50+jpeg" -> "resize:0.5+jpeg:75"."""
    parts = []
    for part in map(str.strip, text.split("+")):
        name, strength, model = (part, 0.0, "") if part in CHAINS else _parse_part(part)
        parts.append((f"{name}:{strength:g}" if _chosen(name) else name) + (f"@{model}" if model else ""))
    return "+".join(part for part in parts if part != "none") or "none"


def counter_label(text: str) -> str:
    """counter_text as rows and reports show it: of a model in a folder only its name, no path of this machine."""
    heads = (part.partition("@") for part in counter_text(text).split("+"))
    return "+".join(head + at + (Path(model).name if Path(model).is_absolute() else model) for head, at, model in heads)


def differentiable(text: str) -> bool:
    """Whether gradients reach the photo through all of a chain."""
    return all(COUNTERS[part.name].differentiable for part in parse_chain(text))


def needs_editor(text: str) -> bool:
    """Whether a part of a chain works through an editor that is not named."""
    return any(COUNTERS[part.name].needs_editor and not part.model for part in parse_chain(text))


def named_editors(text: str) -> list[str]:
    """The editors that the parts of a chain name after an @."""
    return [part.model for part in parse_chain(text) if part.model and COUNTERS[part.name].needs_editor]


def parse_chain(text: str) -> list[Part]:
    """ "resize:0.5+jpeg" -> its parts, named chains written out. Raises UserError for what is not allowed."""
    whole = "+".join(CHAINS.get(part.strip(), part) for part in text.split("+"))
    return [_parse_part(part.strip()) for part in whole.split("+")]


def make_stages(text: str, editor: "Editor | None" = None, load: "Load | None" = None) -> list[Counter]:
    """The parts of a chain as they are: not rounded, differentiable where they can be. Raises UserError."""
    return [_make_stage(part, editor, load) for part in parse_chain(text)]


def _make_stage(part: Part, editor: "Editor | None", load: "Load | None") -> Counter:
    info = COUNTERS[part.name]
    if info.needs_weights:
        load_inverse(part.model)  # says what is wrong with it
        return info.make(part.strength, part.model)  # type: ignore[arg-type]  # a file stands in the editor's place
    if info.needs_editor and part.model:
        editor = _loaded(part.model, editor) if load is None else load(part.model)
    if info.needs_editor and editor is None:
        raise UserError(
            f"counter '{part.name}' works through an editor, and none is given; allowed: {part.name}@EDITOR"
        )
    return info.make(part.strength, editor)


def _loaded(name: str, beside: "Editor | None") -> "Editor":
    """An editor by name, on the device of another if there is one."""
    from editproof.editors import load_editor

    return load_editor(name, device=None if beside is None else beside.device)


def _parse_part(text: str) -> Part:
    named, at, model = text.partition("@")
    name, colon, written = named.partition(":")
    if name not in COUNTERS:
        raise UserError(f"counter '{name}' is unknown; allowed: {', '.join([*COUNTERS, *CHAINS])}, chained with +")
    info = COUNTERS[name]
    _check_model(text, name, info, at, model)
    if not colon:
        return Part(name, info.default, model)
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
    return Part(name, strength, model)


def _check_model(text: str, name: str, info: CounterInfo, at: str, model: str) -> None:
    """Raise UserError for a model that is named where none is used, or not named where one has to be."""
    if info.needs_weights and not model:
        raise UserError(f"counter '{text}' needs weights; allowed: {name}@FILE.safetensors")
    if at and (not model or not (info.needs_editor or info.needs_weights)):
        with_model = [n for n, i in COUNTERS.items() if i.needs_editor or i.needs_weights]
        raise UserError(f"counter '{text}': a model after @ is for {', '.join(with_model)}")


def _chosen(name: str) -> bool:
    return name in COUNTERS and COUNTERS[name].low < COUNTERS[name].high
