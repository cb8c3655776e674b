"""What the app keeps of a visitor, in a folder that is deleted soon after they leave.

A visit is what one tab of a browser shows. The tab remembers a secret word for it, so that the work is there again
after a reload, the back button or a lost connection; who calls over HTTP has a visit for each of Gradio's sessions.
Uploads lie where Gradio puts them, by content: two visitors with the same photo share a file, which goes when the last
of them does. What nobody can be told to own, such as uploads that were broken off and what Gradio's painter sends, goes
by its age.
"""

import atexit
import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editproof.app import painting
from editproof.files import held, is_held

KEEP = 2 * 3600  # seconds without a click after which a visit ends
AWAY = 600  # seconds without an open page after which it ends
SECRET = re.compile(r"[0-9a-f]{32}")  # what a tab remembers
STRAY, ALONE = 600, 60  # seconds after which files of nobody go, and while nobody is here
SWEEP = 20  # seconds between looks for these
PREFIX = "editproof-app-"


@dataclass(eq=False)
class Visit:
    """One tab: its folder, the uploads it refers to, its choices and results, and what is being computed for it."""

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    language: str = "en"
    opened: Any = None  # the photo that is looked at (photo.reading.Photo)
    chosen: dict[str, Any] = field(default_factory=dict)  # on the first tab: name of a component -> its value
    people: dict[Path, Any] = field(default_factory=dict)  # of photos: choosing.People
    painted: dict[Path, Path] = field(default_factory=dict)  # of photos: a picture of what was painted over them
    results: list[Any] = field(default_factory=list)  # protecting.Protected
    latest: Any = None  # of results: what the last run on the first tab gave, protect_tab.Outcome
    running: Any = None  # work.Running of the first tab
    masks: dict[Any, Any] = field(default_factory=dict)  # of uploads: what was found, by (file, how)
    stops: set[threading.Event] = field(default_factory=set)  # of what is being computed: set to end it
    working: threading.Lock = field(default_factory=threading.Lock)  # held while something is computed
    looking: threading.Lock = field(default_factory=threading.Lock)  # held while what is chosen changes
    told: list[str] = field(default_factory=list)  # photos that a page which was opened again shows already
    seen: float = field(default_factory=time.monotonic)
    pages: set[str] = field(default_factory=set)  # sessions of pages that are open
    away: float | None = None  # since when none is
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


_visits: dict[str, Visit] = {}  # by a session, or by what a tab remembers
_tabs: dict[str, str] = {}  # session -> what its tab remembers
_lock = threading.Lock()


def make_root() -> Path:
    """A folder that only this user can read, for everything the app writes; it goes when the process ends.

    What processes that were killed have left is removed, too.
    """
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{PREFIX}*"):
        if not is_held(_lock_of(old)):
            _remove(old)
    root = place / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    alive = contextlib.ExitStack()
    alive.enter_context(held(_lock_of(root)))
    root.mkdir(mode=0o700)
    atexit.register(alive.close)
    atexit.register(shutil.rmtree, root, ignore_errors=True)  # the last first
    return root


def _lock_of(root: Path) -> Path:
    """What tells that the process of a folder lives; beside it, and there before it."""
    return root.with_name(f"{root.name.removesuffix('.lock')}.lock")


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def enter(session: str | None, secret: str, root: Path) -> Visit:
    """A page was opened in a tab that remembers `secret` (32 hex digits; anything else is ignored): its visit."""
    if session and SECRET.fullmatch(secret or ""):
        with _lock:
            _tabs[session] = f"tab {secret}"
    return visit(session, root)


def visit(session: str | None, root: Path) -> Visit:
    """The visit of a session, begun if there is none."""
    session, now = session or "", time.monotonic()
    with _lock:
        key = _tabs.get(session, session)
        if key not in _visits:
            _visits[key] = Visit(Path(tempfile.mkdtemp(prefix="visit-", dir=root)))
        mine = _visits[key]
        mine.seen = now
        if session in _tabs:
            mine.pages.add(session)
            mine.away = None
        return mine


def left(session: str | None) -> None:
    """A page was closed or reloaded, or its connection was lost: without a tab that remembers it, the visit ends."""
    session = session or ""
    with _lock:
        mine = _visits.get(_tabs.get(session, ""))
        if mine is not None:
            mine.pages.discard(session)
            mine.away = time.monotonic() if not mine.pages else None
    if session not in _tabs:
        leave(session)


def keep(visit: Visit, uploads: Iterable[str | Path]) -> None:
    """Remember which uploads belong to a visit, so that they go when it ends.

    They are files in the app's folder; who calls over HTTP may name other paths, which are not theirs.
    """
    root, own = visit.folder.parent, set()
    for upload in uploads:
        path = Path(os.path.normpath(upload))
        inside = root in path.parents and Path(os.path.realpath(root)) in Path(os.path.realpath(path)).parents
        own |= {path} if inside and path.is_file() else set()
    with _lock:
        visit.uploads |= own


def soon_over(visit: Visit) -> None:
    """Let a visit without a page end STRAY seconds from now, if it is not used again."""
    visit.seen = time.monotonic() - KEEP + STRAY


def leave(session: str | None) -> None:
    """End the visit of a session: what is being computed stops, then its files are deleted."""
    session = session or ""
    end(_tabs.get(session, session))


def end(key: str) -> None:
    """End a visit."""
    with _lock:
        left = _visits.pop(key, None)
        for session in [session for session, of in _tabs.items() if of == key]:
            del _tabs[session]
    if left is None:
        return
    left.stop()
    with left.working:
        shutil.rmtree(left.folder, ignore_errors=True)
    with _lock:
        for upload in left.uploads - {upload for other in _visits.values() for upload in other.uploads}:
            _remove(upload)
            if upload.parent != left.folder.parent:
                with contextlib.suppress(OSError):  # others' uploads are in it
                    upload.parent.rmdir()


def sweep(root: Path) -> None:
    """End visits that were forgotten, and delete files that belong to no visit and are old enough."""
    now = time.monotonic()
    with _lock:
        old = [key for key, other in _visits.items() if _over(other, now)]
    for key in old:
        end(key)
    with _lock:
        folders = {other.folder for other in _visits.values()}
        uploads = {upload for other in _visits.values() for upload in other.uploads}
    age = STRAY if folders else ALONE
    painting.forget(age)
    newest = time.time() - age
    for place, inner, names in os.walk(root, topdown=False):
        for path in (Path(place, name) for name in names + inner):
            if folders.isdisjoint(path.parents) and path not in uploads | folders:
                with contextlib.suppress(OSError):  # gone already, or a folder with something in it
                    if path.stat().st_ctime < newest:
                        path.rmdir() if path.is_dir() else path.unlink()


def _over(visit: Visit, now: float) -> bool:
    if visit.away is not None and now - visit.away > AWAY:
        return True
    return now - visit.seen > KEEP and not visit.working.locked()


def keep_sweeping(root: Path) -> None:
    """For a thread: sweep until the process ends, whatever goes wrong in one round."""
    while True:
        time.sleep(SWEEP)
        try:
            sweep(root)
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
