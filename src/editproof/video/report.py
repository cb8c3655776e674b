"""What is said of a protected clip: how far it was changed, who was found, which settings were in effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from editproof.files import digest
from editproof.photo.masks import AUTO
from editproof.protection import own_size
from editproof.protection.task import attackers, described_mask, of_method
from editproof.video.segments import SEGMENT, Work, load
from editproof.video.writing import Codec, Kept


@dataclass
class Tally:
    """How much of a clip is changed, and how far, frame by frame."""

    square: float = 0.0  # the sum of the frames' mean squares, in [0,1] units
    levels: int = 0  # the largest change of a channel
    share: float = 0.0  # the sum of the frames' shares that may be changed
    frames: int = 0

    def add(self, result: Tensor, original: Tensor) -> None:
        square, levels = own_size.changes(result, original)
        self.square, self.levels, self.frames = self.square + square, max(self.levels, levels), self.frames + 1

    def report(self) -> dict[str, Any]:
        """In the words of a photo's report."""
        mean = self.square / max(1, self.frames)
        return {
            "psnr_db": round(-10 * math.log10(mean), 3) if mean else None,
            "linf": round(self.levels / 255, 6),
            "linf_levels": self.levels,
        }


def described(
    work: Work, output: Path, rest: Kept, tally: Tally, encoder: Codec, quality: int | None
) -> dict[str, Any]:
    """What the report says of a clip and of the settings in effect."""
    clip, task = work.clip, work.task
    found = _found(work) if task.settings.mask == AUTO else None
    return {
        "photo": clip.path.name,  # as in a photo's report
        "photo_sha256": clip.sha256,
        "protected": output.name,
        "protected_sha256": digest(output),
        "frames": clip.frames,
        "size": list(reversed(clip.size)),
        "working_size": list(reversed(work.size)),
        "attacker_size": attackers(task, clip.size),
        **of_method(task, clip.size, work.size),
        "mask": described_mask(task.settings.mask, task.settings.invert_mask, found),
        "protected_share": round(tally.share / tally.frames, 6),
        "codec": encoder.encoder,
        "crf": quality,
        "lossless": encoder.lossless,
        "metadata": task.settings.metadata,
        "tells_place": rest.tells_place,
        "not_taken_along": rest.lost,
        "converted": rest.converted,
    }


def rest_line(lost: Sequence[str], converted: Sequence[str]) -> str:
    """What is said on the screen of what a clip lost on its way and what was converted; empty if nothing was."""
    parts = [("not kept", lost), ("converted", converted)]
    return "; ".join(f"{what}: {', '.join(listed)}" for what, listed in parts if listed)


def _found(work: Work) -> str:
    """A sentence on who was found in how many frames."""
    people: list[int] = []
    for number in range(-(-work.clip.frames // SEGMENT)):
        piece = load(work, number)
        people += [] if piece is None else piece.people.tolist()
    some = sum(count > 0 for count in people)
    if not some:
        return f"nobody found in {len(people)} frames: everything is protected"
    most = max(people)
    found = f"up to {most} {'person' if most == 1 else 'people'} found in {some} of {len(people)} frames"
    return f"{found}; frames without anybody are protected as a whole" if some < len(people) else found
