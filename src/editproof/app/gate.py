"""Who may talk to the app over HTTP: its own page, under an address of its own.

A page of another site that a visitor has open could otherwise send photos here, and by a name of its own that it lets
point at this computer (DNS rebinding) read what is answered. Programs send no Origin and come through.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from editproof.app import bodies, painting

SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing


def own_names(host: str, more: Iterable[str] = ()) -> set[str]:
    """The names that this computer answers to, `host` is what it listens on; addresses in digits need none."""
    name = socket.gethostname().lower()
    return {"localhost", name, f"{name}.local", host.lower(), *(extra.lower() for extra in more)}


def refusal(headers: dict[str, str], method: str, names: Iterable[str], origins: Iterable[str] = ()) -> str:
    """Why a request is not answered, in one line; empty where it is. `headers` have lower-case names; pages of
    `origins` (host names) may call, too, whatever name the request has come under."""
    host = headers.get("host", "").lower()
    name = _name(f"//{host}")
    if not name or not (_is_address(name) or name in names):
        return f"this app does not answer to the host {host!r}; allowed: its address, or editproof app --allow-host"
    if method in SAFE:
        return ""
    origin = headers.get("origin")
    if origin is not None:
        mine = urlsplit(origin.lower()).netloc == host or _name(origin.lower()) in origins
        return "" if mine else f"a page of {origin!r} may not call this app; allowed: its own page"
    if headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
        return "a page of another site may not call this app; allowed: its own page"
    return ""


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


class Gate:
    """Middleware (ASGI) that answers 403 to what `refusal` names, and 400 to calls that Gradio would fail at; `names`
    and `origins` may grow while it runs, `blocks` is the page with its functions."""

    def __init__(self, app: Any, names: set[str], origins: set[str], blocks: Any) -> None:
        self.app, self.names, self.origins, self.blocks = app, names, origins, blocks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect
        from starlette.responses import PlainTextResponse

        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            if said := refusal(headers, scope.get("method", "GET"), self.names, self.origins):
                await PlainTextResponse(said, 403)(scope, receive, send)
                return
        if scope["type"] == "http" and scope["method"] == "POST" and _looked_at(scope["path"]):
            body = await _read(receive)
            if body is None:
                said = f"the body has more than {bodies.LARGEST:,} bytes; allowed: photos as uploads"
                await PlainTextResponse(said, 413)(scope, receive, send)
                return
            try:
                if painting.SENT.search(scope["path"]):
                    await painting.check(scope, _again(body, receive), self.blocks)
                else:
                    bodies.check_call(scope["path"], body, self.blocks)
            except bodies.Refusal as error:
                await PlainTextResponse(str(error), 400)(scope, receive, send)
                return
            told: list[str] = []
            bodies.refused.set(told)
            receive, send = _again(body, receive), _as_refused(send, told)
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:  # somebody left in the middle of an upload: nobody is there to be answered
            return
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            # a stream of a session that there is not: it has answered so before it raised this
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _looked_at(path: str) -> bool:
    return bool(bodies.CALL.search(path) or painting.SENT.search(path))


async def _read(receive: Any) -> bytes | None:
    """The body of a request; None where it is too long."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > bodies.LARGEST:
            return None
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body that has been read, then what follows it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Any:
        return waiting.pop() if waiting else await receive()

    return received


def _as_refused(send: Any, told: list[str]) -> Any:
    """A `send` whose answer is 400 instead of 500 where the call was refused for what it asks."""

    async def sent(message: Any) -> None:
        if told and message["type"] == "http.response.start" and message["status"] == 500:
            message = {**message, "status": 400}
        await send(message)

    return sent
