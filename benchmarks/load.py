"""Mixed traffic for a service of our own on this machine: good photos, bad files, people who leave; bounded in time.

    python benchmarks/load.py --seconds 240 --out outputs/load

Starts `editproof serve` on the loopback, sends requests until the time or the count is used up, and prints what was
answered, how long it took, and how the memory of the service grew. Exit code 1 for an answer that was not expected.
"""

import argparse
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from skimage import data

GROWTH = 0.05  # of the memory that is accepted
Send = Callable[[httpx.Client, str], httpx.Response]


def encoded(image: Image.Image, format: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **settings)
    return file.getvalue()


def kinds() -> dict[str, tuple[float, tuple[int, ...], Send]]:
    """The kinds of requests: name -> share of all, statuses that are right besides 429 and 503, and how to send one."""
    person = Image.fromarray(data.astronaut())
    small, phone = encoded(person, "JPEG", quality=90), encoded(person.resize((4000, 3000)), "JPEG", quality=90)
    middle = encoded(person.resize((1200, 900)), "WEBP", quality=85)
    mask = encoded(Image.fromarray(np.pad(np.full((256, 256), 255, np.uint8), 128)), "PNG")

    def post(content: bytes, settings: str = "") -> Send:
        return lambda client, url: client.post(f"{url}/v1/protect{settings}", content=content)

    def masked(client: httpx.Client, url: str) -> httpx.Response:
        return client.post(f"{url}/v1/protect", files={"photo": ("a.jpg", small), "mask": ("m.png", mask)})

    def left(client: httpx.Client, url: str) -> httpx.Response:
        try:
            return client.post(f"{url}/v1/protect", content=phone, timeout=httpx.Timeout(10, read=0.05))
        except httpx.ReadTimeout:
            return httpx.Response(499)

    return {
        "0.3 MP JPEG -> PNG": (30, (200,), post(small)),
        "0.3 MP JPEG -> JPEG": (10, (200,), post(small, "?format=jpeg&report=multipart")),
        "1 MP WebP -> WebP": (10, (200,), post(middle, "?format=webp&eps=4/255")),
        "12 MP JPEG -> PNG": (10, (200,), post(phone)),
        "0.3 MP, mask auto": (8, (200,), post(small, "?mask=auto")),
        "0.3 MP, mask file": (8, (200,), masked),
        "bad: empty": (3, (422,), post(b"")),
        "bad: text": (3, (422,), post(b"no picture" * 1000)),
        "bad: cut off": (4, (422,), post(phone[:200_000])),
        "bad: 8 x 8": (2, (422,), post(encoded(person.resize((8, 8)), "PNG"))),
        "bad: setting": (3, (422,), post(small, "?eps=12")),
        "bad: multipart": (2, (400,), lambda client, url: client.post(f"{url}/v1/protect", files={"x": b"y"})),
        "bad: too large": (2, (413,), post(b"\xff\xd8" + bytes(21_000_000))),
        "left before the answer": (3, (200, 499), left),
        "health": (2, (200,), lambda client, url: client.get(f"{url}/readyz")),
    }


def number(text: str, name: str) -> float:
    """A number of /metrics."""
    matched = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert matched is not None, name
    return float(matched[1])


def run(url: str, seconds: float, most: int, senders: int, seed: int, timeout: float) -> dict[str, Any]:
    """Send mixed traffic; what was answered, the seconds of each kind, and the memory every two seconds.

    An answer that did not come within four times the service's own `timeout` counts as status -2.
    """
    mixed, until = kinds(), time.monotonic() + seconds
    lock, sent = threading.Lock(), 0
    answers: list[tuple[str, int, float]] = []
    memory: list[float] = []

    def send(number_: int) -> None:
        nonlocal sent
        chance = random.Random(seed + number_)
        with httpx.Client(timeout=4 * timeout) as client:
            while time.monotonic() < until:
                with lock:
                    if sent >= most:
                        return
                    sent += 1
                (kind,) = chance.choices(list(mixed), [share for share, _, _ in mixed.values()])
                started = time.perf_counter()
                try:
                    status = mixed[kind][2](client, url).status_code
                except (httpx.WriteError, httpx.RemoteProtocolError):  # closed while we still sent, as for 413
                    status = 413 if "too large" in kind else -1
                except httpx.TimeoutException:
                    status = -2
                with lock:
                    answers.append((kind, status, time.perf_counter() - started))
                if status in (429, 503):
                    time.sleep(0.2)

    with ThreadPoolExecutor(senders) as pool:
        futures = [pool.submit(send, i) for i in range(senders)]
        while not all(future.done() for future in futures):
            memory.append(number(httpx.get(f"{url}/metrics", timeout=4 * timeout).text, "editproof_memory_bytes"))
            time.sleep(2)
        for future in futures:
            future.result()
    return {"answers": answers, "memory": memory, "kinds": mixed}


def summary(found: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each kind of request, and what is to be said of all."""
    rows, wrong = [], 0
    for kind, (_, right, _) in found["kinds"].items():
        mine = [(status, seconds) for name, status, seconds in found["answers"] if name == kind]
        taken = sorted(seconds for status, seconds in mine if status in right)
        wrong += sum(status not in (*right, 429, 503) for status, _ in mine)
        p50, p95 = (round(float(np.quantile(taken, q)), 2) if taken else None for q in (0.5, 0.95))
        statuses = dict(sorted(Counter(str(status) for status, _ in mine).items()))
        rows.append({"kind": kind, "requests": len(mine), "p50_s": p50, "p95_s": p95, "statuses": statuses})
    good = [seconds for name, status, seconds in found["answers"] if status == 200 and name != "health"]
    memory = found["memory"]
    fifth = max(1, len(memory) // 5)
    early, late = np.mean(memory[fifth : 2 * fifth]), np.mean(memory[-fifth:])
    return rows, {
        "requests": len(found["answers"]), "photos_protected": len(good),
        "p95_s": round(float(np.quantile(good, 0.95)), 2),
        "errors_500": sum(status == 500 for _, status, _ in found["answers"]), "not_expected": wrong,
        "memory_mb_second_fifth": round(early / 1e6, 1), "memory_mb_last_fifth": round(late / 1e6, 1),
        "growth": round(late / early - 1, 4),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--most", type=int, default=20_000, help="requests")
    parser.add_argument("--senders", type=int, default=6, help="at once")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--timeout", type=float, default=60, help="the service's, for one photo; more if others compute"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/load"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "editproof", "serve", "--port", str(port), "--max-mb", "20"]
    command += ["--timeout", str(asked.timeout)]
    log = asked.out / "log.jsonl"
    with log.open("w") as lines:
        service = subprocess.Popen([*command, "--workers", str(asked.workers)], stderr=lines)
    try:
        while '"serving"' not in log.read_text():
            assert service.poll() is None, log.read_text()
            time.sleep(0.2)
        started = time.perf_counter()
        found = run(f"http://127.0.0.1:{port}", asked.seconds, asked.most, asked.senders, asked.seed, asked.timeout)
        seconds = time.perf_counter() - started
        service.send_signal(signal.SIGTERM)
        code = service.wait(4 * asked.timeout)
    finally:
        service.kill()
    rows, said = summary(found)
    said |= {"seconds": round(seconds, 1), "exit_code": code, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    (asked.out / "load.json").write_text(
        json.dumps({"rows": rows, "summary": said, "memory": found["memory"]}, indent=2)
    )
    for row in rows:
        print(f"{row['kind']:24} {row['requests']:5} p50 {row['p50_s']} s, p95 {row['p95_s']} s, {row['statuses']}")
    print(json.dumps(said, indent=2))
    return 1 if said["errors_500"] or said["not_expected"] or said["growth"] > GROWTH or code else 0


if __name__ == "__main__":
    sys.exit(main())
