"""Long work behind a page: in a thread of its own, one at a time, with progress, time left and a way to stop it."""

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from editproof.app.visits import Visit

Result = TypeVar("Result")
Progress = Callable[[str, float], None]  # what goes on, and the share of all that is done
POLL = 0.2  # seconds between looks at how far it is

_computing = threading.Lock()  # held by whoever computes: visitors take turns


class Stopped(BaseException):
    """The visitor pressed Stop, or left. No Exception, so that nothing on the way takes it for a photo's failure."""


@dataclass(frozen=True)
class Told:
    """How far the work is: what goes on, the share that is done, the seconds left (None: not known yet)."""

    what: str
    share: float
    left: float | None


def follow(
    visit: Visit, job: Callable[[Progress], Result], show: Callable[[Told], Any]
) -> Generator[Any, None, Result]:
    """Run `job` and yield `show` of how far it is; returns its result.

    `job` is given a function to tell its progress to, which raises Stopped in it once the visitor wants to stop; so the
    computation itself ends, at its next step. Raises Stopped, and whatever `job` raises.
    """
    visit.stop, told, outcome = threading.Event(), [Told("Waiting for other visitors", 0.0, None)], list[Any]()
    stop, started = visit.stop, [time.monotonic()]

    def progress(what: str, share: float) -> None:
        if stop.is_set():
            raise Stopped
        spent = time.monotonic() - started[0]
        told[0] = Told(what, share, spent * (1 - share) / share if share > 0.02 and spent > 0.5 else None)

    def run() -> None:
        try:
            with visit.working, _turn(stop):
                started[0] = time.monotonic()
                progress("Starting", 0.0)
                outcome.append(job(progress))
        except BaseException as error:
            outcome.append(_Failed(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        shown = None
        while thread.is_alive():
            if told[0] != shown:
                shown = told[0]
                yield show(shown)
            thread.join(POLL)
    finally:
        stop.set()  # also where the page has gone and nobody asks for more
    if isinstance(outcome[0], _Failed):
        raise outcome[0].error
    return outcome[0]


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@contextlib.contextmanager
def _turn(stop: threading.Event) -> Iterator[None]:
    """Wait until nobody else computes."""
    while not _computing.acquire(timeout=POLL):
        if stop.is_set():
            raise Stopped
    try:
        yield
    finally:
        _computing.release()


def seconds(left: float | None) -> str:
    """Time left, in words: "", "about 12 s left", "about 3 min left"."""
    if left is None:
        return ""
    return f"about {max(1, round(left))} s left" if left < 90 else f"about {round(left / 60)} min left"


def log(error: BaseException) -> None:
    """What a visitor need not see goes to the terminal."""
    traceback.print_exception(error, file=sys.stderr)
