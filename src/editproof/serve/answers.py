"""What the service answers: a protected photo with its report, or why there is none."""

import base64
import json
import secrets
from typing import Any

from starlette.responses import JSONResponse, Response

from editproof.serve.wishes import Made

REPORT_HEADER = "X-Editproof-Report"


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        code: what programs tell kinds of errors by.
        message: one line for people.
        retry_after: seconds after which it may be tried again.
        close: whether the connection ends, since the body is not read to its end.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.close = retry_after, close


def refusal(refused: Refused, request_id: str) -> Response:
    """The answer to a request that is refused."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    if refused.close:
        headers["Connection"] = "close"
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    said = {"code": refused.code, "message": refused.message, "request_id": request_id}
    return JSONResponse({"error": said}, refused.status, headers)


def photo_answer(made: Made, report: str) -> Response:
    """The protected file, its report in a header (base64 of JSON), in a second part (multipart/mixed), or nowhere."""
    if report == "multipart":
        return _parts(made)
    headers = {"Cache-Control": "no-store"}
    if report == "header":
        headers[REPORT_HEADER] = base64.b64encode(json.dumps(made.report, separators=(",", ":")).encode()).decode()
    return Response(made.data, media_type=made.media_type, headers=headers)


def _parts(made: Made) -> Response:
    boundary = secrets.token_hex(16)
    parts: list[tuple[str, bytes, str]] = [
        (made.media_type, made.data, made.report["protected"]),
        ("application/json", (json.dumps(made.report, indent=2) + "\n").encode(), "report.json"),
    ]
    body = bytearray()
    for media_type, data, name in parts:
        disposition = f'attachment; filename="{_ascii(name)}"'
        head = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
        body += head.encode() + data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return Response(
        bytes(body), headers={"Content-Type": f"multipart/mixed; boundary={boundary}", "Cache-Control": "no-store"}
    )


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)


ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "request_id")},
        }
    },
}
