"""Watch a folder: photos that are put there are protected, once they have stopped growing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.files import check_folder
from editproof.protection.files import each_protected
from editproof.protection.folders import find
from editproof.protection.settings import ProtectSettings

EVERY = 2.0  # seconds between looks
Stamp = tuple[int, int]  # a file's size in bytes and when it was changed, in nanoseconds


def watch(
    folder: str | Path,
    out: str | Path,
    settings: ProtectSettings,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Protect the photos of a folder, however deep, and then those that are put there, for ever.

    Args:
        folder: The folder to look into.
        out: The folder for results, whose tree is that of `folder`; it may lie in `folder`.
        settings: How to protect.
        pause: Waits between two looks, given the seconds.

    Yields:
        The report of each photo, {"photo", "error"} of those that failed (again only once they were changed), and {}
        after each look. What was done before, or is protected already, is left alone and not told.

    Raises:
        UserError: Where `folder` is no folder, or is `out`, or `out` cannot be made.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder; allowed: a folder to watch")
    if folder.resolve() == out.resolve():
        raise UserError(f"results cannot go to '{out}', the folder that is watched; allowed: another --out")
    check_folder(out)
    before: dict[Path, Stamp] = {}
    tried: dict[Path, Stamp] = {}
    while True:
        now = stamps(folder, out)
        settled = {path: stamp for path, stamp in now.items() if before.get(path) == stamp}
        new = {path: stamp for path, stamp in settled.items() if tried.get(path) != stamp}
        if new:
            for outcome in each_protected(folder, out, settings=settings, recursive=True):
                if "protected" in outcome or ("error" in outcome and Path(outcome["photo"]) in new):
                    yield outcome
            tried |= new
        before = now
        yield {}
        pause(EVERY)


def stamps(folder: Path, out: Path) -> dict[Path, Stamp]:
    """The photos in a folder, with what tells whether they have changed."""
    found = {}
    for path, _ in find([folder], out):
        try:
            status = path.stat()
        except OSError:  # gone meanwhile
            continue
        found[path] = status.st_size, status.st_mtime_ns
    return found
