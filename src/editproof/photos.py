"""Protect photo files: check everything, work in batches, write each result whole with its report beside it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.budgets import Budget
from editproof.editors import check_plan, load_editor, pick_device
from editproof.errors import UserError
from editproof.masks import check_something_to_protect, open_mask
from editproof.metrics import psnr
from editproof.photo import Photo, atomic, check_folder, check_output, check_photo, open_photo, write_png
from editproof.protection import (
    DEFAULT_BUDGET,
    DEFAULT_EDITOR,
    DEFAULT_METHOD,
    WITHOUT_EDITOR,
    budget_at,
    method_settings,
    protect,
    working_side,
)
from editproof.resolution import working_size
from editproof.sidecar import claim, effective, protected_share, versions

BATCH, BATCH_PIXELS = 8, 48_000_000  # photos and pixels that are in memory together


@dataclass(frozen=True)
class Job:
    """One photo to protect and where it goes."""

    photo: Path
    size: tuple[int, int]  # (height, width)
    png: Path
    report: Path


def plan_jobs(photos: Sequence[str | Path], out: str | Path, overwrite: bool = False) -> list[Job]:
    """Check every photo and every output before any work; writes nothing. Raises UserError."""
    out = Path(out)
    check_folder(out)
    inputs = {Path(photo).resolve() for photo in photos}
    taken: dict[str, Path] = {}
    jobs = []
    for photo in map(Path, photos):
        png, report = out / f"{photo.stem}-protected.png", out / f"{photo.stem}-protected.json"
        other = taken.setdefault(png.name.casefold(), photo)
        if other is not photo:
            raise UserError(f"photos '{other}' and '{photo}' would both become '{png}'; allowed: one photo per name")
        if png.resolve() in inputs:
            raise UserError(f"photo '{photo}' would become '{png}', which is one of the photos to protect")
        for path in (png, report):
            check_output(path, overwrite)
        jobs.append(Job(photo, check_photo(photo), png, report))
    return jobs


def batches(jobs: Sequence[Job], most: int = BATCH) -> list[list[Job]]:
    """The jobs in groups that go through the method together: the same size, `most` and few enough for the memory."""
    groups: dict[tuple[int, int], list[list[Job]]] = {}
    for job in jobs:
        rows = groups.setdefault(job.size, [[]])
        if len(rows[-1]) == max(1, min(most, BATCH_PIXELS // (job.size[0] * job.size[1]))):
            rows.append([])
        rows[-1].append(job)
    return [row for rows in groups.values() for row in rows]


def protect_photos(
    photos: Sequence[str | Path],
    out: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    editor: str | None = None,
    scheduler: str | None = None,
    plan: str | None = None,
    mask: str | Path | None = None,
    invert_mask: bool = False,
    overwrite: bool = False,
    budget: Budget | None = DEFAULT_BUDGET,
    prompt: str = "",
    steps: int | None = None,
    preset: str | None = None,
    seed: int = 0,
    device: str | None = None,
    knobs: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Protect photo files: writes `<stem>-protected.png` and `.json` to `out` and yields each report (the JSON).

    Everything is checked before the first photo is worked on. `mask` (a file, None: everything is protected) is shared
    by all photos. An L2 budget is meant at 512x512 and scaled with each photo's size; None: see
    protection.budget_in_effect. `progress` is told how many
    photos are done, in fractions. Raises UserError.
    """
    settings = method_settings(method, preset, steps, knobs or {})
    if editor is not None and method in WITHOUT_EDITOR and editor != DEFAULT_EDITOR:
        raise UserError(f"method '{method}' uses no editor, so '{editor}' would change nothing; allowed: no --editor")
    for option, value in (("scheduler", scheduler), ("plan", plan)):
        if value is not None and method in WITHOUT_EDITOR:
            raise UserError(
                f"method '{method}' uses no editor, so {option} '{value}' would change nothing; allowed: no --{option}"
            )
    check_plan(plan, method)
    jobs = plan_jobs(photos, out, overwrite)
    masks = {size: None if mask is None else open_mask(mask, size, invert_mask) for size in {j.size for j in jobs}}
    for tensor in masks.values():
        if tensor is not None:
            check_something_to_protect(tensor, str(mask))
    loaded = None
    if method not in WITHOUT_EDITOR:
        loaded = load_editor(editor or DEFAULT_EDITOR, device=device, scheduler=scheduler, plan=plan)
    side = working_side(method, loaded, settings)
    for size, tensor in masks.items():
        if tensor is not None:
            check_something_to_protect(tensor, str(mask), working_size(*size, side))
    against = loaded.name if loaded is not None else settings.get("weights") or DEFAULT_EDITOR
    done = 0
    for batch in batches(jobs, BATCH if loaded is None else loaded.batch):
        started = time.perf_counter()
        opened = [open_photo(job.photo) for job in batch]
        height, width = batch[0].size
        working = working_size(height, width, side)
        own_budget = budget_at((height, width), budget, (512, 512))

        def callback(step: int, steps: int, loss: float, done: int = done, n: int = len(batch)) -> None:
            if progress is not None:
                progress(done + n * step / (steps + 1))

        images = torch.stack([photo.pixels for photo in opened])
        arguments = {"prompt": prompt, "seed": seed, **settings}
        protected = protect(
            images, method=method, editor=loaded, mask=masks[batch[0].size], budget=own_budget, device=device,
            callback=callback, **arguments,
        )  # fmt: skip
        seconds = (time.perf_counter() - started) / len(batch)
        for job, photo, result in zip(batch, opened, protected, strict=True):
            if torch.equal(result, photo.pixels):
                raise UserError(
                    f"photo '{job.photo}' came out unchanged, so nothing was written for it; allowed: a larger budget "
                    "or more steps"
                )
            report = {
                "photo": job.photo.name,
                "protected": job.png.name,
                "size": [width, height],
                "working_size": list(reversed(working)),
                "method": method,
                "editor": loaded.name if loaded is not None else None,
                "scheduler": type(loaded.pipe.scheduler).__name__ if loaded is not None else None,
                "plan": loaded.plan if loaded is not None else None,
                **effective(method, arguments, own_budget, batch[0].size, working),
                "preset": preset,
                "device": str(loaded.device if loaded is not None else pick_device(device)),
                "mask": None if mask is None else {"file": Path(mask).name, "inverted": invert_mask},
                "protected_share": protected_share(masks[job.size]),
                "psnr_db": round(psnr(result[None], photo.pixels[None]).item(), 3),
                "linf": round((result - photo.pixels).abs().max().item(), 6),
                "linf_levels": round((result - photo.pixels).abs().max().item() * 255),
                "seconds": round(seconds, 3),
                **claim(against),
                "versions": versions(),
            }
            save(job, photo, result, report)
            done += 1
            if progress is not None:
                progress(done)
            yield report


def save(job: Job, photo: Photo, result: Tensor, report: Mapping[str, Any]) -> None:
    """Both files of one photo; neither takes its name before both are written."""
    with atomic(job.png) as png, atomic(job.report) as text:
        write_png(png, result, alpha=photo.alpha, icc=photo.icc)
        text.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
