"""Long work behind a page: in a thread of its own, one at a time, with progress, time left and a way to stop it."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from editproof.app.visits import Visit
from editproof.errors import UserError

Result = TypeVar("Result")
Progress = Callable[[str, float], None]  # what goes on, and the share of all that is done
POLL = 0.2  # seconds between looks at how far it is
WAITING = 16  # computations that may stand in line
TAKEN = 2 * WAITING  # that Gradio hands on: more than may stand in line, so that whoever is too many is told

_line: list[object] = []  # who computes, and who waits for it
_moved = threading.Condition()


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
    computation itself ends, at its next step. Raises Stopped, UserError where too many wait, and what `job` raises.
    """
    stop, told, outcome, started = threading.Event(), [Told("Waiting", 0.0, None)], list[Any](), [time.monotonic()]
    visit.stops.add(stop)

    def progress(what: str, share: float) -> None:
        if stop.is_set():
            raise Stopped
        spent = time.monotonic() - started[0]
        told[0] = Told(what, share, spent * (1 - share) / share if share > 0.02 and spent > 0.5 else None)

    def run() -> None:
        try:
            with visit.working, _turn(progress):
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
        visit.stops.discard(stop)
    if isinstance(outcome[0], _Failed):
        raise outcome[0].error
    return outcome[0]


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@contextlib.contextmanager
def _turn(progress: Progress) -> Iterator[None]:
    """Wait in line until nobody else computes."""
    ticket = object()
    try:
        with _moved:
            if len(_line) > WAITING:
                raise UserError("Too many visitors are waiting; try again in a few minutes")
            _line.append(ticket)
            while _line[0] is not ticket:
                progress(f"Waiting: {_line.index(ticket)} in line before you", 0.0)
                _moved.wait(POLL)
        yield
    finally:
        with _moved:
            if ticket in _line:
                _line.remove(ticket)
            _moved.notify_all()


def seconds(left: float | None) -> str:
    """Time left, in words: "", "about 12 s left", "about 3 min left"."""
    if left is None:
        return ""
    return f"about {max(1, round(left))} s left" if left < 90 else f"about {round(left / 60)} min left"
