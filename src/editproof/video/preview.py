"""A look at what would be protected of a clip: frames from its beginning to its end, what may be repainted dark."""

from pathlib import Path

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.photo.masks import AUTO
from editproof.resolution import resize
from editproof.surroundings import undisturbed
from editproof.video.masks import check_clip_mask, follow_people, mask_of_people, masks_from, next_mask
from editproof.video.reading import Clip, frames_of, levels_of, open_clip

FRAMES, WIDTH, DARK = 6, 320, 0.25  # that are shown, the pixels of each, and what is left of what may be repainted


@undisturbed
def mask_preview(path: str | Path, mask: str | Path | None, invert: bool = False) -> Tensor:
    """Frames of a clip below each other, evenly apart, the part that is not protected dark.

    Args:
        path: The clip.
        mask: As for protect_clip: a file, a folder, a clip, "auto", or None.
        invert: Black = the editor may repaint.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: For a clip or masks that cannot be used.
    """
    clip = open_clip(path)
    check_clip_mask(mask, invert, clip)
    wanted = {round(i * (clip.frames - 1) / (FRAMES - 1)) for i in range(FRAMES)}
    masks, seen, shown = masks_from(mask, invert, clip), None, []
    for number, frame in frames_of(clip):
        region, levels = next_mask(masks, clip), levels_of(frame, clip)
        if mask == AUTO:
            person, people, seen = follow_people(levels, seen)
            region = mask_of_people(person, clip.size) if people else None
        if number in wanted:
            shown.append(_shown(levels, region, clip))
    if not shown:
        raise UserError(f"clip '{path}' has no frame; allowed: one or more")
    return torch.cat(shown)


def _shown(levels: Tensor, region: Tensor | None, clip: Clip) -> Tensor:
    """A frame (H, W, 3) uint8, small."""
    picture = levels.permute(2, 0, 1)[None].float() / 255
    if region is not None:
        picture = picture * (1 - region * (1 - DARK))
    height = max(1, round(clip.size[0] * WIDTH / clip.size[1]))
    small = resize(picture, (height, WIDTH))[0].clamp(0, 1)
    return (small * 255).round().byte().permute(1, 2, 0)
