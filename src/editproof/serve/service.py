"""The HTTP interface: what can be asked for, and what is answered; desk.py says who may, and has it done."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from editproof import __version__
from editproof.errors import UserError
from editproof.files import printable
from editproof.parsing import parse_eps
from editproof.serve.answers import Refused, photo_answer, refusal
from editproof.serve.bodies import files_of, photo_and_mask, read_body
from editproof.serve.describing import CHECK_BODY, COMPARED, ERRORS, PHOTO, PHOTO_BODY, with_keys
from editproof.serve.desk import Desk, Limits
from editproof.serve.observe import Metrics, observed
from editproof.serve.wishes import Comparison, Made, Wish, check_wish
from editproof.serve.workers import Pool

OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json")  # without a key
ROUTES = APIRouter()


def build(pool: Pool, limits: Limits, metrics: Metrics) -> Callable[..., Any]:
    """The ASGI application that hands photos to a pool of wishes.start_worker."""
    service = FastAPI(
        title="editproof", version=__version__, docs_url=None, redoc_url=None, lifespan=_nothing,
        description="Protects photos against AI editing. Keep the reports private.",
    )  # fmt: skip
    service.state.desk = Desk(pool, limits, metrics)
    service.include_router(ROUTES)
    handlers: dict[type[Exception], Any] = {
        Refused: _refused, HTTPException: _no_such, RequestValidationError: _bad_setting, Exception: _broken,
    }  # fmt: skip
    for error, handler in handlers.items():
        service.add_exception_handler(error, handler)
    service.openapi = with_keys(service.openapi)  # type: ignore[method-assign]
    return observed(service, metrics, frozenset({"/v1/protect", "/v1/check", *OPEN}))


@ROUTES.post("/v1/protect", openapi_extra=PHOTO_BODY, response_class=Response, responses=PHOTO | ERRORS)
async def protect(
    request: Request,
    eps: Annotated[str | None, Query(description="Largest change of a channel, such as 8/255.")] = None,
    mask: Annotated[
        Literal["none", "auto", "file"] | None,
        Query(description="What may be repainted: none (nothing), auto (all but people), file: the part `mask`."),
    ] = None,
    invert_mask: Annotated[bool, Query(description="Black in the mask may be repainted, not white.")] = False,
    format: Annotated[str, Query(description="Of the result: png, webp, tiff, avif, jpeg (jpg) or same.")] = "png",
    quality: Annotated[int | None, Query(ge=1, le=100, description="Of avif and jpeg.")] = None,
    seed: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    force: Annotated[bool, Query(description="Protect again what is protected already.")] = False,
    metadata: Annotated[
        Literal["keep", "no-place", "strip"],
        Query(description="Of the photo's file: keep it, without the place, or nothing but the colour profile."),
    ] = "keep",
    report: Annotated[
        Literal["header", "multipart", "none"],
        Query(description="Where the private report goes: X-Editproof-Report (base64), a second part, nowhere."),
    ] = "header",
) -> Response:
    """Protect one photo: its bytes in, the protected file's bytes out, as `editproof protect` writes them."""
    desk = _desk(request)
    _check_names(request)
    with desk.accepted(request):
        body = await read_body(request, desk.limits.bytes, desk.limits.upload_seconds)
        photo, name, mask_data = await photo_and_mask(request, body)
        del body
        named = mask or ("file" if mask_data is not None else "none")
        try:
            number = None if eps is None else parse_eps(eps, "eps")
            wish = Wish(photo, name, named, mask_data, invert_mask, number, format, quality, seed, force, metadata)
            check_wish(wish)
        except UserError as error:
            raise Refused(422, "bad_setting", str(error)) from None
        made = await desk.worked_on(request, wish)
    _count(request, len(photo), made)
    return photo_answer(made, report)


@ROUTES.post("/v1/check", openapi_extra=CHECK_BODY, responses=ERRORS)
async def check(request: Request) -> JSONResponse:
    """Say what an upload left of a protection, as `editproof check --editors none --json` does."""
    desk = _desk(request)
    _check_names(request)
    with desk.accepted(request):
        body = await read_body(request, 3 * desk.limits.bytes, desk.limits.upload_seconds)
        files = await files_of(request, body, COMPARED)
        del body
        found = await desk.worked_on(request, Comparison(*(files[name][0] for name in COMPARED)))
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


@ROUTES.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the service is alive."""
    return {"status": "alive"}


@ROUTES.get("/readyz", responses={503: {"description": "Not now: loading, or about to end."}})
async def readyz(request: Request) -> JSONResponse:
    """Whether photos may be sent here: a worker is loaded, and the service is not about to end."""
    desk = _desk(request)
    ready, ending = desk.pool.ready, desk.limits.draining
    said = {"ready": ready > 0 and not ending, "workers": ready, "accepted": desk.taken, "ending": ending}
    return JSONResponse(said, 200 if said["ready"] else 503)


@ROUTES.get("/metrics", response_class=Response)
async def numbers(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(generate_latest(_desk(request).metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _check_names(request: Request) -> None:
    """Raise Refused for a setting that there is not, which would change nothing, or that is there twice."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    named = [name for name, _ in request.query_params.multi_items()]
    for name in named:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise Refused(422, "bad_setting", f"there is no setting '{printable(name)}'; allowed: {allowed}")
        if named.count(name) > 1:
            raise Refused(422, "bad_setting", f"setting '{name}' is there twice; allowed: once")


def _count(request: Request, bytes_in: int, made: Made) -> None:
    """Count a protected photo, in the metrics and in the log's line."""
    metrics, (width, height) = _desk(request).metrics, made.report["size"]
    metrics.photo_seconds.observe(made.report["seconds"])
    metrics.bytes_in.observe(bytes_in)
    metrics.bytes_out.observe(len(made.data))
    metrics.pixels.inc(width * height)
    request.state.log.update(
        bytes_in=bytes_in, bytes_out=len(made.data), width=width, height=height, photo_seconds=made.report["seconds"]
    )


async def _refused(request: Request, error: Refused) -> Response:
    _desk(request).metrics.refused.labels(error.code).inc()
    return refusal(error, request.state.request_id)


async def _no_such(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    return refusal(Refused(error.status_code, code, str(error.detail)), request.state.request_id)


async def _bad_setting(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return await _refused(request, Refused(422, "bad_setting", f"setting '{first['loc'][-1]}': {first['msg']}"))


async def _broken(request: Request, error: Exception) -> Response:
    return refusal(Refused(500, "internal", "something is broken here; the log says what"), request.state.request_id)


@asynccontextmanager
async def _nothing(service: FastAPI) -> AsyncIterator[None]:
    yield
