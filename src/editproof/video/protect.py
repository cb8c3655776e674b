"""Protect clips frame by frame: perturbations that hold still where the clip does, everything else as it was."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.budgets import Budget
from editproof.errors import UserError
from editproof.files import check_folder, clean
from editproof.photo.masks import AUTO
from editproof.protection import own_size
from editproof.protection.apply import budget_at, get_method, without_editor
from editproof.protection.folders import free_name
from editproof.protection.pair import check_pair, is_done, turn, write_pair
from editproof.protection.report import check_unprotected, claim, versions
from editproof.protection.settings import ProtectSettings, load_task
from editproof.protection.task import MEANT, perturbation_left
from editproof.surroundings import undisturbed
from editproof.video.masks import check_clip_mask, mask_of_people, masks_from, next_mask
from editproof.video.reading import MARK, Clip, frames_of, levels_of, open_clip
from editproof.video.report import Tally, described
from editproof.video.segments import SEGMENT, Segment, Work, begin, complete, delta_of, load, parts_of
from editproof.video.writing import Codec, get_codec, kind_for, rewrite

SHORT = 100  # frames: as many are protected by methods that optimise every frame
CHECKED = 16  # frames of a lossy result that are read back
WRITING = 0.2  # of the work on a frame, for the progress


class NothingToDo(UserError):
    """A clip that is protected already, or was by this very request ("done before"): `reason` says which."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@undisturbed
def protect_clip(
    path: str | Path,
    out: str | Path,
    settings: ProtectSettings | None = None,
    *,
    overwrite: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
    **asked: Any,
) -> dict[str, Any]:
    """Protect one clip: writes `<stem>-protected.mp4` (or another end) and `.json` to `out`, and returns the report.

    Everything is checked before any work; a run that was killed goes on where it was.

    Args:
        path: The clip.
        out: The folder for the result.
        settings: How to protect; None: `asked`. The mask: as for photos, a folder with a picture for each frame, or a
            clip as long.
        overwrite: Replace a result that is there.
        codec: A name in `editproof.video.writing.CODECS`; None: h264, for WebM vp9.
        crf: The codec's quality, lower is better.
        progress: Told which share is done.
        asked: The fields of `ProtectSettings`.

    Returns:
        The report, as it is written to the JSON.

    Raises:
        UserError: For settings, a clip or an output that cannot be used.
    """
    path, out = Path(path), Path(out)
    settings = settings or ProtectSettings(**asked)
    check_folder(out)
    clip = open_clip(path)
    encoder, quality = get_codec(codec, crf, clip)
    if not settings.force:
        try:
            check_unprotected(path, clip.marked, "clip")
        except UserError as error:
            raise NothingToDo("protected already", str(error)) from None
        check_length(clip, settings.method)
    mask = check_clip_mask(settings.mask, settings.invert_mask, clip)
    request = settings.as_json(mask, codec=codec, crf=crf, clip=clip.sha256, metadata=settings.metadata)
    suffix = f".{kind_for(clip, encoder)}"
    name = free_name(path, out, suffix, set())
    output, report_file = out / f"{name}{suffix}", out / f"{name}.json"
    if os.path.realpath(output) == os.path.realpath(path):
        raise UserError(f"clip '{path}' would become '{output}', which is the clip to protect")
    refusal = f"another run is at work on '{output}'; allowed: wait for it, or another --out"
    if parts_of(output).exists() and is_done(output, report_file, request, clip.sha256):
        with turn(report_file, refusal):  # its run was killed while it tidied up
            shutil.rmtree(parts_of(output))
    clean([out])
    if not overwrite and is_done(output, report_file, request, clip.sha256):
        raise NothingToDo("done before", f"output '{output}' exists; allowed: another --out, or --overwrite")
    check_pair(output, report_file, request, clip.sha256, overwrite)
    started = time.perf_counter()
    task = load_task(settings, request)
    size = task.size_for(clip.size)
    work = Work(clip, task, size, budget_at(size, task.budget, MEANT), parts_of(output))
    with turn(report_file, refusal):
        begin(work, request)
        clean([work.folder])
        finished = work.folder / f"result{suffix}"
        report = _make(work, finished, budget_at(clip.size, task.budget, MEANT), encoder, quality, progress)
        report |= {"protected": output.name, "seconds": round(time.perf_counter() - started, 3)}
        write_pair(finished, output, report_file, report, overwrite)
        shutil.rmtree(work.folder)
    progress(1)
    return report


def _make(
    work: Work,
    file: Path,
    budget: Budget | None,
    encoder: Codec,
    quality: int | None,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Compute what is missing and write the protected clip to `file`; returns its report. Raises UserError."""
    share, tally = 1 + WRITING, Tally()
    frames = complete(work, lambda done: progress(min(1, done / work.clip.frames) / share))
    work = replace(work, clip=replace(work.clip, frames=frames))
    rest = rewrite(
        work.clip, file, protector(work, budget, tally), kind=file.suffix[1:], codec=encoder, crf=quality, comment=MARK,
        metadata=work.task.settings.metadata,
        progress=lambda done: progress((1 + WRITING * done / frames) / share),
    )  # fmt: skip
    if not tally.levels:
        shutil.rmtree(work.folder)
        raise UserError(f"clip '{work.clip.path}' came out unchanged, so nothing was written; allowed: a larger budget")
    return {
        **described(work, file, rest, tally, encoder, quality),
        **(tally.report() if encoder.lossless else read_back(work, file, budget)),
        **claim(work.task.against),
        "request": work.task.request,
        "versions": versions(),
    }


def check_length(clip: Clip, method: str) -> None:
    """Raise UserError for a clip too long for a method that optimises each frame."""
    if get_method(method).needs != "none" and clip.frames > SHORT:
        raise UserError(
            f"clip '{clip.path}' has {clip.frames} frames, and method '{method}' optimises each; allowed: up to "
            f"{SHORT} frames, {' or '.join(without_editor())}, or --force"
        )


def protector(work: Work, budget: Budget | None, tally: Tally | None = None) -> Callable[[int, Tensor], Tensor]:
    """What changes a frame, given its number: (H, W, 3) uint8 -> the same, protected. Frames come in their order."""
    masks = masks_from(work.task.settings.mask, work.task.settings.invert_mask, work.clip)
    at, piece = -1, None
    next_number = 0

    def protect(number: int, levels: Tensor) -> Tensor:
        nonlocal at, piece, next_number
        if number // SEGMENT != at:
            at, piece = number // SEGMENT, load(work, number // SEGMENT)
        if piece is None or number % SEGMENT >= len(piece.which):
            raise UserError(f"clip '{work.clip.path}' has other frames than before; allowed: run it again")
        while next_number < number:  # of frames that are skipped
            next_mask(masks, work.clip)
            next_number += 1
        mask = next_mask(masks, work.clip)
        next_number += 1
        if work.task.settings.mask == AUTO:
            mask = _automatic(piece, number % SEGMENT, work.clip.size)
        keep = None if mask is None else mask[0, 0] == 0
        result = own_size.add(levels, delta_of(work, piece, number % SEGMENT), budget, keep)
        if tally is not None:
            tally.add(result, levels)
            tally.share += 1.0 if keep is None else keep.double().mean().item()
        return result

    return protect


def _automatic(piece: Segment, index: int, size: tuple[int, int]) -> Tensor | None:
    return mask_of_people(torch.from_numpy(piece.persons[index]), size) if piece.people[index] else None


def read_back(work: Work, file: Path, budget: Budget | None) -> dict[str, Any]:
    """What some frames of a lossy result show, against the original's: distances, and what is left of the change."""
    protect, tally, left = protector(work, budget), Tally(), []
    every = max(1, work.clip.frames // CHECKED)
    result = replace(work.clip, path=file, kind=file.suffix[1:])
    for (number, frame), (_, saved) in zip(frames_of(work.clip), frames_of(result), strict=False):
        if number % every == 0:
            original, seen = levels_of(frame, work.clip), levels_of(saved, result)
            tally.add(seen, original)
            left.append(perturbation_left(seen, protect(number, original), original, work.size))
    return {**tally.report(), "perturbation_left": round(sum(left) / len(left), 3), "frames_read_back": len(left)}
