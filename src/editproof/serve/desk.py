"""Who is let in, and what becomes of a request that was: it stands in the workers' line until it is done or refused."""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from editproof.serve.answers import Refused
from editproof.serve.limits import Rate, name_of
from editproof.serve.observe import Metrics
from editproof.serve.wishes import Comparison, Failed, Wish
from editproof.serve.workers import Full, Pool, TooLong, WorkerLost

FROM_PAGES = {"origin", "sec-fetch-site"}  # headers that browsers send and programs do not


@dataclass
class Limits:
    """What one request, one key and all together may take; and whether the service is about to end."""

    bytes: int = 50_000_000  # of a body
    upload_seconds: float = 30.0
    rate: Rate | None = None
    keys: Mapping[str, str] = field(default_factory=dict)  # digest -> name; empty: no key is asked for
    pages: bool = True  # whether pages in browsers may ask
    draining: bool = False


@dataclass
class Desk:
    """The workers of one service, what may be asked of them, and how many requests it has accepted."""

    pool: Pool
    limits: Limits
    metrics: Metrics
    taken: int = 0  # requests whose body is read, which stand in line, or are worked on

    @contextlib.contextmanager
    def accepted(self, request: Request) -> Iterator[None]:
        """A request counts as taken inside. Raises Refused unless whoever asks may, now."""
        self._admit(request)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _admit(self, request: Request) -> None:
        limits = self.limits
        if not limits.pages and FROM_PAGES & set(request.headers):
            raise Refused(
                403, "page", "a page in a browser may not use a service that asks for no keys; allowed: programs, "
                "or start it with --keys or --no-keys"
            )  # fmt: skip
        name = name_of(request.headers, limits.keys) if limits.keys else _address(request)
        if name is None:
            raise Refused(401, "no_key", "no API key, or one that is not known; allowed: Authorization: Bearer KEY")
        if limits.keys:
            request.state.log["key"] = name
        wait = limits.rate.wait(name) if limits.rate is not None else 0
        if wait:
            raise Refused(429, "too_many_requests", f"too many requests; the next one in {wait} s", retry_after=wait)
        if self.taken >= self.pool.room + self.pool.workers:
            raise self._busy()

    def _busy(self) -> Refused:
        return Refused(503, "busy", "too many photos are in line", retry_after=self._patience())

    def _patience(self) -> int:
        """Seconds after which there should be room in the line."""
        (seconds,) = self.metrics.photo_seconds.collect()
        sums = {sample.name.rsplit("_", 1)[-1]: sample.value for sample in seconds.samples}
        each = sums["sum"] / sums["count"] if sums.get("count") else 1.0
        return min(60, max(1, math.ceil(each * (self.pool.waiting + 1) / self.pool.workers)))

    async def worked_on(self, request: Request, wish: Wish | Comparison) -> Any:
        """Have a wish done. Raises Refused, also where whoever asked has left."""
        try:
            made = await self._done(request, self.pool.submit(wish))
        except Full:
            raise self._busy() from None
        except TooLong as error:
            raise Refused(504, "too_slow", f"the photo {error} (more than {self.pool.seconds:g} s)") from None
        except WorkerLost as error:
            raise Refused(422, "deadly", f"the photo cannot be used: {error}") from None
        except asyncio.CancelledError:
            raise Refused(503, "ending", "the service has ended", retry_after=5) from None
        if isinstance(made, Failed):
            raise self._fault(request, made)
        return made

    async def _done(self, request: Request, order: "Future[Any]") -> Any:
        """The result of an order, which is cancelled where whoever asked leaves before."""
        future = asyncio.wrap_future(order)
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({future, left}, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            future.cancel()
            request.state.log["status"] = 499
            raise Refused(400, "left", "whoever asked has left")
        finally:
            left.cancel()

    def _fault(self, request: Request, made: Failed) -> Exception:
        """What to raise for a photo that was not protected."""
        if made.theirs:
            return Refused(409 if made.code == "protected_already" else 422, made.code, made.message)
        request.state.log["trace"] = made.trace
        if made.message == "not enough memory":
            return Refused(503, "no_memory", made.message, retry_after=self._patience())
        return RuntimeError(made.message)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def _left(request: Request) -> None:
    """Returns once whoever asked has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
