"""What `editproof protect` shows while it works. Imports torch, so it is imported when the command runs."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from rich.markup import escape

from editproof.cli.clips import show_clip, show_clips, tell_of_parts
from editproof.cli.display import ERR, OUT, print_summary, progress_bar, protected_line, rate_shown, tell_of_unread
from editproof.methods import METHODS
from editproof.protection.files import each_protected
from editproof.protection.folders import find
from editproof.protection.settings import ProtectSettings


@dataclass
class Made:
    """What came of it: how many photos were protected, skipped and failed, what failed, how many tell a place."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    claim: str = ""
    places: int = 0


def protect_all(
    photos: list[Path],
    clips: list[Path],
    in_folders: list[tuple[Path, Path]],
    out: Path,
    settings: ProtectSettings,
    overwrite: bool,
    recursive: bool,
    codec: str | None,
    crf: int | None,
) -> Made:
    """Protect clips, then those in folders (each with the folder for its result), then photos, and print what is done.

    A line a photo; with `recursive` a summary. Raises UserError.
    """
    made = Made()
    if METHODS[settings.method].told and settings.mask is None:
        hint = f"{settings.method} was trained with the mask told: --mask FILE or --mask auto tells it"
        ERR.print(hint, soft_wrap=True)
    any_photo = not in_folders or next(find(photos, out), None) is not None
    with progress_bar() as bar:
        for clip in clips:
            report = show_clip(bar, clip, out, settings, overwrite=overwrite, codec=codec, crf=crf)
            made.claim, made.places = report["claim"], made.places + report["tells_place"]
        task = bar.add_task(f"protect with {escape(settings.method)}", total=None if recursive else len(photos))
        told = {"progress": lambda done: bar.update(task, completed=done)} if not recursive else rate_shown(bar, task)
        reports = each_protected(photos, out, settings=settings, overwrite=overwrite, recursive=recursive, **told)
        moving = show_clips(bar, in_folders, settings, overwrite=overwrite, codec=codec, crf=crf)
        for report in chain(moving, reports if (photos or not clips) and any_photo else ()):
            if report.get("skipped") == "a clip":  # of photos: it is among the clips
                continue
            made.places += report.get("tells_place", False)
            made.counts[report.get("skipped") or ("failed" if "error" in report else "protected")] += 1
            made.errors += [report["error"]] if "error" in report else []
            made.claim = report.get("claim", made.claim)
            if not recursive:
                OUT.print(protected_line(report, out), markup=False, soft_wrap=True)
    if recursive and photos:
        print_summary(out, made.counts, made.errors)
        tell_of_unread(photos, out)
    if clips or in_folders:
        tell_of_parts({out, *(folder for _, folder in in_folders)})
    return made
