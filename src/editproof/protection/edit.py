"""Edit a photo file as an attacker would, at the photo's own size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.editors import check_plan, check_size, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import check_folder, check_output, clean
from editproof.photo.masks import AUTO, check_inverted, check_mask, check_something_to_edit, edit_mask, open_mask
from editproof.photo.reading import open_photo, save_levels
from editproof.protection.own_size import painted
from editproof.resolution import resize, working_copy, working_mask
from editproof.surroundings import undisturbed


@undisturbed
def edit_photo(
    photo: str | Path,
    prompt: str,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    invert_mask: bool = False,
    editor: str = "tiny-inpaint",
    scheduler: str | None = None,
    plan: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    strength: float | None = None,
    overwrite: bool = False,
    seed: int = 0,
    device: str | None = None,
    size: int | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> None:
    """Edit one photo and write the result as a PNG of the photo's own size.

    The editor works on a copy at the size at which it sees such photos, or at the area of `size` x `size` pixels; kept
    pixels are the photo's. `mask`: a file, or "auto": all but people. Everything is checked before the editor is
    loaded. Raises UserError.
    """
    out = Path(out)
    if out.suffix.lower() != ".png":
        raise UserError(f"output '{out}' is not a PNG file; allowed: a name that ends in .png")
    check_plan(plan)
    check_inverted(mask, invert_mask)
    check_size(size)
    check_folder(out.parent)
    clean([out.parent])
    check_output(out, overwrite, (photo, mask))
    opened = open_photo(photo)
    check_mask(mask, invert_mask)
    if mask is not None and mask != AUTO:
        check_something_to_edit(open_mask(mask, opened.size, invert_mask), str(mask))
    progress(f"load {editor}", 0)
    loaded = load_editor(editor, device=device, scheduler=scheduler, plan=plan, size=size)
    progress(f"load {editor}", 1)
    working = loaded.size_for(*opened.size)
    region = None if mask is None else edit_mask(mask, opened, working, invert_mask)
    edited = loaded.edit(
        working_copy(opened.levels.permute(2, 0, 1)[None], working), prompt,
        mask=None if region is None else working_mask(region, working), steps=steps, guidance=guidance,
        strength=strength, seed=seed, callback=lambda step, steps: progress("edit", step / steps),
    )  # fmt: skip
    repaint = None if region is None else region[0, 0] > 0.5
    save_levels(out, painted(opened.levels, edited[0].float().cpu(), repaint), icc=opened.icc, overwrite=overwrite)


@undisturbed
def edit_images(editor: Editor, images: Tensor, prompt: str, *, mask: Tensor | None = None, **settings: Any) -> Tensor:
    """What the editor makes of photos of any one size: (B, 3, H, W) in [0, 1] -> the same shape.

    It works on a copy at the size at which it sees such photos; where `mask` (B, 1, H, W) is 0, pixels are the photo's.
    `settings` go to Editor.edit: steps, guidance, seed, callback.
    """
    height, width = images.shape[-2:]
    size = editor.size_for(height, width)
    small_mask = None if mask is None else working_mask(mask, size)
    edited = editor.edit(working_copy(images, size), prompt, mask=small_mask, **settings)
    return paste_back(resize(edited, (height, width)).clamp(0, 1), images, mask)


def paste_back(edited: Tensor, images: Tensor, mask: Tensor | None) -> Tensor:
    """What an inpainting application shows: the edit where the mask is 1, the picture that was edited elsewhere."""
    return edited if mask is None else torch.where(mask > 0.5, edited, images)
