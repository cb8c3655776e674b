"""The demonstration: one picture, edited with and without protection, as five labelled pictures and a table."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editproof.bench.data import numbered, read_photos
from editproof.bench.methods import MethodSpec, parse_method, protect_with
from editproof.budgets import Budget
from editproof.editors import check_plan, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic, check_folder, clean
from editproof.methods import METHODS, PRESET_SIZES, ready
from editproof.methods.checks import why_not_on
from editproof.metrics import Trial, edit_change, linf, psnr
from editproof.metrics.trying import try_edits
from editproof.photo.masks import AUTO, check_mask, check_something_to_protect, edit_mask, open_mask
from editproof.photo.reading import Photo, open_photo, save_png
from editproof.protection.apply import CONTEXT_METHOD, DEFAULT_METHOD
from editproof.resolution import working_copy, working_mask
from editproof.surroundings import undisturbed

ASTRONAUT_BOX = (133, 14, 317, 198)  # left, top, right, bottom in scikit-image's picture: the face fills 60 % of it
PROMPT = "a portrait photo, plain red background"
INSTRUCTION = "put this person in front of sunflowers"  # where the editor takes no mask
PAPER_METHOD = "diffvax"  # what is demonstrated where weights are given
PANEL, MARGIN, LABEL = 320, 12, 30  # pixels
SEARCHED = "autoencoder"  # shown beside the default: half a minute a photo instead of a second
COMPARED = 2  # methods in one comparison


@dataclass(frozen=True)
class Row:
    """What the table says of one method."""

    method: str
    psnr: float  # dB, protected against original
    linf: int  # largest change of a channel, in 1/255
    change: float  # 1 - SSIM between the edits of protected and original, in the repainted region
    disruption: float  # change, relative to that between two seeds
    seconds: float  # of protecting
    prompt: str  # of the edits


def astronaut(side: int) -> tuple[Tensor, Tensor]:
    """scikit-image's photograph of Eileen Collins (NASA, public domain) and a mask that keeps her face.

    (1, 3, side, side) and (1, 1, side, side).
    """
    import skimage.data

    picture = Image.fromarray(skimage.data.astronaut())
    picture = picture.resize((side, side), Image.Resampling.LANCZOS, box=ASTRONAUT_BOX)
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 255).permute(2, 0, 1)
    with as_file(files("editproof") / "assets" / "astronaut-mask.png") as path:
        mask = open_mask(path, (side, side))
    return pixels[None], mask


@undisturbed
def run_demo(
    out: str | Path,
    *,
    image: str | Path | None = None,
    mask: str | Path | None = None,
    invert_mask: bool = False,
    prompt: str | None = None,
    methods: Iterable[str] | None = None,
    editor: str = "tiny-inpaint",
    plan: str | None = None,
    compile: bool = True,
    budget: Budget | None = None,
    preset: str | None = "fast",
    seed: int = 0,
    device: str | None = None,
    size: int | None = None,
    data: str | Path | None = None,
    index: int = 0,
    weights: str | Path | None = None,
    steps: Mapping[str, int] | None = None,
    baselines: bool = False,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> tuple[list[Row], list[Path]]:
    """Protect one picture with each of `methods`, edit everything with one prompt and one seed, write the pictures.

    Without `image`: scikit-image's astronaut. Without `prompt`: PROMPT, or INSTRUCTION where the editor takes no mask.
    Works at the editor's size; an edit is all the editor's, kept pixels too. Without `methods`: the default method and
    `autoencoder`, which searches for each photo; on an in-context editor decontext. Methods that cannot work on the
    editor, or on the photo, are left out. The immunizer is not told the mask that the edits use, the other methods are;
    on in-context editors no method is told the prompt. The first four pictures show the default method, `comparison`
    two methods at most; with more, a strip of all edits is written too. `progress` is told what goes on and how much is
    done.

    As DiffVax's demo has it: of `data`, a folder in its layout (docs/benchmark.md), photo number `index` is taken with
    its mask, and its first prompt unless there is a `prompt`. `weights`: a file or folder, of `diffvax`, which is then
    shown in place of the default method. `steps`: of methods by name. `baselines`: of each method, the protected photo
    and its edit are written too, and the strip is called baseline_comparison. Returns the table's rows and the files.
    Raises UserError before anything is written.
    """
    out = Path(out)
    check_folder(out)
    clean([out])
    check_plan(plan)
    check_mask(mask if mask == AUTO else None, invert_mask)
    if weights is not None:
        methods = [*(name for name in methods or () if name != PAPER_METHOD), PAPER_METHOD]
    specs = _specs(methods or ready(), preset, steps or {}, weights)
    if data is not None and image is None:
        found = numbered(read_photos(data), index)
        image, mask = found.image, mask or found.mask
        prompt = prompt if prompt is not None else next(iter(found.prompts), None)
    photo = None if image is None else open_photo(image)
    progress(f"load {editor}", 0)
    size = size or PRESET_SIZES.get(preset or "")
    loaded = load_editor(editor, device=device, plan=plan, compile=compile, size=size)
    progress(f"load {editor}", 1)
    if prompt is None:
        prompt = PROMPT if loaded.masked else INSTRUCTION
    usual = CONTEXT_METHOD if loaded.in_context else DEFAULT_METHOD
    default = usual if weights is None else PAPER_METHOD
    both = (default,) if loaded.in_context else (default, SEARCHED)
    chosen = [method for method in methods or both if METHODS[method].works_on(loaded)]
    name = "astronaut" if photo is None else photo.path.stem
    original, region = (
        astronaut(size or loaded.size) if photo is None else _own(photo, mask, invert_mask, loaded, editor)
    )
    hole = region if loaded.masked else None
    chosen = [method for method in chosen if not why_not_on(METHODS[method], original, hole)] or [default]
    safe, seconds = _protect(
        {name: specs[name] for name in chosen}, original, hole, loaded, prompt, budget, seed, progress
    )
    tried = try_edits(
        loaded, original, safe, prompt, mask=hole, seed=seed,
        callback=lambda what, step, steps: progress(f"edit {what}", step / steps),
    )  # fmt: skip
    rows = [_row(method, trial, seconds[method], prompt) for method, trial in tried.items()]
    shown = default if default in tried else chosen[-1]
    return rows, _write(_pictures(tried, shown, baselines), out, name)


def _specs(
    methods: Iterable[str], preset: str | None, steps: Mapping[str, int], weights: str | Path | None
) -> dict[str, MethodSpec]:
    """Methods by name, with steps of their own, and the paper's with its weights. Raises UserError."""
    texts = {name: name for name in methods} | {name: f"{name}:steps={number}" for name, number in steps.items()}
    if weights is not None:
        texts[PAPER_METHOD] = f"{PAPER_METHOD}:weights={weights}"
    return {name: parse_method(text, preset) for name, text in texts.items()}


def _protect(
    specs: Mapping[str, MethodSpec],
    original: Tensor,
    hole: Tensor | None,
    editor: Editor,
    prompt: str,
    budget: Budget | None,
    seed: int,
    progress: Callable[[str, float], None],
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The photo (1,3,h,w) protected with each method, and how many seconds that took. Raises UserError."""
    safe: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for method, plain in specs.items():
        spec = replace(plain, settings={**plain.settings, "prompt": "" if editor.in_context else prompt})

        def tell(step: int, steps: int, loss: float, method: str = method) -> None:
            progress(f"protect with {method}", step / steps)

        started = time.perf_counter()
        safe[method] = protect_with(spec, original, editor, mask=hole, budget=budget, seed=seed, callback=tell)
        seconds[method] = time.perf_counter() - started
        editor.forget()
    return safe, seconds


def _own(photo: Photo, mask: str | Path | None, invert: bool, editor: Editor, name: str) -> tuple[Tensor, Tensor]:
    """The user's photo (1,3,h,w) and what may be repainted (1,1,h,w), at the editor's size. Raises UserError."""
    working = editor.size_for(*photo.size)
    original = working_copy(photo.pixels[None], working)
    if mask is None and editor.masked:
        raise UserError(f"editor '{name}' needs a --mask with the --image: white = may be repainted")
    if mask is None:
        return original, torch.ones_like(original[:, :1])
    whole = edit_mask(mask, photo, working, invert)
    check_something_to_protect(whole, str(mask), working)
    return original, working_mask(whole, working)


def _row(method: str, trial: Trial, seconds: float, prompt: str) -> Row:
    change = edit_change(trial.attacked, trial.edit, trial.mask)
    natural = edit_change(trial.other, trial.edit, trial.mask)
    faint, largest = psnr(trial.protected, trial.original).item(), linf(trial.protected, trial.original).item()
    return Row(method, faint, round(largest * 255), change.item(), (change / natural).item(), seconds, prompt)


def _pictures(tried: dict[str, Trial], shown: str, baselines: bool) -> dict[str, Tensor | Image.Image]:
    """The pictures of the method that is shown, all four as one, and with more methods a strip of all edits."""
    trial = tried[shown]
    pictures: dict[str, Tensor | Image.Image] = {
        "original": trial.original,
        "immunized": trial.protected,
        "edited_original": trial.edit,
        "edited_immunized": trial.attacked,
    }
    pairs = tried if len(tried) <= COMPARED else {shown: trial}
    sheet = {"Original": trial.original, **{f"Protected: {name}": found.protected for name, found in pairs.items()}}
    sheet |= {"Its edit": trial.edit, **{f"Edit of {name}'s": found.attacked for name, found in pairs.items()}}
    pictures["comparison"] = panels(sheet, columns=1 + len(pairs))
    if len(tried) > COMPARED or baselines:
        attacked = {method: found.attacked for method, found in tried.items()}
        strip = {"Original": trial.original, "No defence": trial.edit, **attacked}
        pictures["baseline_comparison" if baselines else "methods"] = panels(strip, columns=len(strip))
    for method, found in tried.items() if baselines else ():
        pictures |= {f"immunized_{method}": found.protected, f"edited_{method}": found.attacked}
    return pictures


def _write(pictures: dict[str, Tensor | Image.Image], out: Path, name: str) -> list[Path]:
    paths = []
    for kind, picture in pictures.items():
        paths.append(out / f"{name}_{kind}.png")
        if isinstance(picture, Tensor):
            save_png(paths[-1], picture[0])
        else:
            with atomic(paths[-1]) as file:
                picture.save(file, format="PNG")
    return paths


def panels(pictures: dict[str, Any], columns: int) -> Image.Image:
    """Pictures (1, 3, H, W) in a grid, each below its label."""
    height, width = next(iter(pictures.values())).shape[-2:]
    scale = PANEL / max(height, width)
    panel = (round(width * scale), round(height * scale))
    rows = -(-len(pictures) // columns)
    cell = (panel[0] + MARGIN, panel[1] + LABEL + MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for i, (label, picture) in enumerate(pictures.items()):
        left, top = MARGIN + i % columns * cell[0], MARGIN + i // columns * cell[1]
        draw.text((left + panel[0] / 2, top + LABEL / 2), label, fill="black", font=font, anchor="mm")
        array = (picture[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        sheet.paste(Image.fromarray(array).resize(panel, Image.Resampling.BICUBIC), (left, top + LABEL))
    return sheet
