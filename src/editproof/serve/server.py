"""Running the service: workers first, then the port; SIGTERM ends it once everything accepted is answered."""

import asyncio
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.serve.workers import Pool, threads_each

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_installed() -> None:
    """Raise UserError where the extra is not there."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise UserError(f"the service needs {', '.join(missing)}; allowed: pip install 'editproof[serve]'")


def serve(
    settings: Any,
    *,
    host: str,
    port: int,
    workers: int,
    devices: Sequence[str | None],
    batch: int,
    room: int,
    seconds: float,
    most_bytes: int,
    upload_seconds: float,
    rate: float | None,
    keys: Path | None,
    no_keys: bool,
    drain_wait: float,
) -> None:
    """Serve until SIGTERM or Ctrl-C; `settings` say how photos are protected. UserError before the port opens."""
    check_installed()
    if keys is None and not no_keys and host not in LOOPBACK:
        raise UserError(
            f"host '{host}' lets others in, and there are no keys; allowed: --keys FILE, or --no-keys where something "
            "in front of this asks for them"
        )
    import uvicorn

    from editproof.serve.desk import Limits
    from editproof.serve.limits import Rate, read_keys
    from editproof.serve.observe import LOG, Metrics, log_to
    from editproof.serve.service import build
    from editproof.serve.wishes import start_worker

    limits = Limits(
        most_bytes, upload_seconds, None if rate is None else Rate(rate), {} if keys is None else read_keys(keys),
        pages=keys is not None or no_keys,
    )  # fmt: skip
    log_to()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it loads, as process 1, too
    lost: list[Metrics] = []

    def tell(why: str) -> None:
        LOG.error("worker lost", extra={"event": {"reason": why}})
        for metrics in lost:
            metrics.lost.labels(why if len(why) < 40 else "could not be loaded").inc()

    arguments = (settings, tuple(devices), threads_each(workers))
    pool = Pool(
        start_worker, arguments, workers=workers, batch=batch, room=room, seconds=seconds, begun_again=tell
    )  # fmt: skip
    try:
        pool.wait_until_ready()
        metrics = Metrics(pool)
        lost.append(metrics)
        config = uvicorn.Config(
            build(pool, limits, metrics), host=host, port=port, log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=int(seconds) + 30, timeout_keep_alive=30, lifespan="on",
        )  # fmt: skip
        asyncio.run(_until_told(uvicorn.Server(config), limits, drain_wait, host, port))
    except SystemExit:  # uvicorn's, where the port is taken
        raise UserError(f"port '{port}' on '{host}' cannot be used; allowed: another --port") from None
    finally:
        pool.close(seconds)


async def _until_told(server: Any, limits: Any, drain_wait: float, host: str, port: int) -> None:
    """Serve until a signal comes, and `drain_wait` seconds longer, not ready any more; answer the rest, and return."""
    from editproof.serve.observe import LOG

    loop = asyncio.get_running_loop()

    def end() -> None:
        if limits.draining:  # told twice
            server.force_exit = True
        limits.draining = True
        LOG.info("ending", extra={"event": {"wait": drain_wait}})
        loop.call_later(drain_wait, setattr, server, "should_exit", True)

    server.capture_signals = _no_signals
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)
    LOG.info("serving", extra={"event": {"host": host, "port": port}})
    await server.serve()
    LOG.info("ended")


class _no_signals:  # noqa: N801
    """In the place of uvicorn's own signal handlers, which would end at once."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass
