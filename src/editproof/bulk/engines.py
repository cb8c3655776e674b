"""Who does the units: processes of this machine, or Ray's actors here and on others."""

import json
import logging
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from typing import Any

from editproof.bulk.plan import Plan, row
from editproof.bulk.sources import Unit
from editproof.bulk.work import Row, start
from editproof.errors import UserError
from editproof.serve.allocation import keep_pages
from editproof.serve.workers import Pool, TooLong, WorkerLost, threads_each

LONGEST = 6 * 3600.0  # seconds that a unit, which may be a shard of thousands of photos, may take


def by_processes(units: Sequence[Unit], plan: Plan, workers: int) -> Generator[Row, None, None]:
    """Do units in processes of this machine, one network each; a process that dies is replaced, its unit done again."""
    pool = Pool(
        start, (plan, threads_each(workers)), workers=workers, batch=plan.batch, room=2 * plan.batch * workers,
        seconds=LONGEST,
    )  # fmt: skip
    try:
        pool.wait_until_ready()
        going: deque[tuple[Unit, Future[list[Row]]]] = deque()
        for unit in units:
            while len(going) >= 4 * plan.batch * workers:
                yield from _rows(*going.popleft())
            going.append((unit, pool.submit(unit, wait=True)))
        while going:
            yield from _rows(*going.popleft())
    finally:
        pool.close(0)


def _rows(unit: Unit, future: "Future[list[Row]]") -> list[Row]:
    try:
        return future.result()
    except (TooLong, WorkerLost) as error:
        return [row(unit.name, "failed", error=str(error))]


class Actor:
    """What Ray keeps in each of its processes: a loaded network."""

    def __init__(self, plan: Plan, threads: int) -> None:
        keep_pages()
        self.handler = start(plan, threads, 0)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        units = [Unit(**json.loads(text)) for text in batch["unit"]]
        return {"rows": [json.dumps(rows) for rows in self.handler(units)]}


def by_ray(
    units: Sequence[Unit], plan: Plan, workers: int, address: str | None, gpus: float
) -> Generator[Row, None, None]:
    """Do units by Ray Data: on this machine (no address), or on a cluster that is there. Raises UserError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 if not told: beside anything else hardly anything is done
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("--ray needs an extra; allowed: pip install 'editproof[ray]'") from None
    local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except ConnectionError as error:
        raise UserError(f"no Ray cluster at '{address}' ({' '.join(str(error).split())})") from None
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        items = [{"unit": json.dumps(vars(unit))} for unit in units]
        blocks = min(len(items), max(4 * workers, len(items) // 64))
        data = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            Actor, fn_constructor_args=(plan, threads_each(workers) if address is None else 1), batch_size=plan.batch,
            compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1, num_gpus=gpus or None,
        )  # fmt: skip
        for found in data.iter_rows():
            yield from json.loads(found["rows"])
    finally:
        ray.shutdown()
