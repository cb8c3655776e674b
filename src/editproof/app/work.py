"""Long work behind a page: in a thread of its own, one at a time, with progress, time left and a way to stop it."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from editproof.app.texts import ENGLISH, say
from editproof.app.visits import Visit
from editproof.errors import UserError

Result = TypeVar("Result")
Progress = Callable[[str, float], None]  # what goes on, and the share of all that is done
POLL = 0.2  # seconds between looks at how far it is
WAITING = 16  # computations that may stand in line
TAKEN = 2 * WAITING  # requests that Gradio passes on to us: more than WAITING, so that we can refuse the rest in words

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


class Running:
    """A job in a thread of its own, which goes on until it is done or told to stop, whoever looks at it."""

    def __init__(self, visit: Visit, job: Callable[[Progress], Any]) -> None:
        self.told = Told(say(visit.language, "waiting"), 0.0, None)
        self.stop = threading.Event()
        self._visit, self._job, self._outcome, self._started = visit, job, list[Any](), time.monotonic()
        visit.stops.add(self.stop)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def result(self) -> Any:
        """What the job returned, once it is done. Raises what it raised, Stopped where it was told to stop."""
        if isinstance(self._outcome[0], _Failed):
            raise self._outcome[0].error
        return self._outcome[0]

    def _progress(self, what: str, share: float) -> None:
        if self.stop.is_set():
            raise Stopped
        spent = time.monotonic() - self._started
        self.told = Told(what, share, spent * (1 - share) / share if share > 0.02 and spent > 0.5 else None)

    def _run(self) -> None:
        try:
            with self._visit.working, _turn(self._progress, self._visit.language):
                self._started = time.monotonic()
                self._progress(say(self._visit.language, "starting"), 0.0)
                self._outcome.append(self._job(self._progress))
        except BaseException as error:
            self._outcome.append(_Failed(error))
        finally:
            self._visit.stops.discard(self.stop)


def follow(
    visit: Visit, job: Callable[[Progress], Result], show: Callable[[Told], Any]
) -> Generator[Any, None, Result]:
    """Run `job` and yield `show` of how far it is; returns its result.

    `job` is given a function to tell its progress to, which raises Stopped in it once the visitor wants to stop; so the
    computation itself ends, at its next step. Raises Stopped, UserError where too many wait, and what `job` raises.
    """
    running = Running(visit, job)
    try:
        return (yield from watch(running, show))
    finally:
        running.stop.set()  # also where the page has gone and nobody asks for more


def watch(running: Running, show: Callable[[Told], Any]) -> Generator[Any, None, Any]:
    """Yield `show` of how far a job is, until it is done; returns its result. The job goes on if nobody asks for more.

    Raises what `job` raises.
    """
    shown = None
    while running.thread.is_alive():
        if running.told != shown:
            shown = running.told
            yield show(shown)
        running.thread.join(POLL)
    return running.result()


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@contextlib.contextmanager
def _turn(progress: Progress, language: str) -> Iterator[None]:
    """Wait in line until nobody else computes."""
    ticket = object()
    try:
        with _moved:
            if len(_line) > WAITING:
                raise UserError("Too many visitors are waiting; try again in a few minutes")
            _line.append(ticket)
            while _line[0] is not ticket:
                progress(say(language, "line", count=_line.index(ticket)), 0.0)
                _moved.wait(POLL)
        yield
    finally:
        with _moved:
            if ticket in _line:
                _line.remove(ticket)
            _moved.notify_all()


def seconds(left: float | None, language: str = ENGLISH) -> str:
    """Time left, in words: "", "about 12 s left", "about 3 min left"."""
    if left is None:
        return ""
    key, count = ("left_s", max(1, round(left))) if left < 90 else ("left_min", round(left / 60))
    return say(language, key, count=count)
