"""What the app keeps of a visitor, in a folder that is deleted when they leave.

A visit is one open page (Gradio's session). Uploads lie where Gradio puts them, by content: two visitors with the same
photo share a file, which goes when the last of them does. What nobody can be told to own, such as uploads that were
broken off and what Gradio's painter sends, goes by its age.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

KEEP = 2 * 3600  # seconds without a click after which a visit ends
STRAY, ALONE = 600, 60  # seconds after which files of nobody go, and while nobody is here
SWEEP = 20  # seconds between looks for these
PREFIX = "editproof-app-"


@dataclass(eq=False)
class Visit:
    """One open page: its folder, the uploads it refers to, its results, and what is being computed for it."""

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    results: list[Any] = field(default_factory=list)  # protect_tab.Protected
    masks: dict[Any, Any] = field(default_factory=dict)  # of uploads: what was found, by (file, how)
    stops: set[threading.Event] = field(default_factory=set)  # of what is being computed: set to end it
    working: threading.Lock = field(default_factory=threading.Lock)  # held while something is computed
    seen: float = field(default_factory=time.monotonic)
    runs: int = 0

    def new_folder(self) -> Path:
        """An empty folder for the results of one run."""
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir(parents=True)
        return folder

    def stop(self) -> None:
        """End what is being computed, at its next step."""
        for event in list(self.stops):
            event.set()


_visits: dict[str, Visit] = {}
_lock = threading.Lock()


def make_root() -> Path:
    """A folder that only this user can read, for everything the app writes; it goes when the process ends.

    What processes that were killed have left is removed, too.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = old.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def visit(session: str | None, root: Path) -> Visit:
    """The visit of a session, begun if there is none."""
    session, now = session or "", time.monotonic()
    with _lock:
        if session not in _visits:
            _visits[session] = Visit(Path(tempfile.mkdtemp(prefix="visit-", dir=root)))
        _visits[session].seen = now
        return _visits[session]


def keep(visit: Visit, uploads: Iterable[str | Path]) -> None:
    """Remember which uploads belong to a visit, so that they go when it ends."""
    with _lock:
        visit.uploads |= {Path(upload) for upload in uploads}


def soon_over(visit: Visit) -> None:
    """Let a visit without a page end STRAY seconds from now, if it is not used again."""
    visit.seen = time.monotonic() - KEEP + STRAY


def leave(session: str | None) -> None:
    """End a visit: what is being computed stops, then its files are deleted."""
    with _lock:
        left = _visits.pop(session or "", None)
    if left is None:
        return
    left.stop()
    with left.working:
        shutil.rmtree(left.folder, ignore_errors=True)
    with _lock:
        for upload in left.uploads - {upload for other in _visits.values() for upload in other.uploads}:
            upload.unlink(missing_ok=True)
            if not any(upload.parent.glob("*")):
                shutil.rmtree(upload.parent, ignore_errors=True)


def sweep(root: Path) -> None:
    """End visits that were forgotten, and delete files that belong to no visit and are old enough."""
    now = time.monotonic()
    with _lock:
        old = [key for key, other in _visits.items() if now - other.seen > KEEP and not other.working.locked()]
    for key in old:
        leave(key)
    with _lock:
        folders = {other.folder for other in _visits.values()}
        uploads = {upload for other in _visits.values() for upload in other.uploads}
    newest = time.time() - (STRAY if folders else ALONE)
    for place, inner, names in os.walk(root, topdown=False):
        for path in (Path(place, name) for name in names + inner):
            if folders.isdisjoint(path.parents) and path not in uploads | folders:
                with contextlib.suppress(OSError):  # gone already, or a folder with something in it
                    if path.stat().st_ctime < newest:
                        path.rmdir() if path.is_dir() else path.unlink()


def keep_sweeping(root: Path) -> None:
    """For a thread: sweep until the process ends."""
    while True:
        time.sleep(SWEEP)
        sweep(root)
