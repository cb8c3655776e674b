"""A figure for many photos, as DiffVax's: each photo, its edit, and its edits after each method's protection."""

import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editproof.bench.config import editor_label
from editproof.bench.data import centred_mask
from editproof.bench.methods import NONE, MethodSpec, parse_method, protect_with
from editproof.bench.rows import works
from editproof.budgets import Budget
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic, check_folder, check_output, clean
from editproof.methods import METHODS, PRESET_SIZES
from editproof.methods.checks import why_not_on
from editproof.metrics import edit_change, psnr
from editproof.metrics.trying import try_edits
from editproof.photo.masks import AUTO, check_something_to_protect, edit_mask
from editproof.photo.reading import Photo, open_photo
from editproof.protection.apply import DEFAULT_BUDGET
from editproof.resolution import working_copy, working_mask
from editproof.surroundings import undisturbed

PANEL, GAP, HEAD, FOOT, MARGIN = 256, 8, 34, 24, 16  # pixels
LARGEST = 120_000_000  # pixels of a figure


@dataclass(frozen=True)
class Compared:
    """What one method did to one photo: PSNR of the protected photo in dB, how much the edit changed, seconds."""

    photo: str
    method: str
    psnr: float
    change: float  # metrics.edit_change, where the editor repaints
    seconds: float  # of protecting


@undisturbed
def compare_photos(
    photos: Sequence[str | Path],
    prompt: str | Sequence[str],
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    editor: str = "tiny-inpaint",
    mask: str | Path | Sequence[Path | None] | None = None,
    show_mask: bool = False,
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

    prompt: one for all, or one each. mask: a file for all photos, "auto" (people are kept), a folder with <name>.png or
    mask_<name>.png for each, or a file each; None, and None among them: a centred ellipse is kept; refused by editors
    that take none. show_mask: a column with the masks, white where the editor may repaint. methods: the usual ones that
    work on the editor, if None; any other that cannot work on it is refused. budget: the default of
    `protect` if None. Everything is checked before any work. Raises UserError.
    """
    out = Path(out)
    each = [mask] * len(photos) if mask is None or isinstance(mask, str | Path) else list(mask)
    specs = _checked(out, overwrite, (*photos, *each), methods, preset, len(photos))
    opened = [open_photo(path) for path in photos]
    prompts = [prompt] * len(photos) if isinstance(prompt, str) else list(prompt)
    if not len(photos) == len(prompts) == len(each):
        raise UserError(f"{len(prompts)} prompts and {len(each)} masks for {len(photos)} photos; allowed: one each")
    files = [_mask_file(file, Path(path)) for file, path in zip(each, photos, strict=True)]
    progress(f"load {editor_label(editor)}", 0)
    size = size or PRESET_SIZES.get(preset or "")
    loaded = load_editor(editor, device=device, size=size)
    if (mask is not None or show_mask) and not loaded.masked:
        raise UserError(f"{loaded.name} takes no mask: it edits the whole picture")
    if methods is None:
        specs = [spec for spec in specs if works(spec, loaded)]
    subjects = [_subject(photo, file, loaded) for photo, file in zip(opened, files, strict=True)]
    others = {name: load_editor(name, device=device, size=size) for name in {spec.on for spec in specs if spec.on}}
    attacks = [(spec, others[spec.on] if spec.on else loaded) for spec in specs]
    for spec, attacked in attacks:
        _check_works(spec, attacked, subjects)
    rows, compared = [], list[Compared]()
    for number, subject in enumerate(subjects):

        def tell(what: str, share: float, done: int = number) -> None:
            progress(what, (done + share) / len(subjects))

        row, numbers = _compare_one(subject, loaded, attacks, prompts[number], budget or DEFAULT_BUDGET, seed, tell)
        if show_mask and subject.hole is not None:
            row.insert(1, (subject.hole.expand(-1, 3, -1, -1), "white: may be repainted"))
        rows.append(row)
        compared += numbers
    heads = ["Photo", *(["Mask"] if show_mask else []), "Edited", *(f"Edited, {spec.label}" for spec in specs)]
    figure = draw(heads, rows, [photo.size for photo in opened])
    with atomic(out, overwrite=overwrite) as written:
        figure.save(written, format="PNG")
    return compared


@dataclass(frozen=True)
class Subject:
    """A photo as it is worked on: (1,3,h,w) in [0,1], and what the editor may repaint, if it takes a mask."""

    name: str
    image: Tensor
    hole: Tensor | None


def _checked(
    out: Path,
    overwrite: bool,
    inputs: Sequence[str | Path | None],
    methods: Sequence[str] | None,
    preset: str | None,
    photos: int,
) -> list[MethodSpec]:
    """The methods of a figure that may be written. Raises UserError."""
    if out.suffix.lower() != ".png":
        raise UserError(f"output '{out}' is not a PNG file; allowed: a name that ends in .png")
    check_folder(out.parent)
    clean([out.parent])
    check_output(out, overwrite, inputs)
    if methods is not None and not methods:
        raise UserError("methods is empty; allowed: one or more names")
    usual = [name for name, method in METHODS.items() if method.compared]
    specs = [parse_method(text, preset) for text in methods or usual]
    width, height = (2 + len(specs)) * (PANEL + GAP), photos * (PANEL + FOOT + GAP)
    if width * height > LARGEST:
        raise UserError(f"a figure of {photos} photos and {len(specs)} methods is too large; allowed: fewer of them")
    return specs


def _subject(photo: Photo, mask: str | Path | None, editor: Editor) -> Subject:
    working = editor.size_for(*photo.size)
    hole = _hole(mask, photo, working) if editor.masked else None
    return Subject(photo.path.name, working_copy(photo.pixels[None], working), hole)


def _check_works(spec: MethodSpec, editor: Editor, subjects: Sequence[Subject]) -> None:
    """Raise UserError where a method cannot work on an editor or a photo."""
    if not works(spec, editor):
        METHODS[spec.name].check(editor)  # says why
    for subject in subjects if spec.name != NONE else ():
        if why := why_not_on(METHODS[spec.name], subject.image, subject.hole if spec.told else None):
            raise UserError(f"{subject.name}: {why}")


def _compare_one(
    subject: Subject,
    editor: Editor,
    attacks: Sequence[tuple[MethodSpec, Editor]],
    prompt: str,
    budget: Budget,
    seed: int,
    tell: Callable[[str, float], None],
) -> tuple[list[tuple[Tensor, str]], list[Compared]]:
    """One photo's row of the figure, pictures with their captions, and its numbers."""
    jobs = [*(spec.label for spec, _ in attacks), "the original", *(f"edit {spec.label}" for spec, _ in attacks)]
    safe: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for number, (spec, attacked) in enumerate(attacks):

        def stepped(step: int, steps: int, loss: float, number: int = number) -> None:
            tell(f"{jobs[number]} on {subject.name}", (number + step / steps) / len(jobs))

        stepped(0, 1, 0)
        started = time.perf_counter()
        safe[spec.label] = protect_with(
            spec, subject.image, attacked, mask=subject.hole, budget=budget, device=editor.device, callback=stepped
        )
        seconds[spec.label] = time.perf_counter() - started
        attacked.forget()

    def edited(what: str, step: int, steps: int) -> None:
        number = jobs.index(what if what == "the original" else f"edit {what}")
        tell(f"edit {subject.name}, {what}", (number + step / steps) / len(jobs))

    versions = safe or {NONE: subject.image}
    tried = try_edits(
        editor, subject.image, versions, prompt, mask=subject.hole, seed=seed, another_seed=False,
        callback=edited if safe else lambda what, step, steps: None,
    )  # fmt: skip
    first = next(iter(tried.values())).edit
    row, compared = [(subject.image, subject.name), (first, f'"{prompt}"')], []
    for spec, _ in attacks:
        trial = tried[spec.label]
        faint = psnr(trial.protected, trial.original).item()
        row.append((trial.attacked, "" if spec.name == NONE else f"protected: {faint:.1f} dB"))
        change = edit_change(trial.attacked, trial.edit, trial.mask).item()
        compared.append(Compared(subject.name, spec.label, faint, change, seconds[spec.label]))
    return row, compared


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
