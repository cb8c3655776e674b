"""The one-pass network on a CPU: torch, torch.compile, ONNX Runtime and OpenVINO, float32 and int8, on some cores.

    python benchmarks/cpu_network.py --threads 2 --size 512x512 --runs 20 --effect photos/*.jpg

Of each the least processor time and the shortest time of several runs, since others may use the machine; how far its
perturbation is from torch's, in levels of 255; and with --effect what it does: the structure that a round trip through
the embedded autoencoders of Stable Diffusion 1 and FLUX.1 leaves of those photos (less is more effect; `untouched` is
a row). `bits=8` is the immunizer's own setting; the int8 of the others is calibrated on pictures of scikit-image. Needs
the extra `onnx`, and for its rows openvino.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data, transform

from editproof.editors.spaces import load_spaces, round_trip
from editproof.immunizer.eight_bits import EightBits
from editproof.immunizer.export import Perturbation, export_onnx
from editproof.immunizer.network import load_immunizer
from editproof.metrics.contrast import contrast_structure
from editproof.serve.allocation import keep_pages

SIZE = [224, 288]  # what a 3000 x 4000 photo is worked on at by a network of 256; another by --size
EPS = 8 / 255
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def pictures() -> list[np.ndarray]:
    """Photos (1, 3, h, w) float32 in [0, 1]."""
    found = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    return [transform.resize(x, SIZE, anti_aliasing=True).transpose(2, 0, 1)[None].astype(np.float32) for x in found]


def of_files(files: list[Path]) -> list[np.ndarray]:
    """The middle of photos, as large as SIZE where they allow it."""
    found = []
    for file in files:
        with Image.open(file) as photo:
            fitted = np.asarray(ImageOps.fit(photo.convert("RGB"), (SIZE[1], SIZE[0])), np.float32) / 255
        found.append(fitted.transpose(2, 0, 1)[None])
    return found


def effect(run: Run | None, photos: list[np.ndarray]) -> dict[str, float]:
    """By autoencoder, the structure that its round trip leaves of photos protected by a network; None: of untouched."""
    found: dict[str, list[float]] = {}
    for photo in photos:
        before = torch.from_numpy(photo)
        after = before if run is None else (before + torch.from_numpy(run(fed(photo)))).clamp(0, 1)
        after = (after * 255).round() / 255
        for space in ("sd1", "flux1"):
            (model,) = load_spaces(space, torch.device("cpu"))
            with torch.no_grad():
                left = contrast_structure(round_trip(model, after).clamp(0, 1), before)
            found.setdefault(space, []).append(left.item())
    return {space: round(float(np.mean(values)), 4) for space, values in found.items()}


def fed(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": image, "mask": np.zeros_like(image[:, :1]), "eps": np.array(EPS, np.float32)}


def by_torch(compiled: bool, bits: int = 32) -> Run:
    network: Any = Perturbation(load_immunizer() if bits == 32 else EightBits(load_immunizer()))
    if compiled:
        network = torch.compile(network)

    def run(feed: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return network(*(torch.from_numpy(np.asarray(feed[name])) for name in ("images", "mask", "eps"))).numpy()

    return run


def by_onnxruntime(file: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)[0]


def by_openvino(file: Path, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(file))
    sizes = {"images": [1, 3, *SIZE], "mask": [1, 1, *SIZE], "eps": []}
    model.reshape({name: openvino.PartialShape(size) for name, size in sizes.items()})
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    return lambda feed: np.array(compiled(feed)[0])


def quantised(file: Path, folder: Path) -> Path:
    """The same network in int8 (weights by channel, activations), calibrated."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[dict[str, np.ndarray]] = iter(map(fed, pictures()))

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared, out = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, op_types_to_quantize=["Conv"],
    )  # fmt: skip
    return out


def shortest(run: Run, feed: dict[str, np.ndarray], runs: int) -> tuple[float, float]:
    """The least seconds of the processor, all threads together, and the least that passed."""
    run(feed)
    used, passed = [], []
    for _ in range(runs):
        began, started = time.process_time(), time.perf_counter()
        run(feed)
        used.append(time.process_time() - began)
        passed.append(time.perf_counter() - started)
    return min(used), min(passed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", default="", metavar="A,B,...", help="some runtimes")
    parser.add_argument("--size", default="224x288", help="height x width, multiples of 16")
    parser.add_argument("--effect", type=Path, nargs="*", default=[], metavar="PHOTO", help="what is looked at")
    asked = parser.parse_args()
    SIZE[:] = map(int, asked.size.split("x"))
    torch.set_num_threads(asked.threads)
    looked_at = of_files(asked.effect)
    if looked_at:
        print(json.dumps({"runtime": "untouched", "structure": effect(None, looked_at)}), flush=True)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # where ONNX Runtime's quantisation leaves files
        file = Path(name, "network.onnx")
        export_onnx(file)
        makers: dict[str, Callable[[], Run]] = {
            "torch as a library": lambda: by_torch(False),
            "torch": lambda: by_torch(False),
            "torch, bits=8": lambda: by_torch(False, 8),
            "torch.compile": lambda: by_torch(True),
            "ONNX Runtime": lambda: by_onnxruntime(file, asked.threads),
            "OpenVINO": lambda: by_openvino(file, asked.threads),
            "ONNX Runtime int8": lambda: by_onnxruntime(quantised(file, Path(name)), asked.threads),
            "OpenVINO int8": lambda: by_openvino(quantised(file, Path(name)), asked.threads),
        }
        reference, photos = by_torch(False), pictures()
        for runtime, make in makers.items():
            if asked.only and runtime not in asked.only.split(","):
                continue
            if "library" not in runtime:
                keep_pages()  # as the command line does; from here on
            started = time.perf_counter()
            run = make()
            run(fed(photos[0]))
            ready = time.perf_counter() - started
            used, passed = shortest(run, fed(photos[0]), asked.runs)
            differences, shares = [], []
            for photo in photos:
                mine, torchs = run(fed(photo)), reference(fed(photo))
                differences.append(float(np.abs(mine - torchs).max()) * 255)
                shares.append(float((mine * torchs).sum() / np.square(torchs).sum()))
            print(json.dumps({
                "runtime": runtime, "processor_ms": round(used * 1e3, 1),
                "ms": round(passed * 1e3, 1), "ready_s": round(ready, 2),
                "levels_off": round(max(differences), 4), "kept": round(min(shares), 4),
                "structure": effect(run, looked_at), "threads": asked.threads, "size": asked.size,
                "load": round(os.getloadavg()[0], 1),
            }), flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
