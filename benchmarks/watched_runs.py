"""What two_gpus.py measures with: photos made by code, commands with a time limit, how busy GPUs say they are."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import psutil
from PIL import Image
from safetensors import safe_open

SMI = ["nvidia-smi", "--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
DIFFERENT = 64  # photos; what is asked for beyond them are further names of these


def make(i: int, folder: Path, height: int, width: int, masked: bool) -> None:
    """A JPEG that no other is like: blots of colour and grain, as large as a camera's; and a mask of its upper half."""
    draw = np.random.default_rng(i)
    blots = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = draw.normal(0, 4, (height, width, 1)).astype(np.float32)
    pixels = (np.asarray(blots) + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "images" / f"{i:04}.jpg", quality=90)
    if masked:
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255
        Image.fromarray(mask).save(folder / "masks" / f"mask_{i:04}.png")


def photos(folder: Path, count: int, height: int, width: int, *, masked: bool = False) -> None:
    """Photos in `images`, their masks in `masks`."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    with Pool() as pool:
        making = partial(make, folder=folder, height=height, width=width, masked=masked)
        pool.map(making, range(min(DIFFERENT, count)))
    for i in range(DIFFERENT, count):
        os.link(folder / "images" / f"{i % DIFFERENT:04}.jpg", folder / "images" / f"{i:04}.jpg")


def training_data(data: Path, made: Path, samples: int) -> None:
    """A folder for `editproof train` with the photos of another and as many prompts each as make that many samples."""
    (data / "train").mkdir(parents=True)
    names = sorted(path.name for path in (made / "images").iterdir())
    for name in ("images", "masks"):
        (data / "train" / name).symlink_to((made / name).resolve())
    prompts = [f"a picture of {i}" for i in range(samples // len(names))]
    lines = [json.dumps({"file_name": f"images/{name}", "prompts": prompts}) for name in names]
    (data / "train/metadata.jsonl").write_text("\n".join(lines))


def left(out: Path) -> dict[str, Any]:
    """What a training has left: its weights' names and shapes in a number, their settings."""
    with safe_open(out / "immunizer/model.safetensors", "pt") as file:
        shapes = [(name, file.get_slice(name).get_shape()) for name in sorted(file.keys())]
    config = json.loads((out / "immunizer/config.json").read_text())
    return {"tensors": len(shapes), "names_and_shapes": zlib.crc32(str(shapes).encode()), **config}


class Use:
    """How busy each GPU says it is, five times a second, while a `with` lasts."""

    def __enter__(self) -> "Use":
        self.seen: list[tuple[float, int, float]] = []
        self.process = subprocess.Popen(SMI, stdout=subprocess.PIPE, text=True) if shutil.which(SMI[0]) else None
        threading.Thread(target=self.look, daemon=True).start()
        return self

    def look(self) -> None:
        for line in self.process.stdout or () if self.process else ():
            index, _, share = line.partition(",")
            if share.strip().isdigit():
                self.seen.append((time.time(), int(index), float(share)))

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def percent(self, first: float, last: float) -> dict[int, float]:
        """The mean of each GPU between two moments."""
        within = [(index, share) for at, index, share in self.seen if first <= at <= last]
        return {gpu: round(mean(s for i, s in within if i == gpu), 1) for gpu in sorted({i for i, _ in within})}


def rate(moments: list[float], amount: float, use: Use) -> dict[str, Any]:
    """How many a second, of what came `amount` at a time at these moments, the first of which starts the clock."""
    first, last = moments[0], moments[-1]
    found = {"photos_a_second": round(amount * (len(moments) - 1) / max(last - first, 1e-9), 2)}
    return {**found, "timed_s": round(last - first, 2), "gpu_percent": use.percent(first, last)}


def run(command: list[str], limit: float, gpus: int, watch: Callable[[], None] = lambda: None) -> tuple[float, str]:
    """A command that sees `gpus` GPUs, ended with all its processes at its limit: its seconds, and what it said.

    `watch` is called a hundred times a second meanwhile. Raises RuntimeError where it does not end well.
    """
    shown = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))), "HF_HUB_OFFLINE": "1"}
    began = time.time()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **shown})
        try:
            while process.poll() is None and time.time() - began < limit:
                watch()
                time.sleep(0.01)
            late = process.poll() is None
        finally:
            if process.poll() is None:  # torchrun's processes have sessions of their own
                for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                    child.kill()
            process.wait()
        said.seek(0)
        text = said.read()
    if late or process.returncode:
        why = f"over its limit of {limit:.0f} s" if late else f"exit code {process.returncode}"
        raise RuntimeError(f"{why}: ...{text[-1500:]}")
    return round(time.time() - began, 1), text
