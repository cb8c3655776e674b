"""The perturbations of a clip, computed piece by piece; what is finished is on disk, so that a killed run goes on.

Every piece starts from what is on disk of the one before, so an unbroken run computes the same.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.files import LONGEST_NAME, TEMPORARY, atomic
from editproof.photo.masks import AUTO
from editproof.protection.apply import perturbation
from editproof.protection.task import Task
from editproof.resolution import working_copy, working_mask
from editproof.video.masks import follow_people, mask_of_people, masks_from, next_mask
from editproof.video.reading import Clip, frames_of, levels_of
from editproof.video.steady import follow, hold

SEGMENT, BATCH = 48, 8  # frames of a piece, and the most that go through the method together


@dataclass(frozen=True)
class Work:
    """A clip to protect: how, at which size (height, width), within which budget there, and the folder for pieces."""

    clip: Clip
    task: Task
    size: tuple[int, int]
    budget: Budget | None
    folder: Path

    @property
    def grid(self) -> tuple[float, type]:
        """The steps in which perturbations are kept, and their type."""
        if isinstance(self.budget, Linf):
            return self.budget.eps / 127, np.int8
        return 1 / 32767, np.int16


@dataclass(frozen=True)
class Segment:
    """The perturbations of consecutive frames, and what the next piece starts from."""

    deltas: np.ndarray  # (D,3,h,w), in steps of Work.grid; the first is the one that the piece before ended with
    which: np.ndarray  # (N,): the perturbation of each frame
    persons: np.ndarray  # (N,h,w) uint8: probabilities of a person, for an automatic mask; else empty
    people: np.ndarray  # (N,): how many
    reference: np.ndarray  # (4,h,w): see steady; its last channel is the mask
    seen: np.ndarray  # (2,h,w): see follow_people; else empty


@dataclass(frozen=True)
class Copy:
    """One frame at the size that the method works at, and its mask there: 1 = may be repainted, None = no mask."""

    small: Tensor  # (3,h,w)
    mask: Tensor | None  # (1,h,w)
    person: np.ndarray | None = None
    people: int = 0


def parts_of(output: Path) -> Path:
    """The folder for what is finished of a clip that becomes `output`."""
    name = f"{TEMPORARY}{output.name}.parts"
    too_long = len(os.fsencode(name)) > LONGEST_NAME
    return output.with_name(
        f"{TEMPORARY}{sha256(os.fsencode(output.name)).hexdigest()[:32]}.parts" if too_long else name
    )


def begin(work: Work, request: Mapping[str, Any]) -> None:
    """Go on with the folder if this very request has left it, else empty it."""
    file, text = work.folder / "request.json", json.dumps(request, sort_keys=True)
    if not file.is_file() or file.read_text() != text:
        shutil.rmtree(work.folder, ignore_errors=True)
        work.folder.mkdir(parents=True, mode=0o700)  # small copies of the clip lie in it
        with atomic(file, private=True) as new:
            new.write(text.encode())


def load(work: Work, number: int) -> Segment | None:
    """A piece that is there; what cannot be read counts as missing."""
    try:
        with np.load(work.folder / f"{number:06}.npz") as file:
            return Segment(**{field.name: file[field.name] for field in fields(Segment)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def delta_of(work: Work, segment: Segment, index: int) -> Tensor:
    """The perturbation (3,h,w) of a frame of a piece."""
    return torch.from_numpy(segment.deltas[segment.which[index]].astype(np.float32)) * work.grid[0]


def complete(work: Work, progress: Callable[[float], None]) -> int:
    """Compute the pieces that are missing; `progress` is told how many frames are done. Returns how many there are."""
    number, done, last = 0, 0, None
    while (there := load(work, number)) is not None:
        number, done, last = number + 1, done + len(there.which), there
    frames = frames_of(work.clip, done)
    masks = masks_from(work.task.settings.mask, work.task.settings.invert_mask, work.clip, done)
    while last is None or len(last.which) == SEGMENT:
        piece = _compute(work, frames, masks, last, lambda now, done=done: progress(done + now))  # type: ignore[misc]
        if not len(piece.which):
            break
        with atomic(work.folder / f"{number:06}.npz", private=True) as file:
            np.savez_compressed(file, **asdict(piece))
        number, done, last = number + 1, done + len(piece.which), load(work, number)
        progress(done)
    return done


def _compute(
    work: Work,
    frames: Iterator[Any],
    masks: Iterator[Tensor | None],
    last: Segment | None,
    progress: Callable[[float], None],
) -> Segment:
    """The next piece: SEGMENT frames, or what is left."""
    step, kind = work.grid
    reference = None if last is None else torch.from_numpy(last.reference)
    seen = None if last is None or not last.seen.size else torch.from_numpy(last.seen)
    held = None if last is None else delta_of(work, last, -1)
    copies: list[Copy] = []
    deltas, which = [] if held is None else [held], []
    while len(copies) < SEGMENT:
        batch: list[Copy] = []
        for _, frame in islice(frames, min(BATCH, SEGMENT - len(copies))):
            copy, seen = _copy(work, levels_of(frame, work.clip), masks, seen)
            batch.append(copy)
        if not batch:
            break
        stacked = [torch.cat([c.small, torch.zeros_like(c.small[:1]) if c.mask is None else c.mask]) for c in batch]
        news, reference = follow(stacked, reference)

        def compute(needed: list[int], batch: list[Copy] = batch, before: int = len(copies)) -> list[Tensor]:
            return _deltas(work, [batch[i] for i in needed], lambda share: progress(before + share * len(batch)))

        found, order = hold(news, held, compute)
        found = [(one / step).round() * step for one in found]
        which += [len(deltas) + i for i in order]
        deltas += found
        held = deltas[-1]
        copies += batch
        progress(len(copies))
    persons = [copy.person for copy in copies if copy.person is not None]
    return Segment(
        deltas=np.stack([(one / step).round().numpy().astype(kind) for one in deltas]) if deltas else np.empty(0),
        which=np.array(which, np.int64),
        persons=np.stack(persons) if persons else np.empty(0, np.uint8),
        people=np.array([copy.people for copy in copies], np.int64),
        reference=np.empty(0) if reference is None else reference.numpy(),
        seen=np.empty(0) if seen is None else seen.numpy(),
    )


def _copy(
    work: Work, levels: Tensor, masks: Iterator[Tensor | None], seen: Tensor | None
) -> tuple[Copy, Tensor | None]:
    """A frame (H, W, 3) uint8 and its mask at the size that the method works at; and what follow_people saw."""
    small = working_copy(levels.permute(2, 0, 1)[None], work.size)[0]
    if work.task.settings.mask == AUTO:
        person, people, seen = follow_people(levels, seen)
        mask = mask_of_people(person, work.clip.size) if people else None
        return Copy(small, None if mask is None else working_mask(mask, work.size)[0], person.numpy(), people), seen
    mask = next_mask(masks, work.clip)
    return Copy(small, None if mask is None else working_mask(mask, work.size)[0]), seen


def _deltas(work: Work, copies: Sequence[Copy], progress: Callable[[float], None]) -> list[Tensor]:
    """What the method adds to each copy (3,h,w): nothing where all may be repainted."""
    found = [torch.zeros_like(copy.small) for copy in copies]
    todo = [i for i, copy in enumerate(copies) if copy.mask is None or bool((copy.mask < 1).any())]
    most = BATCH if work.task.editor is None else min(BATCH, work.task.editor.batch)
    groups = [[i for i in todo if (copies[i].mask is None) == without] for without in (True, False)]
    parts = [group[first : first + most] for group in groups for first in range(0, len(group), most)]
    for number, part in enumerate(parts):
        masks = [mask for i in part if (mask := copies[i].mask) is not None]
        results = perturbation(
            torch.stack([copies[i].small for i in part]),
            method=work.task.settings.method,
            editor=work.task.editor,
            mask=torch.stack(masks) if masks else None,
            budget=work.budget,
            device=work.task.settings.device,
            callback=lambda step, steps, loss, number=number: progress((number + step / (steps + 1)) / len(parts)),
            **work.task.settings.arguments,
        )
        for i, result in zip(part, results, strict=True):
            found[i] = result
    return found
