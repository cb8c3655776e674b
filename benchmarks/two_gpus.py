"""One GPU beside two: the embedded network's rate, `editproof bulk` over JPEGs of 12 megapixels, `editproof train`.

    PYTHONPATH=src python3 benchmarks/two_gpus.py --out $OUT/two_gpus.jsonl       # a machine of two GPUs: 200 s at most
    PYTHONPATH=src python3 benchmarks/two_gpus.py --out outputs/two.jsonl --tiny  # two processes on a CPU, gloo

From the repository's root. It needs what `editproof` needs, the embedded models and no network, and makes its photos.
Each case is a process of its own with a time limit, and all of it ends before --seconds (400 is enough for all; what is
most wanted comes first); a line of JSON is written as soon as a case is done, so that a run that is cut off keeps what
it has. Rates leave the start out: bulk's are of the middle 80 % of the results, training's of the steps after the first
five. `file` is what a training has left, `epochs` 2 goes on from that, `batch` is of all processes together.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from watched_runs import Use, left, photos, rate, run, training_data

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nnodes=1",
    "--master-addr=127.0.0.1",
    "--master-port=29511",
]
EDITPROOF = ["-m", "editproof"]


@dataclass
class Size:
    """How much is done: what a GPU takes or, `tiny`, what two cores do in a minute."""

    tiny: bool = False
    large: tuple[int, int, int] = (320, 3000, 4000)  # photos for bulk: how many, height, width
    workers: int = os.cpu_count() or 1
    side: int = 256  # that training sees: the embedded editor's own
    batch: int = 32  # of each process, in training
    steps: int = 20
    device: tuple[str, ...] = ()
    network: tuple[str, ...] = ()  # settings of the one that is trained


TINY = Size(True, (12, 120, 160), 2, 64, 2, 12, ("--device", "cpu"), ("network={depths: [4, 8, 16]}",))


def network(size: Size, folder: Path, gpus: int, limit: float) -> dict[str, Any]:
    """The embedded network alone, a process for each GPU at once: photos a second of all together, by batch."""
    script = [sys.executable, str(Path(__file__).with_name("network_rate.py")), "--gpus", str(gpus)]
    small = ["--cpu", "--batches", "1", "2", "--side", str(size.side)] if size.tiny else []
    with Use() as use:
        passed, said = run([*script, *small], limit, gpus)
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    rates = Counter[int]()
    for told in found:
        rates[told["batch"]] += told["rate"]
    busy = use.percent(min(told["began"] for told in found), max(told["ended"] for told in found))
    return {"photos_a_second_by_batch": dict(rates), "gpu_percent": busy, "seconds": passed}


def bulk(size: Size, folder: Path, gpus: int, limit: float, format: str = "png") -> dict[str, Any]:
    """`editproof bulk` with a worker for each core, on that many GPUs."""
    target = folder / f"bulk-{gpus}-{format}"
    command = [sys.executable, *EDITPROOF, "bulk", str(folder / "large/images"), str(target), "--format", format]
    try:
        with Use() as use:
            passed, _ = run([*command, "--workers", str(size.workers), *size.device], limit, gpus)
        made = [path.stat() for path in target.glob("*-protected.*")]
        devices = {json.loads(path.read_text())["device"] for path in target.glob("_reports/*.json")}
    finally:
        shutil.rmtree(target, ignore_errors=True)
    moments, cut = sorted(stat.st_mtime for stat in made), len(made) // 10
    return {"format": format, "photos": len(made), "workers": size.workers, **rate(moments[cut:-cut], 1, use),
            "devices": sorted(devices), "mb_each": round(mean(stat.st_size for stat in made) / 1e6, 1),
            "seconds": passed}  # fmt: skip


def train(size: Size, folder: Path, gpus: int, limit: float, epochs: int = 1, batch: int = 0) -> dict[str, Any]:
    """`editproof train` under torchrun, a process a GPU, as many photos each; a second epoch resumes the first."""
    batch = batch or size.batch * gpus
    data, out = folder / f"data-{batch}", folder / f"train-{gpus}-{batch}"
    if not data.exists():
        training_data(data, folder / "small", size.steps * batch)
    log, moments = out / "log.jsonl", []
    before = len(log.read_text().splitlines()) if log.exists() else 0

    def watch() -> None:
        lines = log.read_bytes().count(b"\n") - before if log.exists() else 0
        moments.extend([time.time()] * (lines - len(moments)))

    settings = [f"batch_size={batch}", f"iter_num={epochs}", f"resolution={size.side}", "checkpoint_every=1000000"]
    settings += [f"workers={0 if size.tiny else max(1, min(12, size.workers // gpus - 1))}", *size.network]
    command = [*TORCHRUN, f"--nproc-per-node={gpus}", *EDITPROOF, "train", *size.device]
    command += ["--data-dir", str(data), "--output-dir", str(out), *(x for s in settings for x in ("--set", s))]
    with Use() as use:
        passed, _ = run(command, limit, gpus, watch)
    watch()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {"batch": batch, "steps": [lines[before]["step"], lines[-1]["step"]], **rate(moments[5:], batch, use),
            "step_s": round(median(line["seconds"] for line in lines[before + 5 :]), 4),
            "losses": [round(line["loss"], 5) for line in lines[before : before + 3]], "file": left(out),
            "seconds": passed}  # fmt: skip


# what is done, in this order: name, seconds at most, GPUs, more
CASES: tuple[tuple[Any, int, int, dict[str, Any]], ...] = (
    (train, 80, 1, {}), (train, 80, 2, {}), (bulk, 60, 2, {}), (bulk, 60, 1, {}), (network, 40, 1, {}),
    (network, 40, 2, {}), (train, 80, 2, {"epochs": 2}), (bulk, 60, 2, {"format": "same"}),
    (train, 80, 1, {"batch": 64}),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/two_gpus.jsonl"))
    parser.add_argument("--seconds", type=float, default=195, help="for everything")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    size = TINY if asked.tiny else Size()
    ends, wrong = time.time() + asked.seconds, 0
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, asked.out.open("a") as file:
        folder = Path(made)
        photos(folder / "large", *size.large)
        photos(folder / "small", 64 if not size.tiny else 4, size.side, size.side, masked=True)
        for case, limit, gpus, more in CASES:
            more = {k: 2 * size.batch if k == "batch" else v for k, v in more.items()}
            said = {"case": case.__name__, "gpus": gpus, **more}
            try:
                said |= case(size, folder, gpus, min(limit * (8 if size.tiny else 1), ends - time.time()), **more)
            except (RuntimeError, OSError, ValueError, KeyError, IndexError) as error:
                said, wrong = {**said, "error": f"{type(error).__name__}: {error}"}, 1
            for place in (file, sys.stdout):
                print(json.dumps(said), file=place, flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
