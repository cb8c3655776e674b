"""`editproof bulk` killed with `kill -9`, several times: in the end every photo once, the bytes of an unbroken run.

    python benchmarks/bulk_kills.py --count 2000 --out outputs/bulk-kills

Makes small photos of noise, protects them with a small random network (what is tried is the run, not the protection),
kills the command whenever another share of them is there, every other time with its workers, and once only a worker,
which must not end the run; lets it finish, and compares all files with those of a run that nothing happened to. Exit
code 1 if they differ.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

import editproof
from editproof.files import TEMPORARY
from editproof.immunizer.network import NestedUNet, save_immunizer

FOLDERS = 7  # that the photos lie in


def make(folder: Path, count: int, height: int, width: int) -> None:
    """Photos of noise, all different, and a network for them."""
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    save_immunizer(network, folder / "weights")
    draw = np.random.default_rng(0)
    for i in range(count):
        path = folder / "photos" / str(i % FOLDERS) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(path)


def started(folder: Path, out: str, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "editproof", "bulk", "photos", out, "--workers", str(workers), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # two threads that others keep from running wait for each other, idly
    return subprocess.Popen(
        [*command, "--set", "weights=weights"], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finished(run: subprocess.Popen[str]) -> str:
    """What a run says at its end, which has to be a good one."""
    said, errors = run.communicate()
    assert run.returncode == 0, errors
    return " ".join(said.split())


def made(folder: Path) -> int:
    """How many results there are; nothing else has such a name."""
    return sum(1 for _ in folder.glob("*/*-protected.png"))


def wait_for(run: subprocess.Popen[str], folder: Path, count: int) -> None:
    while made(folder) < count:
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)


def killed(folder: Path, count: int, kills: int, workers: int) -> Iterator[dict[str, Any]]:
    """Kill the command `kills` times, the last time after a worker of it; then let it finish."""
    for kill in range(1, kills + 1):
        run = started(folder, "killed", workers)
        wait_for(run, folder / "killed", kill * count // (kills + 1))
        everything = kill % 2 == 0
        event = {"killed": f"the command{' and its workers' * everything}", "after": made(folder / "killed")}
        if kill == kills:
            worker = max(psutil.Process(run.pid).children(), key=lambda child: child.memory_info().rss)
            worker.kill()
            yield {"killed": "a worker", "after": event["after"]}
            wait_for(run, folder / "killed", event["after"] + count // (4 * kills))
            event["after"] = made(folder / "killed")
        if everything:
            os.killpg(run.pid, signal.SIGKILL)
        run.kill()
        run.communicate()
        left = sum(1 for _ in (folder / "killed").rglob(f"{TEMPORARY}*"))
        yield {**event, "unfinished_files": left}
    yield {"last_run": finished(started(folder, "killed", workers))}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; of reports all but the seconds."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps({**json.loads(content), "seconds": 0}).encode()
        found[str(path.relative_to(folder))] = content
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="photos")
    parser.add_argument("--size", default="64x64", help="height x width")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/bulk-kills"))
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    height, width = map(int, asked.size.split("x"))
    make(asked.out, asked.count, height, width)
    began = time.perf_counter()
    for event in killed(asked.out, asked.count, asked.kills, asked.workers):
        print(json.dumps(event), flush=True)
    seconds = time.perf_counter() - began
    print(json.dumps({"unbroken": finished(started(asked.out, "unbroken", 1))}), flush=True)
    ours, theirs = (contents(asked.out / name) for name in ("killed", "unbroken"))
    kinds = Counter(Path(name).suffix for name in ours)
    same = ours == theirs and kinds == {".png": asked.count, ".json": asked.count, ".csv": 1}
    print(json.dumps({
        "photos": asked.count, "files": dict(kinds), "the_same_bytes": same, "seconds": round(seconds, 1),
        "load": round(os.getloadavg()[0], 1),
    }))  # fmt: skip
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
