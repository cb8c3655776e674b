"""One photo on its way: read, protected together with others of its working size, written with its report."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editproof.budgets import Budget, check_budget
from editproof.editors import EDITORS, attacker_size, pick_device
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.freed import give_back
from editproof.photo.credentials import key_id, sign
from editproof.photo.encoding import encoded
from editproof.photo.formats import FORMATS, SAME, check_format, written_as
from editproof.photo.masks import AUTO, check_something_to_protect, found_mask, open_mask
from editproof.photo.metadata import KEEP, with_metadata
from editproof.photo.reading import Photo, open_photo
from editproof.protection import own_size
from editproof.protection.apply import DEFAULT_EDITOR, budget_at, perturbation, size_to_work_at, weights_digest
from editproof.protection.pair import turn, write_pair
from editproof.protection.report import PROTECTION, check_unprotected, claim, effective, protected_share, versions
from editproof.resolution import working_copy, working_mask
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.protection.settings import ProtectSettings

MEANT = (512, 512)  # the size in pixels that an L2 budget is meant at


@dataclass(frozen=True)
class Task:
    """How photos are to be protected: settings, the editor, loaded, and what both come to."""

    settings: "ProtectSettings"
    editor: Editor | None
    budget: Budget | None  # in effect, as meant at MEANT; None: no bound
    request: Mapping[str, Any] | None = None  # what was asked for, in what JSON can say
    mask_data: bytes | None = None  # the content of the mask's file, where that is not on this disk

    @property
    def against(self) -> str:
        """What the effect is claimed for: an editor, the file of a network trained elsewhere, or latent spaces."""
        told = self.settings.arguments
        return (
            self.editor.name if self.editor is not None else told.get("weights") or told.get("spaces") or DEFAULT_EDITOR
        )

    def size_for(self, photo: tuple[int, int]) -> tuple[int, int]:
        """The size that a photo is worked on at, of its own (both height, width)."""
        return size_to_work_at(self.settings.method, self.editor, self.settings.arguments, photo, self.settings.size)


@dataclass(frozen=True)
class Job:
    """One photo to protect and where it goes."""

    photo: Path
    size: tuple[int, int]  # (height, width)
    output: Path
    report: Path
    done: bool = False  # an earlier run wrote it: it is computed with its batch (whose size matters), but not written
    overwrite: bool = False
    opened: Photo | None = None
    in_memory: bool = False  # `photo` is only a name


@dataclass(frozen=True)
class Ready:
    """A photo that has been read, and its copy at the size that the method works at."""

    job: Job
    photo: Photo
    small: Tensor  # (1, 3, h, w)
    small_mask: Tensor | None  # (1, 1, h, w)
    keep: Tensor | None  # (H, W) bool: what may be changed
    seconds: float
    found: str | None = None  # who, for an automatic mask


@undisturbed
def read(job: Job, task: Task) -> Ready:
    """Open a photo and its mask and scale both down. Raises UserError."""
    started = time.perf_counter()
    photo = job.opened or open_photo(job.photo)
    if not task.settings.force and (photo.marked or not job.in_memory):
        check_unprotected(photo.path, photo.marked)
    check_format(photo, task.settings.format)
    size = task.size_for(photo.size)
    mask = small_mask = keep = found = None
    if task.settings.mask == AUTO:
        mask, found = found_mask(photo, size)
    elif task.settings.mask is not None:
        mask = open_mask(task.settings.mask, photo.size, task.settings.invert_mask, task.mask_data)
        check_something_to_protect(mask, str(task.settings.mask), size)
    if mask is not None:
        small_mask, keep = working_mask(mask, size), mask[0, 0] == 0
    small = working_copy(photo.levels.permute(2, 0, 1)[None], size)
    return Ready(job, photo, small, small_mask, keep, time.perf_counter() - started, found)


@undisturbed
def perturb(batch: Sequence[Ready], task: Task, callback: Callable[[int, int, float], None]) -> list[Tensor]:
    """What the method adds to photos of one working size, all with a mask or none: (3, h, w) each."""
    masks = [ready.small_mask for ready in batch if ready.small_mask is not None]
    size = (batch[0].small.shape[-2], batch[0].small.shape[-1])
    delta = perturbation(
        torch.cat([ready.small for ready in batch]),
        method=task.settings.method,
        editor=task.editor,
        mask=torch.cat(masks) if masks else None,
        budget=budget_at(size, task.budget, MEANT),
        device=task.settings.device,
        callback=callback,
        **task.settings.arguments,
    )
    return list(delta)


def finish(ready: Ready, delta: Tensor, task: Task, seconds: float) -> dict[str, Any]:
    """Write the result and its report (see result_of), both whole or not at all, and return the report."""
    file, report = result_of(ready, delta, task, seconds)
    with turn(ready.job.report):
        write_pair(file, ready.job.output, ready.job.report, report, ready.job.overwrite)
    return report


@undisturbed
def result_of(ready: Ready, delta: Tensor, task: Task, seconds: float) -> tuple[memoryview, dict[str, Any]]:
    """Add the perturbation at the photo's own size; returns the content of the protected file, and its report.

    `seconds` is what was spent on this photo since it was read. Raises UserError where nothing would change.
    """
    started = time.perf_counter()
    job, photo = ready.job, ready.photo
    give_back(photo.size[0] * photo.size[1])
    budget = budget_at(photo.size, task.budget, MEANT)
    result = own_size.add(photo.levels, delta, budget, ready.keep, photo.grey)
    square, levels = own_size.changes(result, photo.levels)
    check_budget(budget, levels, (square * result.numel()) ** 0.5, f"photo '{job.photo}'")
    name, credentials = written_as(task.settings.format, photo), task.settings.credentials
    kept = encoded(
        result, with_metadata(photo, task.settings.metadata), name, task.settings.quality,
        task.settings.format == SAME,
        lambda seen: perturbation_left(seen, result, photo.levels, task.size_for(photo.size)),
    )  # fmt: skip
    file = kept.file
    if kept.left is not None:
        square, levels = own_size.changes(kept.seen, photo.levels)
    if levels == 0:
        lossy = "" if torch.equal(result, photo.levels) else f", the format {name} loses all of it"
        raise UserError(
            f"photo '{job.photo}' came out unchanged{lossy}, so nothing was written for it; allowed: a larger budget"
            f"{', or a lossless format' if lossy else ' or more steps'}"
        )
    if credentials is not None:
        file = sign(file, FORMATS[name].media_type, Path(credentials))
    report = {
        **described(ready, task),
        "format": name,
        "quality": kept.quality,
        "size_ratio": round(len(file.getbuffer()) / max(1, photo.file_size), 3),
        "protected_sha256": hashlib.sha256(file.getbuffer()).hexdigest(),
        "psnr_db": round(-10 * torch.tensor(square, dtype=torch.float64).log10().item(), 3),
        "linf": round(levels / 255, 6),
        "linf_levels": levels,
        **({} if kept.left is None else {"perturbation_left": kept.left}),
        "seconds": round(ready.seconds + seconds + time.perf_counter() - started, 3),
        **claim(task.against),
        "request": task.request,
        "versions": versions(),
    }
    return file.getbuffer(), report


def of_method(task: Task, size: tuple[int, int], working: tuple[int, int]) -> dict[str, Any]:
    """What a report says of method, editor and device, for a picture of `size` worked on at another (height, width)."""
    return {
        "method": task.settings.method,
        "protection_version": PROTECTION,
        "weights_sha256": weights_digest(task.settings.method, task.settings.arguments),
        "editor": task.editor.name if task.editor is not None else None,
        "scheduler": type(task.editor.pipe.scheduler).__name__ if task.editor is not None else None,
        "plan": task.editor.plan if task.editor is not None else None,
        **effective(task.settings.method, task.settings.arguments, budget_at(size, task.budget, MEANT), size, working),
        "preset": task.settings.preset,
        "device": str(task.editor.device if task.editor is not None else pick_device(task.settings.device)),
    }


def described(ready: Ready, task: Task) -> dict[str, Any]:
    """What the report says of a photo and of the settings in effect."""
    size, working = ready.photo.size, (ready.small.shape[-2], ready.small.shape[-1])
    keep = ready.keep
    return {
        "photo": ready.job.photo.name,
        "photo_sha256": ready.photo.sha256,
        "protected": ready.job.output.name,
        "size": list(reversed(size)),
        "working_size": list(reversed(working)),
        "attacker_size": attackers(task, size),
        **of_method(task, size, working),
        "mask": described_mask(task.settings.mask, task.settings.invert_mask, ready.found),
        "protected_share": protected_share(None if keep is None else (~keep).float()),
        "content_credentials": task.settings.credentials is not None,
        "credentials_key": key_id(task.settings.credentials),
        "metadata": task.settings.metadata,
        "tells_place": ready.photo.tells_place and task.settings.metadata == KEEP,
        "left_out": list(ready.photo.removed),
    }


def attackers(task: Task, size: tuple[int, int]) -> list[int] | None:
    """(width, height) at which the editor that the effect is claimed for sees a photo of `size` (height, width).

    None where no editor is known: another's weights for the one-pass method.
    """
    if task.editor is None and task.against not in EDITORS:
        return None
    return list(reversed(attacker_size(task.against, *size)))


def described_mask(mask: str | Path | None, inverted: bool, found: str | None) -> dict[str, Any] | None:
    """What the report says of a mask: a file's name, or who was found and how."""
    if found is not None:
        return {"auto": found}
    return None if mask is None else {"file": Path(mask).name, "inverted": inverted}


def perturbation_left(saved: Tensor, result: Tensor, original: Tensor, size: tuple[int, int]) -> float:
    """How much of the perturbation a lossy file holds, as an editor sees it: 1 all, 0 nothing.

    The length, in the direction of what was added, of what is there; both at the size (height, width) that an
    editor works at, from photos (H, W, 3) uint8.
    """
    saw, added, had = (working_copy(x.permute(2, 0, 1)[None], size).double() for x in (saved, result, original))
    length = (added - had).square().sum()
    return round(((saw - had) * (added - had)).sum().item() / length.item(), 3) if length > 0 else 0.0
