"""Protect photo files: check everything, work in batches, write each result whole with its report beside it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from editproof.budgets import Budget
from editproof.errors import UserError
from editproof.files import check_folder, clean, digest
from editproof.photo.credentials import check_credentials
from editproof.photo.formats import check_format, get_format
from editproof.photo.masks import AUTO, check_mask, check_something_to_protect, open_mask
from editproof.photo.reading import open_photo
from editproof.protection.apply import DEFAULT_BUDGET, DEFAULT_METHOD
from editproof.protection.batch import BATCH_PIXELS, one_line, run
from editproof.protection.folders import Skipped, plan_folders
from editproof.protection.pair import check_pair
from editproof.protection.report import check_unprotected
from editproof.protection.settings import Asked, check_asked, load_task, written
from editproof.protection.task import Job


def plan_jobs(
    photos: Sequence[str | Path],
    out: str | Path,
    overwrite: bool = False,
    format: str = "png",
    force: bool = False,
    request: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Check every photo and every output before any work; writes nothing. `request`: see pair. Raises UserError."""
    out, suffix = Path(out), get_format(format).suffix
    inputs = {os.path.realpath(photo) for photo in photos}
    taken: dict[str, Path] = {}
    jobs: list[Job] = []
    pixels = 0
    for photo in map(Path, photos):
        output, report = out / f"{photo.stem}-protected{suffix}", out / f"{photo.stem}-protected.json"
        other = taken.setdefault(output.name.casefold(), photo)
        if other is not photo:
            raise UserError(f"photos '{other}' and '{photo}' would both become '{output}'; allowed: one photo per name")
        if os.path.realpath(output) in inputs:
            raise UserError(f"photo '{photo}' would become '{output}', which is one of the photos to protect")
        if photo.is_dir():
            raise UserError(
                f"photo '{photo}' is a folder; allowed: a file, or --recursive for all photos in the folder"
            )
        opened = open_photo(photo)
        check_pair(output, report, request, opened.sha256, overwrite)
        if not force:
            check_unprotected(photo, opened.marked)
        check_format(opened, format)
        pixels += opened.size[0] * opened.size[1]
        kept = opened if pixels <= BATCH_PIXELS else None
        jobs.append(Job(photo, opened.size, output, report, overwrite=overwrite, opened=kept))
    return jobs


def protect_photos(
    photos: Sequence[str | Path],
    out: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    editor: str | None = None,
    scheduler: str | None = None,
    plan: str | None = None,
    compile: bool = True,
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
    recursive: bool = False,
    force: bool = False,
    format: str = "png",
    quality: int | None = None,
    credentials: str | Path | None = None,
    count: Callable[[int], None] | None = None,
    size: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Protect photo files: writes `<stem>-protected.png` and `.json` to `out` and yields each report (the JSON).

    Everything is checked before the first photo is worked on. `mask` (a file, None: everything is protected) is shared
    by all photos; "auto": all but the people found in each photo may be repainted. An L2 budget is meant at 512x512 and
    scaled with each photo's size; None: see protection.budget_in_effect. `format` and, for avif and jpeg, `quality` (1
    to 100): see formats. Photos that are protected already are refused without `force`. `credentials` (a PEM file): see
    credentials. `size`: photos are worked on at the area of size x size pixels, None: at the size at which the editor
    sees them (see editors.attacker_size). `progress` is told how many photos are done, in fractions. Raises UserError.

    With `recursive`, `photos` may be folders, whose tree is kept in `out`, and the run goes on after what goes wrong:
    it yields {"photo", "error"} of photos that failed and {"photo", "skipped"} of those that are done or protected
    already. `count` is told how many photos there are to do.
    """
    out, files = Path(out), [Path(photo) for photo in photos]
    suffix = get_format(format, quality).suffix
    asked = Asked(
        method, editor, scheduler, plan, compile, mask, invert_mask, budget, prompt, steps, preset, seed, device, knobs,
        size,
    )  # fmt: skip
    check_asked(asked)
    check_folder(out)
    check_credentials(credentials)
    check_mask(mask, invert_mask)
    request = written(
        asked, digest(mask) if mask is not None and mask != AUTO else mask, format=format, quality=quality,
        content_credentials=credentials is not None,
    )  # fmt: skip
    jobs: list[Job] = []
    if recursive:
        found = False
        for item in plan_folders(files, out, suffix, request, overwrite=overwrite, force=force):
            found = True
            if isinstance(item, Job):
                jobs.append(item)
            elif isinstance(item, Skipped):
                yield {"photo": str(item.photo), "skipped": item.reason}
            else:
                yield {"photo": str(item[0]), "error": str(item[1])}
        if not found:
            raise UserError(f"no photo in {', '.join(map(repr, map(str, files)))}; allowed: folders with photos")
        clean({job.output.parent for job in jobs})
    else:
        clean([out])
        jobs = plan_jobs(files, out, overwrite, format, force, request)
        _check_masks(jobs, mask, invert_mask)
    to_do = sum(not job.done for job in jobs)
    if count is not None:
        count(to_do)
    if not to_do:
        return
    task = load_task(
        asked, force=force, format=format, quality=quality, request=request,
        credentials=None if credentials is None else Path(credentials),
    )  # fmt: skip
    if not recursive:
        _check_masks(jobs, mask, invert_mask, task.size_for)
    for job, outcome in run(jobs, task, progress or (lambda done: None)):
        if not isinstance(outcome, Exception):
            yield outcome
        elif recursive:
            error = one_line(outcome)
            named = error if str(job.photo) in error else f"photo '{job.photo}': {error}"
            yield {"photo": str(job.photo), "error": named}
        else:
            raise outcome


def _check_masks(
    jobs: Sequence[Job],
    mask: str | Path | None,
    invert: bool,
    size_for: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> None:
    """Raise UserError if the mask does not fit a photo, or leaves nothing to protect (`size_for`: once scaled down)."""
    for size in {job.size for job in jobs} if mask is not None and mask != AUTO else ():
        opened = open_mask(str(mask), size, invert)
        check_something_to_protect(opened, str(mask), None if size_for is None else size_for(size))
