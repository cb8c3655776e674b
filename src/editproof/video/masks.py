"""Masks for clips: one file for all frames, a folder with one for each, another clip, or whoever is found."""

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from editproof.errors import UserError
from editproof.files import digest
from editproof.photo.decoding import SUFFIXES
from editproof.photo.masks import (
    AUTO,
    check_mask,
    check_something_to_edit,
    check_something_to_protect,
    fit_mask,
    mask_of,
    open_mask,
)
from editproof.video.reading import Clip, frames_of, is_clip, levels_of, open_clip

FADE, ENOUGH = 0.6, 0.35  # of what was seen before; and what then counts as a person: found at once, lost in 3 frames


def check_clip_mask(mask: str | Path | None, invert: bool, clip: Clip, to_edit: bool = False) -> str | None:
    """What tells a mask from others. Raises UserError for one of no use to protect, or `to_edit`, the clip."""
    if mask is None or mask == AUTO:
        check_mask(mask, invert)
        return None if mask is None else AUTO
    check = check_something_to_edit if to_edit else check_something_to_protect
    if Path(mask).is_dir():
        files = _files(Path(mask))
        if len(files) != clip.frames:
            raise UserError(
                f"mask folder '{mask}' has {len(files)} pictures, clip '{clip.path}' {clip.frames} frames; "
                "allowed: one for each, named in their order"
            )
        _check_each(mask, invert, clip, 1.0 if to_edit else 0.0, check)
        return " ".join(digest(file) for file in files)
    if is_clip(mask):
        other = open_clip(mask)
        if other.frames != clip.frames:
            raise UserError(
                f"mask clip '{mask}' has {other.frames} frames, clip '{clip.path}' {clip.frames}; allowed: as many"
            )
        _check_each(mask, invert, clip, 1.0 if to_edit else 0.0, check)
        return other.sha256
    check(open_mask(mask, clip.size, invert), str(mask))
    return digest(mask)


def _check_each(
    mask: str | Path, invert: bool, clip: Clip, wanted: float, check: Callable[[Tensor, str], None]
) -> None:
    """Raise UserError where one of the masks of a folder or clip is none, or (`check`) no pixel of any is `wanted`."""
    some = False
    last = torch.empty(0)
    for region in masks_from(mask, invert, clip):
        assert region is not None
        some, last = some or bool((region == wanted).any()), region
    if not some:
        check(last, str(mask))


def masks_from(mask: str | Path | None, invert: bool, clip: Clip, start: int = 0) -> Iterator[Tensor | None]:
    """The masks (1, 1, H, W) of a clip's frames from `start` on, 1 = may be repainted; None: there is none.

    An automatic mask is not among them: see follow_people. Raises UserError.
    """
    if mask is None or mask == AUTO:
        yield from repeat(None)
    elif Path(mask).is_dir():
        for file in _files(Path(mask))[start:]:
            yield open_mask(file, clip.size, invert)
    elif is_clip(mask):
        other = open_clip(mask, whole=False)  # see check_clip_mask
        for number, frame in frames_of(other, start):
            name = f"{mask}, frame {number + 1}"
            grey = mask_of(Image.fromarray(levels_of(frame, other).numpy()), name)
            yield fit_mask(grey, name, clip.size, invert)
    else:
        yield from repeat(open_mask(mask, clip.size, invert))


def next_mask(masks: Iterator[Tensor | None], clip: Clip) -> Tensor | None:
    """The mask of the next frame. Raises UserError if there is none."""
    try:
        return next(masks)
    except StopIteration:
        raise UserError(f"the masks of clip '{clip.path}' end before it does; allowed: one for each frame") from None


def _files(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def follow_people(levels: Tensor, before: Tensor | None) -> tuple[Tensor, int, Tensor]:
    """Who is in a frame (H, W, 3) uint8: probabilities of a person (h,w) uint8, how many people, and what was seen.

    By the rule for photos (see auto_mask), the face detector included.
    What was seen (2,h,w) goes into the call for the next frame as `before`: a person who is missed in one or two frames
    stays, and edges do not flicker.
    """
    from editproof.people.finding import detected, probabilities, regions, with_faces

    image = levels.permute(2, 0, 1)
    boxes = detected(image)
    seen, *_ = with_faces(probabilities(image[None])[0], boxes)
    if before is not None:
        seen = torch.lerp(seen, before, FADE)
    likely = (seen * (0.5 / ENOUGH)).clamp(max=1)
    person, count = regions(likely, boxes)
    return (person * 255).round().byte(), count, seen


def mask_of_people(person: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask (1, 1, H, W) from probabilities of a person (h,w) uint8."""
    from editproof.people.finding import at_size

    return at_size(person[None, None].float() / 255, size)
