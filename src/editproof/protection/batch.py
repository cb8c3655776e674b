"""Photos in numbers: reading, computing and writing overlap; batches do not depend on what was done before."""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.protection.task import Job, Ready, Task, finish, perturb, read

BATCH, BATCH_PIXELS = 8, 24_000_000  # photos and pixels that go through the method together; larger ones one by one
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
Outcome = tuple[Job, dict[str, Any] | Exception]


def batches(
    jobs: Sequence[Job], size_for: Callable[[tuple[int, int]], tuple[int, int]], most: int = BATCH
) -> list[list[Job]]:
    """The jobs in groups that go through the method together: one working size, `most`, few enough for the memory."""
    rows: list[list[Job]] = []
    last: dict[tuple[int, int], list[Job]] = {}  # of each working size: its last row
    for job in jobs:
        size = size_for(job.size)
        row = last.get(size)
        if row is None or len(row) == most or _pixels([*row, job]) > BATCH_PIXELS:
            row = last[size] = []
            rows.append(row)
        row.append(job)
    return rows


def run(jobs: Sequence[Job], task: Task, progress: Callable[[float], None]) -> Iterator[Outcome]:
    """Protect photos and write them; yields each job that is not done already with its report or what went wrong.

    While a batch is computed in the caller's thread, the next one is read and the last one is written in others.
    `progress` is told how many photos are done, in fractions. A batch with nothing to do is skipped; in any other,
    the photos that are done take their places, so that a result does not depend on where an earlier run stopped.
    """
    most = BATCH if task.editor is None else min(BATCH, task.editor.batch)
    waiting = deque(row for row in batches(jobs, task.size_for, most) if not all(job.done for job in row))
    reading: deque[list[tuple[Job, Future[Ready]]]] = deque()
    writing: deque[list[tuple[Job, Future[dict[str, Any]] | Exception]]] = deque()
    begun, written, told = 0, 0, 0.0
    pool = ThreadPoolExecutor(os.cpu_count())

    def tell(done: float) -> None:
        nonlocal told
        told = max(told, done)
        progress(told)

    try:
        while waiting or reading:
            while waiting and (not reading or (len(reading) < 2 and _pixels(waiting[0]) <= BATCH_PIXELS)):
                reading.append([(job, pool.submit(read, job, task)) for job in waiting.popleft()])
            results = [(job, _result(future)) for job, future in reading.popleft()]
            new = sum(not job.done for job, _ in results)

            def callback(step: int, steps: int, loss: float, begun: int = begun, new: int = new) -> None:
                tell(begun + new * step / (steps + 1))

            writing.append(list(_compute(results, task, pool, callback)))
            begun += new
            large = _pixels([job for job, _ in results]) > BATCH_PIXELS
            del results
            while len(writing) > (1 if (waiting or reading) and not large else 0):
                for job, future in writing.popleft():
                    written += 1
                    outcome = _result(future)
                    tell(written)
                    yield job, outcome
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(jobs: Sequence[Job]) -> int:
    return sum(job.size[0] * job.size[1] for job in jobs)


def _compute(
    results: Sequence[tuple[Job, Ready | Exception]],
    task: Task,
    pool: ThreadPoolExecutor,
    callback: Callable[[int, int, float], None],
) -> Iterator[tuple[Job, Future[dict[str, Any]] | Exception]]:
    """Of each job not done already: what it failed with, or the writing of its result."""
    groups: dict[tuple[int, ...], list[Ready]] = {}
    for job, result in results:
        if isinstance(result, Ready):  # a header may have lied about the size
            groups.setdefault((*result.small.shape, result.small_mask is None), []).append(result)
        elif not job.done:
            yield job, result
    for group in groups.values():
        started = time.perf_counter()
        try:
            deltas = perturb(group, task, callback)
        except Exception as error:
            if (
                isinstance(error, UserError) and METHODS[task.settings.method].needs_faces and len(group) > 1
            ):  # one may have no face
                for ready in group:
                    yield from _compute([(ready.job, ready)], task, pool, callback)
                continue
            yield from ((ready.job, error) for ready in group if not ready.job.done)
            continue
        seconds = (time.perf_counter() - started) / len(group)
        for ready, delta in zip(group, deltas, strict=True):
            if not ready.job.done:
                yield ready.job, pool.submit(finish, ready, delta, task, seconds)


def _result(future: Any) -> Any:
    """What a future holds, or the exception it ended with."""
    if not isinstance(future, Future):
        return future
    try:
        return future.result()
    except Exception as error:
        if is_fatal(error):
            raise
        return error


def is_fatal(error: Exception) -> bool:
    """Whether no other photo would fare better: the disk is full, or cannot be written to."""
    return isinstance(error, OSError) and error.errno in FATAL


def one_line(error: Exception) -> str:
    """What to say of an exception that ended the work on one photo."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "not enough memory"
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
