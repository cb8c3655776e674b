"""Edit a clip as an attacker would: every frame with one seed, at the clip's own size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from editproof.editors import check_plan, check_size, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic, check_folder, check_output, clean
from editproof.photo.masks import AUTO, check_inverted
from editproof.photo.reading import to_levels
from editproof.protection.edit import paste_back
from editproof.resolution import resize, working_copy, working_mask
from editproof.surroundings import undisturbed
from editproof.video.masks import check_clip_mask, follow_people, mask_of_people, masks_from, next_mask
from editproof.video.reading import Clip, open_clip
from editproof.video.writing import MUXERS, Kept, get_codec, rewrite


@undisturbed
def edit_clip(
    path: str | Path,
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
    codec: str | None = None,
    crf: int | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Kept:
    """Edit every frame with the same seed and write the clip to `out`, sound and times kept; masks: see protect_clip.

    Returns what was not kept. Everything is checked before the editor is loaded. The file appears complete or not at
    all. Raises UserError.
    """
    path, out = Path(path), Path(out)
    kind = out.suffix.lower().lstrip(".")
    check_plan(plan)
    check_inverted(mask, invert_mask)
    check_size(size)
    check_folder(out.parent)
    check_output(out, overwrite, (path, mask))
    clip = open_clip(path)
    encoder, quality = get_codec(codec or ("vp9" if kind == "webm" else "h264"), crf, clip)
    if kind not in MUXERS or kind not in encoder.kinds:
        raise UserError(
            f"output '{out}' is no file for the codec; allowed: {', '.join('.' + k for k in encoder.kinds)}"
        )
    check_clip_mask(mask, invert_mask, clip, to_edit=True)
    progress(f"load {editor}", 0)
    loaded = load_editor(editor, device=device, scheduler=scheduler, plan=plan, size=size)
    progress(f"load {editor}", 1)
    settings = {"steps": steps, "guidance": guidance, "strength": strength, "seed": seed}
    clean([out.parent])
    edited: list[int] = []
    with atomic(out, overwrite=overwrite) as file:
        rest = rewrite(
            clip, Path(file.name), _edit(clip, loaded, prompt, mask, invert_mask, settings, edited), kind=kind,
            codec=encoder, crf=quality, progress=lambda done: progress("edit", min(1, done / clip.frames)),
        )  # fmt: skip
        if not edited:
            found = "nobody is found in it" if mask == AUTO else "its masks keep everything"
            raise UserError(f"clip '{path}' has nothing to edit: {found}; allowed: another mask")
    return rest


def _edit(
    clip: Clip,
    editor: Editor,
    prompt: str,
    mask: str | Path | None,
    invert: bool,
    settings: dict[str, Any],
    edited: list[int],
) -> Callable[[int, Tensor], Tensor]:
    """What edits a frame (H, W, 3) uint8 and notes its number in `edited`; one with nothing to edit stays as it is."""
    masks, size = masks_from(mask, invert, clip), editor.size_for(*clip.size)
    seen: Tensor | None = None

    def edit(number: int, levels: Tensor) -> Tensor:
        nonlocal seen
        region = next_mask(masks, clip)
        if mask == AUTO:
            person, people, seen = follow_people(levels, seen)
            if not people:
                return levels
            region = mask_of_people(person, clip.size)
        hole = None if region is None else working_mask(region, size)
        if hole is not None and bool((hole == 0).all()):
            return levels
        original = levels.permute(2, 0, 1)[None].float() / 255
        painted = editor.edit(working_copy(original, size), prompt, mask=hole, **settings)
        edited.append(number)
        return to_levels(paste_back(resize(painted.cpu(), clip.size).clamp(0, 1), original, region)[0])

    return edit
