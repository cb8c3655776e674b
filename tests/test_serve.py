"""The service: limits, keys, errors and metrics with stand-in workers; then as a process, with real ones."""

import asyncio
import base64
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import serve_workers
import tiny
import torch
from PIL import Image

import editproof
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, save_immunizer
from editproof.protection.in_memory import Content, protect_content
from editproof.protection.settings import ProtectSettings, load_task
from editproof.serve import limits as serve_limits
from editproof.serve import observe
from editproof.serve.desk import Limits
from editproof.serve.limits import Rate, digest, new_key, read_keys
from editproof.serve.service import build
from editproof.serve.wishes import Comparison, Failed, compare
from editproof.serve.workers import Pool

PHOTO = "/v1/protect"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[Pool]:
    made = Pool(serve_workers.start, (str(folder),), workers=1, room=2, seconds=60)
    made.wait_until_ready()
    yield made
    made.close(5)


def asked(pool: Pool, run: Callable[[httpx.AsyncClient], Awaitable[Any]], **limits: Any) -> Any:
    """What `run` returns, given a client of the service."""

    async def inside() -> Any:
        service = build(pool, Limits(**limits), observe.Metrics(pool))
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client:
            return await run(client)

    return asyncio.run(inside())


def post(
    pool: Pool, content: bytes = b"photo", path: str = PHOTO, headers: Any = None, **limits: Any
) -> httpx.Response:
    return asked(pool, lambda client: client.post(path, content=content, headers=headers), **limits)


def test_a_photo_comes_back_with_its_report_in_a_header(pool: Pool) -> None:
    answer = post(pool, b"abc", f"{PHOTO}?eps=4/255")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"cba", "image/png")
    report = json.loads(base64.b64decode(answer.headers["x-editproof-report"]))
    assert report["eps"] == pytest.approx(4 / 255)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["cache-control"] == "no-store"


def test_or_in_a_second_part_or_not_at_all(pool: Pool) -> None:
    answer = post(pool, b"abc", f"{PHOTO}?report=multipart")
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    parts = answer.content.split(b"--" + boundary.encode())
    assert b'filename="a__.png"\r\n\r\ncba\r\n' in parts[1]
    assert json.loads(parts[2].partition(b"\r\n\r\n")[2])["size"] == [4, 3]
    assert "x-editproof-report" not in post(pool, b"abc", f"{PHOTO}?report=none").headers


def test_a_mask_is_a_second_file(pool: Pool) -> None:
    files = {"photo": ("a.jpg", b"abc"), "mask": ("m.png", b"!")}
    answer = asked(pool, lambda client: client.post(PHOTO, files=files))
    assert answer.content == b"cba!"
    assert json.loads(base64.b64decode(answer.headers["x-editproof-report"]))["mask"] == "file"


@pytest.mark.parametrize(
    ("content", "path", "status", "code"),
    [
        (b"bad", PHOTO, 422, "bad_photo"),
        (b"marked", PHOTO, 409, "protected_already"),
        (b"die", PHOTO, 422, "deadly"),
        (b"memory", PHOTO, 503, "no_memory"),
        (b"x" * 2000, PHOTO, 413, "too_large"),
        (b"x", f"{PHOTO}?eps=9", 422, "bad_setting"),
        (b"x", f"{PHOTO}?eps=0.001", 422, "bad_setting"),
        (b"x", f"{PHOTO}?format=doc", 422, "bad_setting"),
        (b"x", f"{PHOTO}?quality=80", 422, "bad_setting"),
        (b"x", f"{PHOTO}?quality=800", 422, "bad_setting"),
        (b"x", f"{PHOTO}?seed=-1", 422, "bad_setting"),
        (b"x", f"{PHOTO}?mask=file", 422, "bad_setting"),
        (b"x", f"{PHOTO}?mask=auto&invert_mask=true", 422, "bad_setting"),
        (b"x", f"{PHOTO}?invert_mask=true", 422, "bad_setting"),
        (b"x", f"{PHOTO}?epsilon=16/255", 422, "bad_setting"),
        (b"x", f"{PHOTO}?eps=4/255&eps=8/255", 422, "bad_setting"),
        (b"x", f"{PHOTO}?%0d%0a%1b=1", 422, "bad_setting"),
        (b"x", "/v1/check?eps=4/255", 422, "bad_setting"),
        (b"x", "/v2", 404, "not_found"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(pool: Pool, content: bytes, path: str, status: int, code: str) -> None:
    answer = post(pool, content, path, bytes=1000)
    said = answer.json()["error"]
    assert (answer.status_code, said["code"], said["request_id"]) == (status, code, answer.headers["x-request-id"])
    assert said["message"]
    assert "\n" not in said["message"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("files", [{"other": b"x"}, {"mask": b"x"}, {"photo": b"x", "mask": b"y", "more": b"z"}])
def test_multipart_bodies_hold_a_photo_and_perhaps_a_mask(pool: Pool, files: dict[str, bytes]) -> None:
    answer = asked(pool, lambda client: client.post(PHOTO, files=files))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_multipart")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert post(pool, b"nonsense", headers=broken).status_code == 400
    loud = {"content-type": "Multipart/Form-Data; boundary=x"}
    assert post(pool, b"nonsense", headers=loud).json()["error"]["code"] == "bad_multipart"


@pytest.mark.parametrize("headers", [{"origin": "http://here"}, {"origin": "null"}, {"sec-fetch-site": "none"}])
def test_pages_may_not_use_a_service_without_keys(pool: Pool, headers: dict[str, str]) -> None:
    """A page that a visitor has open, by a name of its own for this computer (DNS rebinding), too."""
    answer = post(pool, b"abc", headers=headers, pages=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "page")
    assert post(pool, b"abc", headers=headers).status_code == post(pool, b"abc", pages=False).status_code == 200


def test_whoever_leaves_in_the_middle_of_an_upload_is_no_fault(pool: Pool) -> None:
    messages = iter([{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}])
    scope = {"type": "http", "method": "POST", "path": PHOTO, "headers": [], "query_string": b"", "client": None,
             "server": None, "scheme": "http", "root_path": "", "http_version": "1.1"}  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    metrics = observe.Metrics(pool)
    asyncio.run(build(pool, Limits(), metrics)(scope, receive, send))
    assert sent[0]["status"] == 400
    assert metrics.requests.labels(PHOTO, "499")._value.get() == 1


def test_an_upload_is_checked(pool: Pool) -> None:
    files = {"original": b"a", "protected": b"b", "downloaded": b"c"}
    answer = asked(pool, lambda client: client.post("/v1/check", files=files))
    assert (answer.status_code, answer.json()) == (200, {"sentences": "abc"})
    del files["protected"]
    answer = asked(pool, lambda client: client.post("/v1/check", files=files))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_multipart")
    assert "no file 'protected'; allowed: one file for each of original" in answer.json()["error"]["message"]
    assert post(pool, b"abc", "/v1/check").status_code == 400


def test_a_check_is_that_of_the_library(tmp_path: Path, weights: Path) -> None:
    original = picture(200, 160)
    task = load_task(ProtectSettings(knobs={"weights": str(weights)}, device="cpu"))
    protected = protect_content(Content(original, "a.png"), task).data
    file = io.BytesIO()
    Image.open(io.BytesIO(protected)).resize((120, 150)).save(file, "JPEG", quality=80)
    found = compare(Comparison(original, protected, file.getvalue()))
    assert isinstance(found, dict)
    assert (found["format"], found["jpeg_quality"], found["downloaded_size"]) == ("JPEG", 80, [150, 120])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    failed = compare(Comparison(original, protected, b"no picture"))
    assert isinstance(failed, Failed) and failed.theirs
    assert failed.message.startswith("photo 'downloaded' is not a picture")


def test_what_is_broken_here_is_told_to_the_log_only(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="editproof.serve"):
        logging.getLogger("editproof.serve").propagate = True
        answer = post(pool, b"bug")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "Zero" not in answer.text
    assert "RuntimeError: ZeroDivisionError" in caplog.records[-1].event["trace"]  # type: ignore[attr-defined]


def test_keys(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "more" / "keys"
    key = new_key("anna", file)
    file.write_text(file.read_text().rstrip())  # as an editor may leave it
    new_key("ben", file)
    with pytest.raises(UserError, match="already"):
        new_key("anna", file)
    with pytest.raises(UserError, match="allowed"):
        new_key("two words", file)
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    keys = read_keys(file)
    assert keys[digest(key)] == "anna"
    for headers, status in (
        ({}, 401), ({"authorization": "Bearer wrong"}, 401), ({"authorization": f"Basic {key}"}, 401),
        ({"x-api-key": digest(key)}, 401), ({"authorization": f"Bearer {key}"}, 200), ({"x-api-key": key}, 200),
    ):  # fmt: skip
        answer = post(pool, headers=headers, keys=keys)
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)
    assert asked(pool, lambda client: client.get("/readyz"), keys=keys).status_code == 200


@pytest.mark.parametrize("text", ["", "# nothing", "anna", "anna 1234", "an na " + "0" * 64])
def test_files_of_keys_that_cannot_be_used(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match="allowed"):
        read_keys(tmp_path / "keys")
    with pytest.raises(UserError, match="no such file"):
        read_keys(tmp_path / "none")


def test_rates_are_counted_for_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    rate = Rate(60, lambda: now)
    assert [rate.wait("a") for _ in range(60)] == [0] * 60
    assert (rate.wait("a"), rate.wait("b")) == (1, 0)
    now = 1.5
    assert (rate.wait("a"), rate.wait("a")) == (0, 1)
    now = 1000.0
    assert [rate.wait("a") for _ in range(61)] == [0] * 60 + [1]
    slow = Rate(2, lambda: now)
    assert [slow.wait("a") for _ in range(3)] == [0, 0, 30]
    monkeypatch.setattr(serve_limits, "BUCKETS", 3)
    for name in "bcdef":
        slow.wait(name)
    assert slow.wait("a") == 0  # forgotten, which costs nothing but a few requests


def test_whoever_asks_too_often_is_told_when_to_come_again(pool: Pool) -> None:
    async def twice(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post(PHOTO, content=b"x") for _ in range(2)]

    first, second = asked(pool, twice, rate=Rate(1))
    assert (first.status_code, second.status_code) == (200, 429)
    assert 50 <= int(second.headers["retry-after"]) <= 60


def test_a_full_line_is_told_at_once_and_what_was_accepted_is_done(pool: Pool, folder: Path) -> None:
    async def many(client: httpx.AsyncClient) -> list[httpx.Response]:
        accepted = [asyncio.create_task(client.post(PHOTO, content=b"wait full"))]
        while not pool.busy:
            await asyncio.sleep(0.005)
        accepted += [asyncio.create_task(client.post(PHOTO, content=b"abc")) for _ in range(2)]
        while pool.waiting < 2:
            await asyncio.sleep(0.005)
        refused = await client.post(PHOTO, content=b"x")
        (folder / "full").touch()
        return [refused, *(await asyncio.gather(*accepted))]

    refused, *accepted = asked(pool, many)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in accepted] == [200, 200, 200]


def test_slow_photos_and_slow_uploads_end(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickle() -> Any:
        yield b"x"
        await asyncio.sleep(5)
        yield b"y"

    answer = asked(pool, lambda client: client.post(PHOTO, content=trickle()), upload_seconds=0.05)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "slow_upload")

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    answer = asked(pool, lambda client: client.post(PHOTO, content=chunks()), bytes=1000)
    assert answer.status_code == 413  # nobody said how long it would be
    monkeypatch.setattr(pool, "seconds", 0.2)
    answer = post(pool, b"wait never")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "too_slow")


def test_ids_health_and_metrics(pool: Pool) -> None:
    async def look(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
        await client.post(PHOTO, content=b"abc")
        await client.post(PHOTO, content=b"bad", headers={"x-request-id": "mine-1"})
        return {path: await client.get(path, headers={"x-request-id": "not usable!"})
                for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/protect")}  # fmt: skip

    def ready(**limits: Any) -> int:
        return asked(pool, lambda client: client.get("/readyz"), **limits).status_code

    while not pool.ready:  # the last test has ended the worker
        time.sleep(0.05)
    found = asked(pool, look)
    assert [found[path].status_code for path in found] == [200, 200, 200, 200, 405]
    assert post(pool, b"bad", headers={"x-request-id": "mine-1"}).json()["error"]["request_id"] == "mine-1"
    assert found["/healthz"].headers["x-request-id"] != "not usable!"
    numbers = found["/metrics"].text
    assert 'editproof_requests_total{route="/v1/protect",status="200"} 1.0' in numbers
    assert 'editproof_requests_total{route="/v1/protect",status="422"} 1.0' in numbers
    assert 'editproof_refused_total{reason="bad_photo"} 1.0' in numbers
    assert "editproof_pixels_total 12.0" in numbers
    assert float(re.search(r"^editproof_memory_bytes (\S+)", numbers, re.MULTILINE)[1]) > 1e7  # type: ignore[index]
    assert ready() == 200
    assert ready(draining=True) == 503


def test_the_interface_is_described(pool: Pool) -> None:
    schema = asked(pool, lambda client: client.get("/openapi.json")).json()
    protect = schema["paths"]["/v1/protect"]["post"]
    assert {p["name"] for p in protect["parameters"]} >= {"eps", "mask", "format", "quality", "seed", "report"}
    assert set(protect["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert set(protect["responses"]) >= {"200", "401", "413", "422", "429", "503", "504"}
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}


def test_logs_are_lines_of_json_without_photos_names_and_addresses(pool: Pool) -> None:
    stream = io.StringIO()
    observe.log_to(stream)
    files = {"photo": ("holiday.jpg", b"abc")}
    asked(pool, lambda client: client.post(PHOTO, files=files, headers={"x-request-id": "r1"}), keys={})
    line = json.loads(stream.getvalue())
    assert (line["request_id"], line["route"], line["status"], line["bytes_in"]) == ("r1", "/v1/protect", 200, 3)
    assert {"time", "level", "seconds", "bytes_out", "width", "height"} <= line.keys()
    assert "holiday" not in stream.getvalue()
    assert "127.0.0.1" not in stream.getvalue()


def test_settings_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--host", "0.0.0.0"], "--keys FILE, or --no-keys"),
        (["--method", "nothing"], "method 'nothing' is unknown"),
        (["--eps", "9"], "--eps '9'"),
        (["--keys", "none"], "keys 'none': no such file"),
    ):
        assert main(["serve", *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


# As a process, with the real workers.


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    save_immunizer(network, folder / "weights")
    return folder / "weights"


def picture(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray((tiny.pictures(1, height, width)[0].permute(1, 2, 0) * 255).byte().numpy()).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_killed_workers_lose_no_photo_and_sigterm_ends_it_when_all_is_answered(weights: Path, folder: Path) -> None:
    """Bit for bit what the library makes; workers killed with -9 again and again; then SIGTERM with photos in line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "editproof", "serve", "--port", str(port), "--workers", "2", "--queue", "100"]
    command += ["--device", "cpu", "--set", f"weights={weights}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}
    log = folder / "log"
    with log.open("w") as lines:
        service = subprocess.Popen(command, env=environment, stderr=lines)
    try:
        url = f"http://127.0.0.1:{port}"
        while service.poll() is None and '"serving"' not in log.read_text():
            time.sleep(0.05)
        small, large = picture(90, 120), picture(1500, 2000)
        asked = ProtectSettings(knobs={"weights": str(weights)}, device="cpu")
        expected = [protect_content(Content(data, "photo"), load_task(asked)).data for data in (small, large)]
        answered: list[int] = []

        def send(i: int) -> bool:
            answer = httpx.post(f"{url}{PHOTO}", content=(small, large)[i % 2], timeout=120)
            answered.append(answer.status_code)
            return answer.content == expected[i % 2]

        with ThreadPoolExecutor(8) as senders:
            futures = [senders.submit(send, i) for i in range(24)]
            for killed in range(3):
                while len(answered) < 4 * killed + 2:
                    time.sleep(0.005)
                children = psutil.Process(service.pid).children()
                workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
                workers[0].send_signal(signal.SIGKILL)
            assert all(future.result() for future in futures)
        assert answered == [200] * 24
        with ThreadPoolExecutor(6) as senders:
            futures = [senders.submit(send, i) for i in range(6)]
            while httpx.get(f"{url}/readyz").json()["accepted"] + len(answered) < 30:
                time.sleep(0.005)
            service.send_signal(signal.SIGTERM)
            assert service.wait(120) == 0
            assert all(future.result() for future in futures)
        assert log.read_text().count('"worker lost"') == 3
        assert '"ended"' in log.read_text()
    finally:
        service.kill()
        service.wait()


def test_a_worker_ends_with_the_process_that_started_it(folder: Path) -> None:
    """Also where that is killed, so that nothing stays behind."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import serve_workers\n"
        "from editproof.serve.workers import Pool\n"
        "if __name__ == '__main__':\n"
        "    pool = Pool(serve_workers.start, ('.',), workers=1); pool.wait_until_ready()\n"
        "    print(*pool.pids, flush=True); time.sleep(600)"
    )
    script = folder / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent)], stdout=subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    gone = threading.Event()
    for _ in range(600):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            gone.set()
            break
        time.sleep(0.05)
    assert gone.is_set()
    parent.stdout.close()
