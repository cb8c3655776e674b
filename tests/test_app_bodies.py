"""What programs send to the app's endpoints: odd bodies are refused in one line, without a traceback in the log."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import app_server
import corpus
import pytest

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from editproof.app import bodies, gate, painting  # noqa: E402

META = {"_type": "gradio.FileData"}
REST: list[Any] = [None, "whole", "balanced", "png", "noise", "tiny-inpaint", 0, "keep"]
ODD: dict[str, Any] = {
    "nothing": b"", "no JSON": b"{", "null": b"null", "a list": b"[]", "no data": {}, "deep": b"[" * 30000,
    "no text": b'{"data": ["\xff"]}', "data of names": {"data": {}}, "data null": {"data": None},
    "too few": {"data": [None]}, "none": {"data": []}, "thirty numbers": {"data": [1] * 30},
    "a number too many": {"data": [None, *REST, 1]}, "numbers": {"data": [1] * 9}, "lists": {"data": [[1]] * 9},
    "names for values": {"data": [{}] * 9},
    "huge": b'{"data": [null, null, "a", "b", "c", "d", "e", 1' + b"0" * 400 + b', "f"]}',
    "infinite": b'{"data": [null, null, "a", "b", "c", "d", "e", 1e999, "f"]}',
    "NaN": b'{"data": [null, null, "a", "b", "c", "d", "e", NaN, "f"]}',
    "text for a number": {"data": [None, *REST[:-2], "x", "keep"]},
    "list for a text": {"data": [None, None, ["x"], *REST[2:]]},
    "a file of the computer": {"data": [{"path": "/etc/passwd", "meta": META}, *REST]},
    "a folder": {"data": [{"path": "/tmp", "meta": META}, *REST]},
    "a file of a site": {"data": [{"path": "http://127.0.0.1:1/a.png", "meta": META}, *REST]},
    "a path with NUL": {"data": [{"path": "a\0b", "meta": META}, *REST]},
    "a path that is a number": {"data": [{"path": 5, "meta": META}, *REST]},
    "a path alone": {"data": ["a.png", *REST]},
    "no photo": {"data": [None, *REST]},
    "a function's name": {"data": [None, *REST], "fn_index": "x"},
    "no function": {"data": [None, *REST], "fn_index": -1},
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[app_server.Served]:
    with app_server.running(tmp_path_factory.mktemp("bodies") / "log") as running:
        yield running


def post(served: app_server.Served, path: str, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return httpx.post(f"{served.url}gradio_api/{path}", content=content, headers=headers, timeout=600)


@pytest.mark.parametrize("name", ODD)
def test_odd_bodies(name: str, served: app_server.Served) -> None:
    for path in ("run/protect", "api/protect"):
        answer = post(served, path, ODD[name])
        assert answer.status_code == 400, answer.text
        assert len(answer.text.strip().splitlines()) == 1
    for path in ("call/protect", "call/v2/protect", "queue/join"):
        answer = post(served, path, ODD[name])
        assert answer.status_code < 500  # a file that is no upload is told later
    assert "Traceback" not in served.log.read_text()


def test_no_function_of_the_page_fails_at_odd_values(served: app_server.Served) -> None:
    for function in httpx.get(f"{served.url}config").json()["dependencies"]:
        many = len(function["inputs"])
        for value in ("x", {}, [], [[1]], True, {"path": "a.png", "meta": META}):
            body = {"data": [value] * many, "fn_index": function["id"], "session_hash": "odd"}
            assert post(served, "run/x", body).status_code < 500, (function["api_name"], value)
        if many:
            assert post(served, "run/x", {"data": [], "fn_index": function["id"]}).status_code == 400


def test_bodies_of_many_bytes_are_refused(served: app_server.Served) -> None:
    answer = post(served, "run/protect", b'{"data": ["' + b"x" * bodies.LARGEST + b'"]}')
    assert answer.status_code == 413 and "allowed" in answer.text


def painter(served: app_server.Served) -> str:
    """The number of the painter on the page."""
    parts = httpx.get(f"{served.url}config").json()["components"]
    return str(next(part["id"] for part in parts if part["type"] == "imageeditor"))


def paint(served: app_server.Served, content: bytes = b"x", **other: str | None) -> Any:
    """Send what the page sends after a stroke, with other values; None: without it."""
    fields = {"component_id": painter(served), "session_hash": "odd", "fn_name": "accept_blobs", "id": "a",
              "type": "layer", "index": "0", **other}  # fmt: skip
    data = {name: value for name, value in fields.items() if value is not None}
    files = {"file": ("layer.png", content)}
    return httpx.post(f"{served.url}gradio_api/component_server", data=data, files=files, timeout=600)


@pytest.mark.parametrize(
    "odd",
    [
        *({name: None} for name in ("component_id", "session_hash", "fn_name", "id", "type", "index")),
        {"component_id": "99999"}, {"component_id": "-1"}, {"component_id": "x"}, {"component_id": "0"},
        {"fn_name": "preprocess"}, {"fn_name": "__class__"}, {"type": "x"}, {"id": "a" * 1000},
        {"index": "x"}, {"index": "-5"}, {"index": "20000000000"}, {"index": "1" * 99}, {"session_hash": "a" * 1000},
    ],
    ids=str,
)  # fmt: skip
def test_odd_strokes_are_refused(odd: dict[str, str | None], served: app_server.Served) -> None:
    answer = paint(served, **odd)
    assert answer.status_code == 400 and "allowed" in answer.text, answer.text
    assert len(answer.text.splitlines()) == 1
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": {}}', b"--x", b"--x\r\n", b"--x--\r\n"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "a"])
def test_strokes_that_are_no_forms_are_refused(body: bytes, kind: str, served: app_server.Served) -> None:
    headers = {"content-type": kind}
    answer = httpx.post(f"{served.url}gradio_api/component_server", content=body, headers=headers, timeout=600)
    assert answer.status_code == 400 and "allowed" in answer.text, answer.text
    assert "Traceback" not in served.log.read_text()


def test_strokes_that_nobody_asks_for_do_not_pile_up(served: app_server.Served) -> None:
    """They stay in the process's memory: 1.2 GB, were it not for a limit."""
    assert paint(served).status_code == 200
    before = served.process.memory_info().rss
    for number in range(120):
        assert paint(served, bytes(10_000_000), id=f"pile {number}").status_code == 200
    assert served.process.memory_info().rss - before < 600_000_000


def test_strokes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = {name: name for name in "abcd"}
    waiting = [painting.Waiting(storage, name, since, 10) for name, since in zip("abcd", (0, 50, 90, 95), strict=True)]
    monkeypatch.setattr(painting, "_waiting", deque(waiting))
    monkeypatch.setattr(painting.time, "monotonic", lambda: 100.0)
    storage.pop("d")  # which the page has asked for
    painting.forget(60)
    assert set(storage) == {"b", "c"}
    monkeypatch.setattr(painting, "MOST", 15)
    painting.forget()
    assert set(storage) == {"c"}
    monkeypatch.setattr(painting, "MANY", 0)
    painting.forget()
    assert not storage and not painting._waiting


@pytest.mark.parametrize("path", ["queue/data?session_hash=nobody", "call/protect/nobody"])
def test_streams_of_nobody_leave_no_traceback(path: str, served: app_server.Served) -> None:
    answer = httpx.get(f"{served.url}gradio_api/{path}", timeout=60)
    assert answer.status_code == 200 and "error" in answer.text
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("kind", [KeyError, RuntimeError])
def test_a_fault_of_ours_is_no_odd_call(kind: type[Exception]) -> None:
    """It goes through the gate, to be answered with 500 and told in the log."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise kind("a fault")

    async def nothing(*message: Any) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    with pytest.raises(kind, match="a fault"):
        asyncio.run(gate.Gate(app, {"localhost"}, set(), None)(scope, nothing, nothing))


@pytest.mark.parametrize("path", ["run/protect", "call/v2/protect"])
def test_a_right_call_comes_through(path: str, served: app_server.Served, tmp_path: Path) -> None:
    corpus.RGB.save(tmp_path / "a.png")
    files = {"files": ("a.png", (tmp_path / "a.png").read_bytes(), "image/png")}
    (stored,) = httpx.post(f"{served.url}gradio_api/upload", files=files).json()
    photo = {"path": stored, "meta": META}
    if path == "run/protect":
        answer = post(served, path, {"data": [photo, *REST]}).json()
        assert answer["data"][1]["method"] == "noise"
        return
    event = post(served, path, {"photo": photo, "mask": None, "part": "whole", "method": "noise"}).json()["event_id"]
    told = httpx.get(f"{served.url}gradio_api/call/protect/{event}", timeout=600).text
    assert "event: complete" in told and '"method": "noise"' in told


def test_who_leaves_in_the_middle_of_an_upload_leaves_no_traceback(served: app_server.Served) -> None:
    address = httpx.URL(served.url)
    lines = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nContent-Length: 100000\r\n"
        'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="files"; '
        'filename="a.png"\r\n\r\nabc'
    )
    for _ in range(3):
        with socket.create_connection((address.host, address.port), timeout=60) as connection:
            connection.sendall(lines.encode())
    assert httpx.get(f"{served.url}gradio_api/info", timeout=60).status_code == 200  # which comes after them
    assert not served.our_errors()
