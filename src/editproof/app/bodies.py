"""What calls of the app's functions over HTTP carry: looked at before Gradio, which fails at it with a traceback."""

import json
import math
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

LARGEST = 16_000_000  # bytes of a body: photos come as uploads
LONGEST = 10.0**15  # a number
CALL = re.compile(r"/gradio_api/(?:(run|api|call|call/v2)/([^/]+)/?|(queue/join))$")
JSON_BODY = 'allowed: JSON, {"data": [a value for each input, ...]}; see /gradio_api/info'

refused: ContextVar[list[str]] = ContextVar("refused")  # what a call was refused with, for the gate


class Refusal(Exception):
    """Why a call is not made, in one line."""


def check_call(path: str, body: bytes, blocks: Any) -> None:
    """Look at a call of one of the functions of `blocks`; other paths pass. Raises Refusal."""
    if (found := CALL.search(path)) is None:
        return
    kind, name = found[1] or found[3], found[2]
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(f"the body is no JSON; {JSON_BODY}") from None
    if not isinstance(asked, dict):
        raise Refusal(f"the body is of type {type(asked).__name__}; {JSON_BODY}")
    if kind == "call/v2":
        _check_named(name, asked, blocks)
        return
    function = _function(None if kind == "call" else asked.get("fn_index"), name, blocks)
    data, inputs = asked.get("data"), function.inputs
    if not isinstance(data, list):
        raise Refusal(f"data is of type {type(data).__name__}; {JSON_BODY}")
    shown = [block for block in inputs if not block.skip_api]
    if kind == "call" and len(data) == len(shown):
        inputs = shown
    if len(data) < len(inputs) or (len(data) > len(inputs) and kind != "queue/join"):  # a page may send more
        raise Refusal(f"data holds {len(data)} values; allowed: {len(inputs)}; see /gradio_api/info")
    where = asked.get("event_data")
    if any(event == "select" for _, event in function.targets) and not (isinstance(where, dict) and "index" in where):
        raise Refusal(f'event_data is {_short(where)}; allowed: {{"index": what was pointed at}}')
    for number, (value, block) in enumerate(zip(data, inputs, strict=False), start=1):
        _check_value(value, block, f"value {number}")


def _function(index: Any, name: str | None, blocks: Any) -> Any:
    if index is not None:
        if type(index) is not int or index not in blocks.fns or blocks.fns[index].fn is None:
            raise Refusal(f"there is no function {str(index)[:50]!r} to call; see /gradio_api/info")
        return blocks.fns[index]
    for function in blocks.fns.values():
        if name is not None and function.api_name == name and function.fn is not None:
            return function
    raise Refusal(f"there is no function {str(name)[:50]!r} to call; see /gradio_api/info")


def _check_named(name: str, asked: dict[str, Any], blocks: Any) -> None:
    """The values of call/v2, which have names."""
    function = _function(None, name, blocks)
    known = blocks.get_api_info()["named_endpoints"].get(f"/{name}", {}).get("parameters", [])
    names = [parameter["parameter_name"] for parameter in known]
    for key in asked:
        if key not in (*names, "oauth_token"):
            raise Refusal(f"there is no input {key[:50]!r}; allowed: {', '.join(names)}")
    for parameter in known:
        if parameter["parameter_name"] not in asked and not parameter["parameter_has_default"]:
            raise Refusal(f"{parameter['parameter_name']} is missing; allowed: {', '.join(names)}")
    shown = [block for block in function.inputs if not block.skip_api]
    for key, block in zip(names, shown, strict=False):
        _check_value(asked.get(key), block, key)


def _check_value(value: Any, block: Any, name: str) -> None:
    kind = type(block).__name__
    if kind == "Dataset" and (type(value) is not int or not 0 <= value < len(block.samples)):
        raise Refusal(f"{name} is {_short(value)}; allowed: 0 to {len(block.samples) - 1}")
    if value is None or block.skip_api:
        return
    if kind in ("Number", "Slider"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (isinstance(value, float) and not math.isfinite(value)) or not abs(value) <= LONGEST:
            raise Refusal(f"{name} is {_short(value)}; allowed: a number")
    elif isinstance(value, list | dict) and (
        kind in ("Textbox", "Radio") or (kind == "Dropdown" and not block.multiselect)
    ):
        raise Refusal(f"{name} is {_short(value)}; allowed: a text")
    elif (model := getattr(block, "data_model", None)) is not None:
        try:
            model.model_validate(value, context={"validate_meta": True})
        except (ValueError, TypeError, RecursionError):
            raise Refusal(
                f"{name} is {_short(value)}; allowed: what belongs to {kind}, such as "
                '{"path": that of an upload, "meta": {"_type": "gradio.FileData"}} for a file'
            ) from None
    if any(not isinstance(path, str) or "\0" in path for path in _paths(value)):
        raise Refusal(f"{name} is {_short(value)}; allowed: the path of an upload")


def _paths(value: Any) -> list[Any]:
    """The paths of the files of a value."""
    if isinstance(value, dict):
        own = [value["path"]] if value.get("path") is not None else []
        return own + [path for part in value.values() for path in _paths(part)]
    return [path for part in value for path in _paths(part)] if isinstance(value, list) else []


def _short(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, int) and abs(value) > LONGEST:  # of which Python writes no more than 4,300 digits
        return "a very large number"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def tidy(blocks: Any) -> None:
    """Make what Gradio itself refuses, such as files that are no uploads, one line, without a traceback in the log."""
    import gradio as gr

    inner: Callable[..., Any] = blocks.preprocess_data

    async def preprocess_data(*given: Any, **named: Any) -> Any:
        try:
            return await inner(*given, **named)
        except Exception as error:
            said = first_line(error)
            note(said)
            raise gr.Error(said, print_exception=False) from None

    blocks.preprocess_data = preprocess_data


def note(said: str) -> None:
    """Tell the gate that the call under way is refused for what it asks, so that the answer says 400, not 500."""
    if (told := refused.get(None)) is not None:
        told.append(said)


def first_line(error: Exception) -> str:
    """The line of an exception that says what was wrong."""
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].removeprefix("Original error: ") if "Original error" in lines[-1] else lines[0]
