"""How long one photo takes with a command that is called for it alone, and where that time goes.

    python benchmarks/cold_start.py --runs 5

The least of several calls: seconds that passed, and of the processor. "without torch" is no path of editproof's: it is
the least that one could take, with ONNX Runtime, NumPy and Pillow, for the same photo and network (no checks, metadata
or report), to know what such a path would be worth. Needs the extra `onnx`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from skimage import data

import editproof
from editproof.immunizer.export import export_onnx
from editproof.immunizer.network import trained_size
from editproof.resolution import working_size

WITHOUT_TORCH = """
import sys
import numpy as np, onnxruntime
from PIL import Image
source, network, height, width, target = sys.argv[1:]
photo = Image.open(source)
small = np.asarray(photo.resize((int(width), int(height)), Image.BICUBIC), np.float32).transpose(2, 0, 1)[None] / 255
session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
feed = {"images": small, "mask": np.zeros_like(small[:, :1]), "eps": np.array(8 / 255, np.float32)}
(delta,) = session.run(None, feed)[0]
out = np.asarray(photo).copy()
for channel, change in enumerate(delta * 255):
    lifted = np.asarray(Image.fromarray(change).resize(photo.size, Image.BICUBIC))
    out[..., channel] = np.clip(np.rint(lifted).clip(-8, 8) + out[..., channel], 0, 255)
Image.fromarray(out).save(target, compress_level=1)
"""


def least(command: list[str], runs: int) -> dict[str, float]:
    """The least seconds of some calls, each in a process of its own; the first is not counted."""
    passed, used = [], []
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    for _ in range(runs + 1):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        passed.append(time.perf_counter() - started)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime)
    return {"seconds": round(min(passed[1:]), 2), "processor_seconds": round(min(used[1:]), 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_onnx(folder / "network.onnx")
        commands = {
            "python -c 'import torch'": [python, "-c", "import torch"],
            "editproof --version": [python, "-m", "editproof", "--version"],
        }
        for megapixels, size in ((1, (900, 1200)), (12, (3000, 4000))):
            photo = folder / f"{megapixels}.jpg"
            Image.fromarray(data.astronaut()).resize(size[::-1]).save(photo, quality=90)
            out, working = folder / "out", map(str, working_size(*size, trained_size()))
            protect = [python, "-m", "editproof", "protect", str(photo), "--out", str(out), "--overwrite"]
            commands[f"editproof protect, {megapixels} MP"] = [*protect, "--device", "cpu"]
            commands[f"without torch, {megapixels} MP"] = [
                python, "-c", WITHOUT_TORCH, str(photo), str(folder / "network.onnx"), *working, str(folder / "x.png"),
            ]  # fmt: skip
        for what, command in commands.items():
            found = {"what": what, **least(command, asked.runs), "load": round(os.getloadavg()[0], 1)}
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
