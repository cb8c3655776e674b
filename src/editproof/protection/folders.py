"""Folders of photos: which files are meant, what their results are called, and what an earlier run has done."""

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.photo import raw
from editproof.photo.decoding import SUFFIXES
from editproof.photo.formats import suffix_of
from editproof.photo.moving import is_animated
from editproof.photo.reading import peek
from editproof.protection.pair import check_pair, is_done
from editproof.protection.report import check_unprotected, read_report
from editproof.protection.task import Job


@dataclass(frozen=True)
class Skipped:
    """A photo that there is nothing to do for, and why: "done before", "protected already", "a clip"."""

    photo: Path
    reason: str


def find(inputs: Sequence[Path], out: Path, suffixes: Container[str] | None = SUFFIXES) -> Iterator[tuple[Path, Path]]:
    """Photos with the folder that each one's result belongs in, in a steady order.

    Of folders, all files with one of the suffixes (None: all), however deep, but none in `out` (unless that is the
    folder itself) and no hidden ones; links to folders are not followed. Several inputs keep their own folders' names.
    Folders that cannot be read come last, as if they were photos.
    """
    for given in inputs:
        if not given.is_dir():
            yield given, out
            continue
        base = given if len(inputs) == 1 else given.parent
        unreadable: list[OSError] = []
        for folder, folders, files in os.walk(given, onerror=unreadable.append):
            folders[:] = sorted(
                f
                for f in folders
                if not f.startswith(".") and os.path.realpath(Path(folder, f)) != os.path.realpath(out)
            )
            for name in sorted(files):
                wanted = suffixes is None or Path(name).suffix.lower() in suffixes
                if wanted and not name.startswith("."):
                    yield Path(folder, name), out / Path(folder).relative_to(base)
        yield from ((Path(error.filename), out) for error in unreadable)


def unread(inputs: Sequence[Path], out: Path, besides: Container[str] = ()) -> dict[str, Counter[str]]:
    """Of files in folders that are not read as photos: for each kind, what their names end in and how many.

    What ends in one of `besides` (clips) and what editproof wrote are not counted, hidden files neither.
    """
    kinds = {"raw photos, to be exported as TIFF or JPEG first": raw.SUFFIXES, "of other kinds": None}
    found: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for path, _ in find(inputs, out, None):
        ending = path.suffix.lower()
        if ending in SUFFIXES or ending in besides or (ending == ".json" and read_report(path)):
            continue
        kind = next(kind for kind, endings in kinds.items() if endings is None or ending in endings)
        found[kind][ending or "without an ending"] += 1
    return {kind: endings for kind, endings in found.items() if endings}


def plan_folders(
    inputs: Sequence[Path], out: Path, format: str, request: Mapping[str, Any], *, overwrite: bool, force: bool
) -> Iterator[Job | Skipped | tuple[Path, UserError]]:
    """Every photo of `inputs`: to be done (or done, and marked so), skipped, or what is wrong with it."""
    found = list(find(inputs, out))
    originals = {os.path.realpath(photo) for photo, _ in found}
    taken: set[str] = set()
    for photo, folder in found:
        if is_animated(photo):
            yield Skipped(photo, "a clip")
            continue
        try:
            size, marked = peek(photo)
            try:
                if not force:
                    check_unprotected(photo, marked)
            except UserError:
                yield Skipped(photo, "protected already")
                continue
            suffix = suffix_of(format, photo)
            name = free_name(photo, folder, suffix, taken)
            output, report = folder / f"{name}{suffix}", folder / f"{name}.json"
            done = not overwrite and is_done(output, report, request, photo)
            if os.path.realpath(output) in originals and read_report(report).get("protected") != output.name:
                raise UserError(f"photo '{photo}' would become '{output}', which is one of the photos to protect")
            if not done and not overwrite and os.path.exists(output):
                raise UserError(
                    f"output '{output}' exists and is not what these settings make of '{photo}'; allowed: another "
                    "--out, or --overwrite"
                )
            check_pair(output, report, request, photo, overwrite or done)
        except UserError as error:
            yield photo, error
        else:
            if done:
                yield Skipped(photo, "done before")
            yield Job(photo, size, output, report, done, overwrite)


def free_name(photo: Path, folder: Path, suffix: str, taken: set[str]) -> str:
    """`<stem>-protected`, or `<name>-protected` if that belongs to another photo; it is `taken` from then on."""
    for name in (f"{photo.stem}-protected", f"{photo.name}-protected"):
        key = str(folder / name).casefold()
        if key not in taken and read_report(folder / f"{name}.json").get("photo", photo.name) == photo.name:
            taken.add(key)
            return name
    raise UserError(
        f"photo '{photo}' would become '{folder / name}{suffix}', as another photo does; allowed: other names"
    )
