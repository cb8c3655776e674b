"""Worker processes for photos: a line of bounded length, and what a worker that dies was working on is done again.

A worker reads orders from a pipe and answers there. One thread of this process attends to each: it takes orders from
the line, hands them over, and starts another worker where one ends, is killed, or takes too long.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from editproof.errors import UserError
from editproof.serve.allocation import keep_pages

ATTEMPTS = 3  # that an order may end a worker, until it is taken for the reason
STARTING = 300.0  # seconds that a worker may take to load
Handler = Callable[[list[Any]], Sequence[Any]]


class Full(Exception):
    """The line is as long as it may be."""


class TooLong(Exception):
    """An order was not done in time."""


class WorkerLost(Exception):
    """Workers ended each time they worked on an order."""


class _Order:
    """Something to be done, the future of its result, and how often it was begun."""

    def __init__(self, item: Any, until: float) -> None:
        self.item, self.until, self.begun = item, until, 0
        self.future: Future[Any] = Future()


class Pool:
    """Processes that work on orders.

    Args:
        start: called in each worker with `arguments` and the worker's number (0 to workers - 1); returns its handler, a
            function from a list of orders to as many results. It must be importable, and orders and results picklable.
        workers: how many processes.
        batch: the most orders that a handler is given together: what is in the line, nothing is waited for.
        room: how many orders may stand in line.
        seconds: how long an order may take, the time in line included.
        begun_again: is told whenever a worker had to be replaced.
    """

    def __init__(
        self,
        start: Callable[..., Handler],
        arguments: tuple[Any, ...],
        *,
        workers: int,
        batch: int = 1,
        room: int = 16,
        seconds: float = 60.0,
        begun_again: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.workers, self.batch, self.room, self.seconds = workers, batch, room, seconds
        self._start, self._arguments, self._tell = start, arguments, begun_again
        self._line: deque[_Order] = deque()
        self._moved = threading.Condition()
        self._busy, self._closed = 0, False
        self._processes: list[Any] = [None] * workers
        self._ready = [False] * workers
        self._failed: UserError | None = None
        self._threads = [threading.Thread(target=self._attend, args=(i,), daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many orders stand in line."""
        return len(self._line)

    @property
    def busy(self) -> int:
        """How many workers are at work."""
        return self._busy

    @property
    def ready(self) -> int:
        """How many workers are loaded and alive."""
        return sum(self._ready)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are there."""
        return [process.pid for process in list(self._processes) if process is not None and process.is_alive()]

    def wait_until_ready(self) -> None:
        """Returns once all workers are loaded. Raises the UserError that one of them ended with."""
        with self._moved:
            self._moved.wait_for(lambda: self._failed is not None or all(self._ready))
        if self._failed is not None:
            self.close(0)
            raise self._failed

    def submit(self, item: Any, *, wait: bool = False) -> "Future[Any]":
        """Put an order in line; a future that is cancelled is not worked on. Raises Full, unless it shall `wait`.

        The future ends with the result, TooLong or WorkerLost, or, where the pool is closed, CancelledError.
        """
        with self._moved:
            if wait:
                self._moved.wait_for(lambda: len(self._line) < self.room or self._closed)
            if len(self._line) >= self.room or self._closed:
                raise Full
            order = _Order(item, time.monotonic() + self.seconds)
            self._line.append(order)
            self._moved.notify_all()
        return order.future

    def close(self, seconds: float) -> bool:
        """End the workers once everything is done, at the latest after `seconds`; True if everything was done."""
        with self._moved:
            done = self._moved.wait_for(lambda: not self._line and not self._busy, seconds)
            self._closed = True
            left, self._line = list(self._line), deque()
            self._moved.notify_all()
        for order in left:
            if not order.future.cancel():  # begun once, by a worker that was lost
                order.future.set_exception(WorkerLost("its worker ended, and no other is there any more"))
        for process in self._processes:
            if process is not None and (not done or not process.is_alive()):
                process.kill()
        for thread in self._threads:
            thread.join(5)
        return done

    def _attend(self, number: int) -> None:
        """What the thread of one worker does."""
        pipe: Connection | None = None
        tries = 0  # in a row that a worker could not be loaded
        try:
            while not self._closed:
                if pipe is None:
                    with self._moved:
                        self._moved.wait_for(lambda: self._closed, min(30.0, 0.5 * tries))
                    pipe = self._begin(number)
                    tries = 0 if pipe is not None else tries + 1
                    if tries >= ATTEMPTS:
                        self._give_up(UserError(f"a worker ended {tries} times while it loaded; its output says why"))
                    continue
                orders = self._take(number)
                if orders:
                    pipe = self._hand_over(pipe, orders, number)
                elif not self._closed and not self._processes[number].is_alive():
                    self._lose(pipe, number, "ended while it waited")
                    pipe = None
        finally:
            if pipe is not None:
                pipe.close()  # the worker reads the end of the pipe, and ends
            if self._processes[number] is not None:
                self._processes[number].join(5)
                self._processes[number].kill()
                self._processes[number].join(5)

    def _begin(self, number: int) -> Connection | None:
        """Start a worker and wait until it is loaded; None if it could not be."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self._start, self._arguments, number), daemon=True)
        process.start()
        there.close()
        self._processes[number] = process
        said: Any = "took too long to load"
        try:
            if here.poll(STARTING):
                said = here.recv()
        except (EOFError, OSError):
            said = "ended while it loaded"
        if said is None:
            with self._moved:
                self._ready[number] = True
                self._moved.notify_all()
            return here
        if isinstance(said, UserError):
            self._give_up(said)
        self._tell(str(said))
        process.kill()
        here.close()
        return None

    def _give_up(self, why: UserError) -> None:
        """Tell whoever waits until all are ready that they will not be."""
        with self._moved:
            self._failed = why
            self._moved.notify_all()

    def _take(self, number: int) -> list[_Order]:
        """The next orders for a worker; none if the pool is closed, and now and then, to see whether it lives."""
        with self._moved:
            self._moved.wait_for(lambda: self._line or self._closed, 1.0)
            orders: list[_Order] = []
            while self._line and not self._closed and len(orders) < self.batch:
                if orders and self._line[0].begun:  # it may have ended a worker: alone, the next time
                    break
                order = self._line.popleft()
                if order.begun == 0 and not order.future.set_running_or_notify_cancel():
                    continue
                if order.until <= time.monotonic():
                    order.future.set_exception(TooLong("waited too long"))
                    continue
                orders.append(order)
                if order.begun:
                    break
            if orders:
                self._busy += 1
            self._moved.notify_all()
        return orders

    def _hand_over(self, pipe: Connection, orders: list[_Order], number: int) -> Connection | None:
        """Have orders done by a worker; returns its pipe, None if it is no more."""
        again: list[_Order] = []
        lost = None
        try:
            pipe.send([order.item for order in orders])
            if pipe.poll(max(0.0, max(order.until for order in orders) - time.monotonic())):
                for order, result in zip(orders, pipe.recv(), strict=True):
                    order.future.set_result(result)
            else:
                lost = "took too long"
                for order in orders:
                    order.future.set_exception(TooLong("took too long"))
        except (EOFError, OSError):
            lost = "ended while it worked"
            for order in orders:
                order.begun += 1
                if order.begun >= ATTEMPTS or self._closed:
                    order.future.set_exception(WorkerLost(f"{order.begun} workers ended while they worked on it"))
                else:
                    order.until = max(order.until, time.monotonic() + self.seconds)  # it has been accepted
                    again.append(order)
        with self._moved:
            self._busy -= 1
            self._line.extendleft(reversed(again))
            self._moved.notify_all()
        if lost is None:
            return pipe
        self._lose(pipe, number, lost)
        return None

    def _lose(self, pipe: Connection, number: int, why: str) -> None:
        with self._moved:
            self._ready[number] = False
        self._processes[number].kill()
        self._processes[number].join()
        pipe.close()
        if not self._closed:
            self._tell(why)


def _work(pipe: Connection, start: Callable[..., Handler], arguments: tuple[Any, ...], number: int) -> None:
    """What a worker does, until its pipe is closed: also if the process that started it is killed."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent says when it is over
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    keep_pages()
    try:
        handler = start(*arguments, number)
    except UserError as error:
        pipe.send(error)
        return
    pipe.send(None)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(handler(pipe.recv()))


def threads_each(workers: int) -> int:
    """How many threads each of some workers should compute with, so that they share the processor."""
    return max(1, (os.cpu_count() or 1) // workers)


def settle(device: str | None, number: int) -> str | None:
    """The device that worker `number` works on: where no GPU is named and there are several, each in turn.

    It becomes PyTorch's current one, too: some kernels run there wherever their tensors are. Raises UserError.
    """
    import torch

    from editproof.editors import pick_device

    if device in (None, "cuda") and (gpus := torch.cuda.device_count()) > 1:
        device = f"cuda:{number % gpus}"
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return device
