"""What Gradio's painter sends while somebody paints: looked at before Gradio, and kept no longer than it is needed.

After each stroke its pictures come under a new name and stay in the memory of the process until the page asks for
them. Some it never asks for, and programs may send any number.
"""

import functools
import re
import threading
import time
from collections import deque
from typing import Any, NamedTuple

from editproof.app.bodies import Refusal

SENT = re.compile(r"/gradio_api/component_server/?$")
TAKES = "accept_blobs"  # the only function of a component that a page calls
PARTS = ("background", "layer", "composite")
LAYERS = 16  # at most
LONGEST_NAME = 100  # letters
MOST, MANY = 200_000_000, 500  # bytes and number of pictures that nobody has asked for yet, of all visitors


async def check(scope: Any, receive: Any, blocks: Any) -> None:
    """Look at the form of a call of component_server. Raises Refusal."""
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException
    from starlette.requests import Request

    try:
        form = await Request(scope, receive).form(max_files=10, max_fields=20)
    except (MultiPartException, HTTPException):
        raise Refusal("the body is no form; allowed: a form of several parts, as the page sends it") from None
    texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    files = len(form.multi_items()) - len(texts)
    await form.close()
    for name in ("component_id", "session_hash", "fn_name", "id", "type", "index"):
        if name not in texts:
            raise Refusal(f"{name} is missing; allowed: a form of several parts, as the page sends it")
        if len(texts[name]) > LONGEST_NAME:
            raise Refusal(f"{name} has {len(texts[name])} letters; allowed: {LONGEST_NAME}")
    painters = [str(number) for number, block in blocks.blocks.items() if hasattr(block, TAKES)]
    _one_of("component_id", texts["component_id"], painters)
    _one_of("fn_name", texts["fn_name"], [TAKES])
    _one_of("type", texts["type"], PARTS)
    _one_of("index", texts["index"], ["", "null", *map(str, range(LAYERS))])
    if files != 1:
        raise Refusal(f"there are {files} files; allowed: one")


def _one_of(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise Refusal(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


class Waiting(NamedTuple):
    """Pictures that nobody has asked for yet: the painter's storage and their name in it, since when, how large."""

    storage: dict[str, Any]
    name: str
    since: float
    size: int


_waiting: deque[Waiting] = deque()  # the oldest first
_lock = threading.Lock()


def bound() -> None:
    """Let painters forget the oldest pictures where there are more than MOST bytes or MANY of them."""
    import gradio as gr

    inner = gr.ImageEditor.accept_blobs

    @functools.wraps(inner)
    def accept_blobs(painter: Any, data: Any) -> None:
        inner(painter, data)
        size = sum(len(content) for _, content in data.files)
        with _lock:
            _waiting.append(Waiting(painter.blob_storage, data.data["id"], time.monotonic(), size))
        forget()

    if not hasattr(inner, "__wrapped__"):
        gr.ImageEditor.accept_blobs = accept_blobs


def forget(older: float = float("inf")) -> None:
    """Drop pictures that have waited for more than so many seconds, and the oldest of too many."""
    now = time.monotonic()
    with _lock:
        kept = deque(one for one in _waiting if one.name in one.storage)
        size = sum(one.size for one in kept)
        while kept and (now - kept[0].since > older or size > MOST or len(kept) > MANY):
            gone = kept.popleft()
            gone.storage.pop(gone.name, None)
            size -= gone.size
        _waiting.clear()
        _waiting.extend(kept)
