"""What OpenAPI says of the service: bodies, keys and errors."""

from collections.abc import Callable
from typing import Any

from editproof.serve.answers import ERROR_SCHEMA

COMPARED = ("original", "protected", "downloaded")  # the files that /v1/check is sent
FILE = {"type": "string", "format": "binary"}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
SAID = {
    400: "A body that cannot be read.", 401: "No key, or one that is not known.", 408: "An upload that was too slow.",
    409: "A photo that is protected already, without force.",
    413: "A body that is too large.", 422: "A photo or setting that cannot be used; the message says what is allowed.",
    429: "Too many requests with this key; Retry-After says when the next one may come.",
    503: "The line is full, or the service is about to end; Retry-After says when to try again.",
    504: "The photo was not done in time.",
}  # fmt: skip


def _files(needed: tuple[str, ...], more: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [*needed], "properties": dict.fromkeys((*needed, *more), FILE)}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}, "security": SECURITY}


PHOTO_BODY = _body({"image/*": {"schema": FILE}, "multipart/form-data": _files(("photo",), ("mask",))})
CHECK_BODY = _body({"multipart/form-data": _files(COMPARED)})
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, said in SAID.items()
}
PHOTO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The protected photo.", "content": {"image/*": {}, "multipart/mixed": {}}}
}


def with_keys(schema: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """FastAPI's function that describes a service, and how keys are given."""

    def described() -> dict[str, Any]:
        found = schema()
        found.setdefault("components", {})["securitySchemes"] = SCHEMES
        return found

    return described
