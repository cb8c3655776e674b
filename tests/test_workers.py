"""Worker processes: nothing accepted is lost when one is killed, what kills workers is given up, lines are bounded."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from editproof.errors import UserError
from editproof.serve.workers import Full, Pool, TooLong, WorkerLost


def start(folder: str, number: int) -> Callable[[list[str]], list[str]]:
    """A handler of orders: `double N`; `die`; `die once`; `sleep SECONDS`; `size`: of what it was given together."""

    def one(order: str, together: int) -> str:
        what, _, more = order.partition(" ")
        if what == "die" and (more != "once" or not Path(folder, "died").exists()):
            Path(folder, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":
            while not Path(folder, more).exists():
                time.sleep(0.005)
        if what == "touch":
            Path(folder, more).touch()
        return {"double": more * 2, "pid": str(os.getpid()), "size": str(together)}.get(what, order)

    return lambda orders: [one(order, len(orders)) for order in orders]


def start_in_vain(message: str, number: int) -> Any:
    raise UserError(message)


def start_broken(number: int) -> Any:
    os._exit(3)


@contextmanager
def pool(folder: Path, **settings: Any) -> Iterator[Pool]:
    made = Pool(start, (str(folder),), **{"workers": 1, "seconds": 60.0, **settings})
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.close(10)


def test_orders_are_done_by_as_many_processes_as_asked_for(tmp_path: Path) -> None:
    with pool(tmp_path, workers=2, room=100) as workers:
        assert workers.ready == 2
        futures = [workers.submit(f"double {i}") for i in range(20)]
        assert [future.result(60) for future in futures] == [str(i) * 2 for i in range(20)]
        assert len(workers.pids) == 2
        assert os.getpid() not in workers.pids


def test_a_killed_worker_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    told: list[str] = []
    with pool(tmp_path, room=100, begun_again=told.append) as workers:
        (first,) = workers.pids
        futures = [workers.submit("wait go"), *(workers.submit(f"double {i}") for i in range(5))]
        while not workers.busy:
            time.sleep(0.005)
        os.kill(first, signal.SIGKILL)
        (tmp_path / "go").touch()
        assert [future.result(60) for future in futures] == ["wait go", *(str(i) * 2 for i in range(5))]
        assert told == ["ended while it worked"]
        assert first not in workers.pids


def test_a_worker_that_dies_idle_is_replaced(tmp_path: Path) -> None:
    with pool(tmp_path) as workers:
        (first,) = workers.pids
        os.kill(first, signal.SIGKILL)
        assert workers.submit("double 1").result(60) == "11"
        assert first not in workers.pids


def test_what_ends_every_worker_is_given_up_and_the_rest_goes_on(tmp_path: Path) -> None:
    with pool(tmp_path, batch=4, room=100) as workers:
        hold = workers.submit("wait go")
        futures = [workers.submit(order) for order in ("double 1", "die", "double 2")]
        (tmp_path / "go").touch()
        assert hold.result(60) == "wait go"
        with pytest.raises(WorkerLost, match="3 workers ended"):
            futures[1].result(60)
        assert [futures[0].result(60), futures[2].result(60)] == ["11", "22"]


def test_what_ends_one_worker_is_done_by_the_next(tmp_path: Path) -> None:
    with pool(tmp_path) as workers:
        assert workers.submit("die once").result(60) == "die once"


def test_the_line_is_bounded(tmp_path: Path) -> None:
    with pool(tmp_path, room=2) as workers:
        held = workers.submit("wait go")
        while not workers.busy:
            time.sleep(0.005)
        others = [workers.submit("double 1"), workers.submit("double 2")]
        with pytest.raises(Full):
            workers.submit("double 3")
        others[0].cancel()
        (tmp_path / "go").touch()
        assert workers.submit("double 4", wait=True).result(60) == "44"
        assert held.result(60) == "wait go"
        assert others[1].result(60) == "22"


def test_together_go_only_those_that_wait(tmp_path: Path) -> None:
    with pool(tmp_path, batch=3, room=100) as workers:
        held = workers.submit("wait go")
        while not workers.busy:
            time.sleep(0.005)
        futures = [workers.submit("size") for _ in range(4)]
        (tmp_path / "go").touch()
        assert held.result(60) == "wait go"
        assert [future.result(60) for future in futures] == ["3", "3", "3", "1"]


def test_what_takes_too_long_is_ended_with_its_worker(tmp_path: Path) -> None:
    with pool(tmp_path, seconds=0.2) as workers:
        (first,) = workers.pids
        with pytest.raises(TooLong):
            workers.submit("wait never").result(60)
        workers.seconds = 60.0
        assert workers.submit("pid").result(60) != str(first)


def test_closing_waits_for_what_was_accepted_and_ends_the_processes(tmp_path: Path) -> None:
    with pool(tmp_path, room=10) as workers:
        pids = workers.pids
        futures = [workers.submit(f"double {i}") for i in range(5)]
        assert workers.close(60)
        assert [future.result(0) for future in futures] == [str(i) * 2 for i in range(5)]
        with pytest.raises(Full):
            workers.submit("double 1")
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_closing_without_patience_leaves_nobody_waiting(tmp_path: Path) -> None:
    with pool(tmp_path, room=10) as workers:
        running, waiting = workers.submit("wait never"), workers.submit("double 1")
        while not workers.busy:
            time.sleep(0.005)
        assert not workers.close(0)
        with pytest.raises(CancelledError):
            waiting.result(10)
        with pytest.raises(WorkerLost):
            running.result(10)


def test_why_a_worker_cannot_be_loaded_is_told_before_anything_begins() -> None:
    with pytest.raises(UserError, match="no such weights"):
        Pool(start_in_vain, ("no such weights",), workers=2).wait_until_ready()
    with pytest.raises(UserError, match="while it loaded"):
        Pool(start_broken, (), workers=1).wait_until_ready()


def of_bulk(device: str | None, number: int) -> None:
    """Load a worker of `editproof bulk`."""
    from editproof.bulk import work
    from editproof.bulk.plan import Plan
    from editproof.protection.settings import ProtectSettings

    work.start(Plan(ProtectSettings(device=device), "target", "reports"), 1, number)


def of_the_service(device: str | None, number: int) -> None:
    """Load a worker of `editproof serve`."""
    from editproof.protection.settings import ProtectSettings
    from editproof.serve.wishes import start_worker

    start_worker(ProtectSettings(), [device], 1, number)


@pytest.mark.parametrize("load", [of_bulk, of_the_service])
@pytest.mark.parametrize(
    ("asked", "gpus", "used"),
    [
        (None, 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", 2, ["cuda:1"] * 3),
        (None, 1, [None] * 3),
        ("cpu", 2, ["cpu"] * 3),
        (None, 0, [None] * 3),
    ],
)
def test_workers_take_the_gpus_in_turn(
    load: Callable[[str | None, int], None], asked: str | None, gpus: int, used: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Where none of several is named; each worker's is PyTorch's current one, too."""
    import torch

    from editproof.protection import settings
    from editproof.serve import wishes

    found: list[str | None] = []
    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(settings, "load_task", lambda settings, *_, **__: found.append(settings.device))
    monkeypatch.setattr(wishes, "_warm", lambda task: None)
    for number in range(3):
        load(asked, number)
    assert found == used
    if gpus and asked != "cpu":
        assert current == [device if device and ":" in device else "cuda:0" for device in used]
    else:
        assert not current


def test_a_gpu_that_is_not_there_is_told() -> None:
    from editproof.serve.workers import settle

    with pytest.raises(UserError, match="no device 'cuda:7' here"):
        settle("cuda:7", 0)
