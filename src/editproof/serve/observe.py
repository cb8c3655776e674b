"""What can be seen of the service from outside: metrics, logs in JSON, and an id for every request."""

import json
import logging
import re
import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from editproof.serve.workers import Pool

ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # of a request that comes with one
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BYTES = (1e4, 1e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8)
LOG = logging.getLogger("editproof.serve")
Scope = MutableMapping[str, Any]


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self, pool: Pool) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "editproof", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered.", ("route", "status"), **named)
        self.seconds = Histogram(
            "request_seconds", "From the first byte to the last.", ("route",), buckets=SECONDS, **named
        )
        self.photo_seconds = Histogram("photo_seconds", "Reading to encoding one photo.", buckets=SECONDS, **named)
        self.bytes_in = Histogram("photo_bytes_in", "Size of photo files received.", buckets=BYTES, **named)
        self.bytes_out = Histogram("photo_bytes_out", "Size of protected files.", buckets=BYTES, **named)
        self.pixels = Counter("pixels", "Pixels of protected photos.", **named)
        self.refused = Counter("refused", "Requests that were not worked on.", ("reason",), **named)
        self.lost = Counter("workers_lost", "Workers that had to be replaced.", ("reason",), **named)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "waiting": ("Photos in line.", lambda: pool.waiting),
            "workers_busy": ("Workers at work.", lambda: pool.busy),
            "workers_ready": ("Workers that are loaded and alive.", lambda: pool.ready),
            "memory_bytes": ("Resident memory of the service and its workers.", lambda: memory(pool)),
        }
        for name, (said, value) in gauges.items():
            Gauge(name, said, **named).set_function(value)


def memory(pool: Pool) -> int:
    """Resident bytes of this process and its workers."""
    total = psutil.Process().memory_info().rss
    for pid in pool.pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return total


def observed(app: Any, metrics: Metrics, routes: frozenset[str]) -> Callable[..., Awaitable[None]]:
    """The ASGI application `app`, each of its requests with an id, a line in the log, and counted.

    What its handlers tell of a request they put into `scope["state"]["log"]`, a dictionary.
    """

    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if ID.fullmatch(given) else uuid.uuid4().hex
        told: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=told)
        started, status = time.perf_counter(), 0

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await app(scope, receive, sent)
        except Exception as error:  # has been answered already
            told["trace"] = "".join(traceback.format_exception(error))
        finally:
            seconds = time.perf_counter() - started
            route = scope["path"] if scope["path"] in routes else "other"
            status = told.pop("status", status)
            metrics.requests.labels(route, str(status)).inc()
            metrics.seconds.labels(route).observe(seconds)
            level = logging.ERROR if status >= 500 and status not in (503, 504) else logging.INFO
            event = {"request_id": request_id, "method": scope["method"], "route": route, "status": status}
            LOG.log(level, "request", extra={"event": {**event, "seconds": round(seconds, 4), **told}})

    return answer


class Json(logging.Formatter):
    """One line of JSON for each record; the `event` of a record is added to it."""

    def format(self, record: logging.LogRecord) -> str:
        time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time_, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line.update(getattr(record, "event", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(stream: Any = None) -> None:
    """Send the logs of the service and of uvicorn to a stream (stderr) as JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Json())
    for name in ("editproof.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
