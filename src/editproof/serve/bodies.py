"""The body of a request: read within limits of size and time, taken apart if it is multipart."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

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
    return b"".join(parts)


async def photo_and_mask(request: Request, body: bytes) -> tuple[bytes, str, bytes | None]:
    """The photo, its name ("photo" if it has none) and the mask of a body: multipart/form-data, or the photo itself."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return body, "photo", None

    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, once(), max_files=2, max_fields=0).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, "bad_multipart", f"the multipart body cannot be read ({error})") from None
    files: dict[str, bytes] = {}
    name = "photo"
    try:
        for field, file in form.multi_items():
            if field not in ("photo", "mask") or isinstance(file, str) or field in files:
                raise Refused(400, "bad_multipart", f"part '{field}'; allowed: one file 'photo' and one file 'mask'")
            files[field] = await file.read()
            if field == "photo" and file.filename:
                name = file.filename.replace("\\", "/").rsplit("/", 1)[-1][:100] or name
    finally:
        await form.close()
    if "photo" not in files:
        raise Refused(400, "bad_multipart", "the multipart body has no file 'photo'")
    return files["photo"], name, files.get("mask")
