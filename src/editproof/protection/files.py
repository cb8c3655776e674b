"""Protect photo files: check everything, work in batches, write each result whole with its report beside it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.files import check_folder, check_named, clean, digest
from editproof.photo.credentials import check_credentials
from editproof.photo.formats import check_format, suffix_of
from editproof.photo.masks import AUTO, check_mask, check_something_to_protect, open_mask
from editproof.photo.reading import open_photo
from editproof.protection.batch import BATCH_PIXELS, one_line, run
from editproof.protection.folders import Skipped, free_name, plan_folders
from editproof.protection.pair import check_pair
from editproof.protection.report import check_unprotected
from editproof.protection.settings import ProtectSettings, load_task
from editproof.protection.task import Job
from editproof.surroundings import undisturbed


def plan_jobs(
    photos: Sequence[str | Path],
    out: str | Path,
    overwrite: bool = False,
    format: str = "png",
    force: bool = False,
    request: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Check every photo and every output before any work; writes nothing. `request`: see pair. Raises UserError."""
    out = Path(out)
    inputs = [os.path.realpath(photo) for photo in photos]
    taken: set[str] = set()
    jobs: list[Job] = []
    pixels = 0
    for photo in map(Path, photos):
        if inputs.count(os.path.realpath(photo)) > 1:
            raise UserError(f"photo '{photo}' is named twice; allowed: once")
        if photo.is_dir():
            raise UserError(
                f"photo '{photo}' is a folder; allowed: a file, or --recursive for all photos in the folder"
            )
        suffix = suffix_of(format, photo)
        name = free_name(photo, out, suffix, taken)
        output, report = out / f"{name}{suffix}", out / f"{name}.json"
        if os.path.realpath(output) in inputs:
            raise UserError(f"photo '{photo}' would become '{output}', which is one of the photos to protect")
        opened = open_photo(photo)
        check_pair(output, report, request, opened.sha256, overwrite)
        if not force:
            check_unprotected(photo, opened.marked)
        check_format(opened, format)
        pixels += opened.size[0] * opened.size[1]
        kept = opened if pixels <= BATCH_PIXELS else None
        jobs.append(Job(photo, opened.size, output, report, overwrite=overwrite, opened=kept))
    return jobs


@undisturbed
def protect_photos(photos: str | Path | Sequence[str | Path], out: str | Path, **settings: Any) -> list[dict[str, Any]]:
    """Protect photo files: writes `<stem>-protected.png` and `.json` to `out` and returns the reports (the JSON).

    `photos`: one file or several. `settings`: see each_protected, which does the same photo by photo. Raises UserError.
    """
    return list(each_protected(photos, out, **settings))


def each_protected(
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: ProtectSettings | None = None,
    overwrite: bool = False,
    recursive: bool = False,
    progress: Callable[[float], None] = lambda done: None,
    count: Callable[[int], None] = lambda photos: None,
    **asked: Any,
) -> Iterator[dict[str, Any]]:
    """Protect photo files one after the other, as they are asked for, and yield the report (the JSON) of each.

    Writes `<stem>-protected.png` and `.json` to `out`; where two photos would have one name, `<name>-protected.png`.
    Everything is checked before the first photo is worked on.

    Args:
        photos: Files; with `recursive` folders, too, whose tree is kept in `out`. Then the run goes on after what goes
            wrong, and photos that an earlier run has done are skipped.
        out: The folder for results; it is made if it is not there.
        settings: How to protect; None: `asked`.
        overwrite: Replace results that are there.
        recursive: See `photos`.
        progress: Told how many photos are done, in fractions.
        count: Told how many photos there are to do.
        asked: The fields of `ProtectSettings`: method, editor, mask, budget, preset, format and so on.

    Yields:
        The report of each photo; with `recursive` also {"photo", "error"} of those that failed and
        {"photo", "skipped"} of those that are done or protected already.

    Raises:
        UserError: For settings, photos or outputs that cannot be used.
    """
    check_named(out)
    out, files = Path(out), [Path(photo) for photo in ([photos] if isinstance(photos, str | Path) else photos)]
    settings = settings or ProtectSettings(**asked)
    mask = settings.mask
    check_folder(out)
    if settings.credentials is not None:
        check_credentials(settings.credentials)
    check_mask(mask, settings.invert_mask)
    request = settings.as_json(
        digest(mask) if mask is not None and mask != AUTO else mask,
        format=settings.format,
        quality=settings.quality,
        content_credentials=settings.credentials is not None,
        metadata=settings.metadata,
    )
    jobs: list[Job] = []
    if recursive:
        found = False
        for item in plan_folders(files, out, settings.format, request, overwrite=overwrite, force=settings.force):
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
        jobs = plan_jobs(files, out, overwrite, settings.format, settings.force, request)
        _check_masks(jobs, settings)
    to_do = sum(not job.done for job in jobs)
    count(to_do)
    if not to_do:
        return
    task = load_task(settings, request)
    if not recursive:
        _check_masks(jobs, settings, task.size_for)
    for job, outcome in run(jobs, task, progress):
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
    settings: ProtectSettings,
    size_for: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> None:
    """Raise UserError if the mask does not fit a photo, or leaves nothing to protect (`size_for`: once scaled down)."""
    mask = settings.mask
    for size in {job.size for job in jobs} if mask is not None and mask != AUTO else ():
        opened = open_mask(str(mask), size, settings.invert_mask)
        check_something_to_protect(opened, str(mask), None if size_for is None else size_for(size))
