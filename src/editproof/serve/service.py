"""The HTTP interface: who may ask, how much and how often; what is asked goes to the workers' line."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from editproof import __version__
from editproof.errors import UserError
from editproof.parsing import parse_eps
from editproof.serve.answers import ERROR_SCHEMA, Refused, photo_answer, refusal
from editproof.serve.bodies import files_of, photo_and_mask, read_body
from editproof.serve.limits import Rate, name_of
from editproof.serve.observe import Metrics, observed
from editproof.serve.wishes import Comparison, Failed, Wish, check_wish
from editproof.serve.workers import Full, Pool, TooLong, WorkerLost

OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json")  # without a key
COMPARED = ("original", "protected", "downloaded")
FILE = {"type": "string", "format": "binary"}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
CHECK_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": [*COMPARED], "properties": dict.fromkeys(COMPARED, FILE)}
            }
        },
    },
    "security": SECURITY,
}
PHOTO_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": FILE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": dict.fromkeys(("photo", "mask"), FILE),
                }
            },
        },
    },
    "security": SECURITY,
}
ERRORS = {
    400: "A body that cannot be read.", 401: "No key, or one that is not known.", 408: "An upload that was too slow.",
    409: "A photo that is protected already, without force.",
    413: "A body that is too large.", 422: "A photo or setting that cannot be used; the message says what is allowed.",
    429: "Too many requests with this key; Retry-After says when the next one may come.",
    503: "The line is full, or the service is about to end; Retry-After says when to try again.",
    504: "The photo was not done in time.",
}  # fmt: skip


@dataclass
class Limits:
    """What one request, one key and all together may take; and whether the service is about to end."""

    bytes: int = 50_000_000  # of a body
    upload_seconds: float = 30.0
    rate: Rate | None = None
    keys: Mapping[str, str] = field(default_factory=dict)  # digest -> name; empty: no key is asked for
    draining: bool = False


def build(pool: Pool, limits: Limits, metrics: Metrics) -> Callable[..., Any]:
    """The ASGI application that hands photos to a pool of wishes.start_worker."""
    service = FastAPI(
        title="editproof", version=__version__, docs_url=None, redoc_url=None, lifespan=_nothing,
        description="Protects photos against AI editing. Keep the reports private.",
    )  # fmt: skip
    taken = 0  # requests whose body is read, which stand in line, or are worked on

    @service.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        metrics.refused.labels(error.code).inc()
        return refusal(error, request.state.request_id)

    @service.exception_handler(HTTPException)
    async def no_such(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        return refusal(Refused(error.status_code, code, str(error.detail)), request.state.request_id)

    @service.exception_handler(RequestValidationError)
    async def bad_setting(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        said = f"setting '{first['loc'][-1]}': {first['msg']}"
        return await refused(request, Refused(422, "bad_setting", said))

    @service.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return refusal(
            Refused(500, "internal", "something is broken here; the log says what"), request.state.request_id
        )

    def admit(request: Request) -> None:
        """Raise Refused unless whoever asks may, now."""
        name = name_of(request.headers, limits.keys) if limits.keys else _address(request)
        if name is None:
            raise Refused(401, "no_key", "no API key, or one that is not known; allowed: Authorization: Bearer KEY")
        if limits.keys:
            request.state.log["key"] = name
        wait = limits.rate.wait(name) if limits.rate is not None else 0
        if wait:
            raise Refused(429, "too_many_requests", f"too many requests; the next one in {wait} s", retry_after=wait)
        if taken >= pool.room + pool.workers:
            raise Refused(503, "busy", "too many photos are in line", retry_after=patience())

    def patience() -> int:
        """Seconds after which there should be room in the line."""
        (seconds,) = metrics.photo_seconds.collect()
        sums = {sample.name.rsplit("_", 1)[-1]: sample.value for sample in seconds.samples}
        each = sums["sum"] / sums["count"] if sums.get("count") else 1.0
        return min(60, max(1, math.ceil(each * (pool.waiting + 1) / pool.workers)))

    async def worked_on(request: Request, wish: Wish | Comparison) -> Any:
        """Have a wish done. Raises Refused, also where whoever asked has left."""
        try:
            future = asyncio.wrap_future(pool.submit(wish))
        except Full:
            raise Refused(503, "busy", "too many photos are in line", retry_after=patience()) from None
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({future, left}, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                future.cancel()
                request.state.log["status"] = 499
                raise Refused(400, "left", "whoever asked has left")
            made = future.result()
        except TooLong as error:
            raise Refused(504, "too_slow", f"the photo {error} (more than {pool.seconds:g} s)") from None
        except WorkerLost as error:
            raise Refused(422, "deadly", f"the photo cannot be used: {error}") from None
        except asyncio.CancelledError:
            raise Refused(503, "ending", "the service has ended", retry_after=5) from None
        finally:
            left.cancel()
        if isinstance(made, Failed):
            if made.theirs:
                raise Refused(409 if made.code == "protected_already" else 422, made.code, made.message)
            request.state.log["trace"] = made.trace
            if made.message == "not enough memory":
                raise Refused(503, "no_memory", made.message, retry_after=patience())
            raise RuntimeError(made.message)
        return made

    @service.post(
        "/v1/protect",
        openapi_extra=PHOTO_BODY,
        response_class=Response,
        responses={200: {"description": "The protected photo.", "content": {"image/*": {}, "multipart/mixed": {}}},
                   **{status: _error(said) for status, said in ERRORS.items()}},
    )  # fmt: skip
    async def protect(
        request: Request,
        eps: Annotated[str | None, Query(description="Largest change of a channel, such as 8/255.")] = None,
        mask: Annotated[
            Literal["none", "auto", "file"] | None,
            Query(description="What may be repainted: none (nothing), auto (all but people), file: the part `mask`."),
        ] = None,
        invert_mask: Annotated[bool, Query(description="Black in the mask may be repainted, not white.")] = False,
        format: Annotated[str, Query(description="Of the result: png, webp, tiff, avif, jpeg or same.")] = "png",
        quality: Annotated[int | None, Query(ge=1, le=100, description="Of avif and jpeg.")] = None,
        seed: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
        force: Annotated[bool, Query(description="Protect again what is protected already.")] = False,
        report: Annotated[
            Literal["header", "multipart", "none"],
            Query(description="Where the private report goes: X-Editproof-Report (base64), a second part, nowhere."),
        ] = "header",
    ) -> Response:
        """Protect one photo: its bytes in, the protected file's bytes out, as `editproof protect` writes them."""
        nonlocal taken
        admit(request)
        taken += 1
        try:
            body = await read_body(request, limits.bytes, limits.upload_seconds)
            photo, name, mask_data = await photo_and_mask(request, body)
            del body
            named = mask or ("file" if mask_data is not None else "none")
            try:
                number = None if eps is None else parse_eps(eps, "eps")
                wish = Wish(photo, name, named, mask_data, invert_mask, number, format, quality, seed, force)
                check_wish(wish)
            except UserError as error:
                raise Refused(422, "bad_setting", str(error)) from None
            made = await worked_on(request, wish)
        finally:
            taken -= 1
        width, height = made.report["size"]
        metrics.photo_seconds.observe(made.report["seconds"])
        metrics.bytes_in.observe(len(photo))
        metrics.bytes_out.observe(len(made.data))
        metrics.pixels.inc(width * height)
        request.state.log.update(
            bytes_in=len(photo), bytes_out=len(made.data), width=width, height=height,
            photo_seconds=made.report["seconds"],
        )  # fmt: skip
        return photo_answer(made, report)

    @service.post(
        "/v1/check", openapi_extra=CHECK_BODY, responses={status: _error(said) for status, said in ERRORS.items()}
    )
    async def check(request: Request) -> JSONResponse:
        """Say what an upload left of a protection, as `editproof check --editors none --json` does."""
        nonlocal taken
        admit(request)
        taken += 1
        try:
            body = await read_body(request, 3 * limits.bytes, limits.upload_seconds)
            files = await files_of(request, body, COMPARED)
            del body
            found = await worked_on(request, Comparison(*(files[name][0] for name in COMPARED)))
        finally:
            taken -= 1
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    @service.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service is alive."""
        return {"status": "alive"}

    @service.get("/readyz", responses={503: {"description": "Not now: loading, or about to end."}})
    async def readyz() -> JSONResponse:
        """Whether photos may be sent here: a worker is loaded, and the service is not about to end."""
        ready = pool.ready > 0 and not limits.draining
        said = {"ready": ready, "workers": pool.ready, "accepted": taken, "ending": limits.draining}
        return JSONResponse(said, 200 if ready else 503)

    @service.get("/metrics", response_class=Response)
    async def numbers() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    plain = service.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schemes = {"bearer": {"type": "http", "scheme": "bearer"},
                   "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}  # fmt: skip
        schema.setdefault("components", {})["securitySchemes"] = schemes
        return schema

    service.openapi = openapi  # type: ignore[method-assign]
    return observed(service, metrics, frozenset({"/v1/protect", "/v1/check", *OPEN}))


def _error(said: str) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": {"schema": ERROR_SCHEMA}}}


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def _left(request: Request) -> None:
    """Returns once whoever asked has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _nothing(service: FastAPI) -> AsyncIterator[None]:
    yield
