"""A figure for many photos, as DiffVax's: each photo, its edit, and its edits after each method's protection."""

import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editproof.bench.config import editor_label
from editproof.bench.data import centred_mask
from editproof.bench.methods import NONE, MethodSpec, parse_method
from editproof.bench.rows import works
from editproof.budgets import Budget, Linf
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic, check_folder, check_output
from editproof.methods import METHODS
from editproof.methods.checks import why_not_on
from editproof.metrics import edit_change, psnr
from editproof.pgd import Callback
from editproof.photo.masks import AUTO, check_something_to_protect, edit_mask
from editproof.photo.reading import Photo, open_photo
from editproof.protection.apply import protect
from editproof.resolution import working_copy, working_mask

PANEL, GAP, HEAD, FOOT, MARGIN = 256, 8, 34, 24, 16  # pixels
LARGEST = 120_000_000  # pixels of a figure
PROTECT_SEED = 1_000_000  # apart from the edit's, so that no method has seen the edit's noise


@dataclass(frozen=True)
class Compared:
    """What one method did to one photo: PSNR of the protected photo in dB, how much the edit changed, seconds."""

    photo: str
    method: str
    psnr: float
    change: float  # metrics.edit_change, where the editor repaints
    seconds: float  # of protecting


def compare_photos(
    photos: Sequence[str | Path],
    prompt: str,
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    editor: str = "tiny-inpaint",
    mask: str | Path | None = None,
    budget: Budget | None = None,
    preset: str | None = "fast",
    overwrite: bool = False,
    seed: int = 0,
    device: str | None = None,
    size: int | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> list[Compared]:
    """Write a figure (PNG) and return its numbers: a row for each photo, in panels of 256 pixels.

    Photos are worked on at the editor's size for them, or at the area of `size` x `size` pixels.

    mask: a file for all photos, "auto" (people are kept), or a folder with <name>.png or mask_<name>.png for each;
    None: a centred ellipse is kept; refused by editors that take none. methods: the usual ones that work on the editor,
    if None; any other that cannot work on it is refused. budget: Linf(16/255) if None. Everything is checked before any
    work. Raises UserError.
    """
    out, budget = Path(out), budget or Linf(16 / 255)
    if out.suffix.lower() != ".png":
        raise UserError(f"output '{out}' is not a PNG file; allowed: a name that ends in .png")
    check_folder(out.parent)
    check_output(out, overwrite)
    if methods is not None and not methods:
        raise UserError("methods is empty; allowed: one or more names")
    usual = [name for name, method in METHODS.items() if method.compared]
    specs = [parse_method(text, preset) for text in methods or usual]
    columns = 2 + len(specs)
    width, height = columns * (PANEL + GAP), len(photos) * (PANEL + FOOT + GAP)
    if width * height > LARGEST:
        raise UserError(
            f"a figure of {len(photos)} photos and {len(specs)} methods is too large; allowed: fewer of them"
        )
    opened = [open_photo(path) for path in photos]
    files = [_mask_file(mask, Path(path)) for path in photos]
    progress(f"load {editor_label(editor)}", 0)
    loaded = load_editor(editor, device=device, size=size)
    if mask is not None and not loaded.masked:
        raise UserError(f"{loaded.name} takes no mask: it edits the whole picture")
    if methods is None:
        specs = [spec for spec in specs if works(spec, loaded)]
    sizes = [loaded.size_for(*photo.size) for photo in opened]
    holes = [
        _hole(file, photo, working) if loaded.masked else None
        for photo, file, working in zip(opened, files, sizes, strict=True)
    ]
    others = {name: load_editor(name, device=device, size=size) for name in {spec.on for spec in specs if spec.on}}
    against = [others[spec.on] if spec.on else loaded for spec in specs]
    for spec, attacked in zip(specs, against, strict=True):
        if not works(spec, attacked):
            METHODS[spec.name].check(attacked)  # says why
        for photo, working, hole in zip(opened, sizes, holes, strict=True):
            if why := why_not_on(
                METHODS[spec.name], working_copy(photo.pixels[None], working), hole if spec.told else None
            ):
                raise UserError(f"{photo.path.name}: {why}")
    rows, compared, jobs = [], list[Compared](), len(opened) * (1 + len(specs))

    def part(what: str, job: int, share: float = 0.0) -> None:
        progress(what, (job + share) / jobs)

    for number, (photo, working, hole) in enumerate(zip(opened, sizes, holes, strict=True)):
        name, original, job = photo.path.name, working_copy(photo.pixels[None], working), number * (1 + len(specs))

        def edit(images: Tensor, what: str, job: int, after: float, hole: Tensor | None = hole) -> Tensor:
            return loaded.edit(
                images, prompt, mask=hole, seed=seed,
                callback=lambda step, steps: part(what, job, after + (1 - after) * step / steps),
            )  # fmt: skip

        part(f"edit {name}", job)
        row = [(original, name), (edit(original, f"edit {name}", job, 0), f'"{prompt}"')]
        for i, (spec, attacked) in enumerate(zip(specs, against, strict=True), 1):
            what, started = f"{spec.label} on {name}", time.perf_counter()
            part(what, job + i)

            def stepped(step: int, steps: int, loss: float, what: str = what, job: int = job + i) -> None:
                part(what, job, step / steps / 2)

            safe = _protect(spec, attacked, original, hole, budget, loaded.device, stepped)
            seconds = time.perf_counter() - started
            if attacked is not None:
                attacked.forget()
            edited = edit(safe, what, job + i, 0.5)
            faint = psnr(safe, original).item()
            row.append((edited, "" if spec.name == NONE else f"protected: {faint:.1f} dB"))
            change = edit_change(edited, row[1][0], hole).item()
            compared.append(Compared(name, spec.label, faint, change, seconds))
        rows.append(row)
    heads = ["Photo", "Edited", *(f"Edited, {spec.label}" for spec in specs)]
    figure = draw(heads, rows, [photo.size for photo in opened])
    with atomic(out) as written:
        figure.save(written, format="PNG")
    return compared


def _protect(
    spec: MethodSpec,
    editor: Editor,
    original: Tensor,
    hole: Tensor | None,
    budget: Budget,
    device: torch.device,
    callback: Callback,
) -> Tensor:
    if spec.name == NONE:
        return original
    return protect(
        original, method=spec.name, editor=editor if spec.needs_editor else None, budget=budget, device=device,
        mask=hole if spec.told else None, seed=PROTECT_SEED, callback=callback, **spec.settings,
    )  # fmt: skip


def _mask_file(mask: str | Path | None, photo: Path) -> str | Path | None:
    if mask is None or mask == AUTO or not Path(mask).is_dir():
        return mask
    found = [
        file for file in (Path(mask) / f"mask_{photo.stem}.png", Path(mask) / f"{photo.stem}.png") if file.is_file()
    ]
    if not found:
        raise UserError(f"mask folder '{mask}' has no {photo.stem}.png; allowed: a mask for every photo, or one file")
    return found[0]


def _hole(file: str | Path | None, photo: Photo, working: tuple[int, int]) -> Tensor:
    if file is None:
        return centred_mask(working)[None]
    whole = edit_mask(file, photo, working)
    check_something_to_protect(whole, str(file), working)
    return working_mask(whole, working)


def draw(
    heads: Sequence[str], rows: Sequence[Sequence[tuple[Tensor, str]]], shapes: Sequence[tuple[int, int]]
) -> Image.Image:
    """A grid of pictures (1,3,H,W), each above its caption, under a line of headings.

    shapes: of each row the (height, width) whose aspect ratio it is shown in: some editors squash photos.
    """
    font, small = ImageFont.load_default(size=17), ImageFont.load_default(size=13)
    heights = [round(PANEL * height / width) for height, width in shapes]
    wrapped = [textwrap.wrap(head, 28, break_on_hyphens=False) or [""] for head in heads]
    head_height = HEAD + 20 * (max(map(len, wrapped)) - 1)
    width = 2 * MARGIN + len(heads) * PANEL + (len(heads) - 1) * GAP
    height = 2 * MARGIN + head_height + sum(heights) + len(rows) * (FOOT + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    pen: Any = ImageDraw.Draw(sheet)
    for column, lines in enumerate(wrapped):
        middle = MARGIN + column * (PANEL + GAP) + PANEL / 2
        pen.multiline_text((middle, MARGIN), "\n".join(lines), fill="black", font=font, anchor="ma", align="center")
    top = MARGIN + head_height
    for row, panel_height in zip(rows, heights, strict=True):
        for column, (picture, caption) in enumerate(row):
            left = MARGIN + column * (PANEL + GAP)
            array = (picture[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
            panel = Image.fromarray(np.ascontiguousarray(array)).resize((PANEL, panel_height), Image.Resampling.LANCZOS)
            sheet.paste(panel, (left, top))
            pen.text((left + 2, top + panel_height + 3), _fit(pen, caption, small), fill="#555555", font=small)
        top += panel_height + FOOT + GAP
    return sheet


def _fit(pen: Any, text: str, font: Any) -> str:
    """As much of a caption as a panel has room for."""
    while text and pen.textlength(text, font=font) > PANEL - 4:
        text = text[:-2].rstrip("…") + "…"
    return text
