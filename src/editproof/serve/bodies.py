"""The body of a request: read within limits of size and time, taken apart if it is multipart."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from editproof.serve.answers import Refused


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request. Raises Refused if it is larger than `most` bytes or takes longer than `seconds`."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise Refused(413, "too_large", f"the body has {int(declared):,} bytes; allowed: {most:,}", close=True)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, "too_large", f"the body is too large; allowed: {most:,} bytes", close=True)
                parts.append(part)
    except TimeoutError:
        raise Refused(
            408, "slow_upload", f"the body took longer than {seconds:g} s, which are allowed", close=True
        ) from None
    except ClientDisconnect:
        request.state.log["status"] = 499
        raise Refused(400, "left", "whoever asked has left") from None
    return b"".join(parts)


def is_multipart(request: Request) -> bool:
    """Whether the body says that it is multipart/form-data."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def photo_and_mask(request: Request, body: bytes) -> tuple[bytes, str, bytes | None]:
    """The photo, its name ("photo" if it has none) and the mask of a body: multipart/form-data, or the photo itself."""
    if not is_multipart(request):
        return body, "photo", None
    files = await files_of(request, body, ("photo",), ("mask",))
    photo, name = files["photo"]
    return photo, name, files["mask"][0] if "mask" in files else None


async def files_of(
    request: Request, body: bytes, needed: tuple[str, ...], more: tuple[str, ...] = ()
) -> dict[str, tuple[bytes, str]]:
    """The files of a multipart/form-data body by field: content, and name (the field's if it has none).

    Raises Refused where one that is `needed` is not there, and for files that are neither needed nor one of `more`.
    """
    allowed = f"allowed: one file for each of {', '.join((*needed, *more))}"
    if not is_multipart(request):
        raise Refused(400, "bad_multipart", f"the body is not multipart/form-data; {allowed}")

    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        most = len(needed) + len(more)
        form = await MultiPartParser(request.headers, once(), max_files=most, max_fields=0).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, "bad_multipart", f"the multipart body cannot be read ({error}); {allowed}") from None
    files: dict[str, tuple[bytes, str]] = {}
    try:
        for field, file in form.multi_items():
            if field not in (*needed, *more) or isinstance(file, str) or field in files:
                raise Refused(400, "bad_multipart", f"part '{field}'; {allowed}")
            name = (file.filename or "").replace("\\", "/").rsplit("/", 1)[-1][:100]
            files[field] = await file.read(), name if Path(name).name else field
    finally:
        await form.close()
    for field in needed:
        if field not in files:
            raise Refused(400, "bad_multipart", f"the multipart body has no file '{field}'; {allowed}")
    return files
