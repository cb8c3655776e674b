"""Seconds, memory and TFLOP/s of a step of every method, at the published models' sizes with random weights.

One JSON line for each measurement: the median of steps after a warm-up, the most memory that tensors took, the
operations counted and the rate they ran at, beside the rate of a large bf16 matrix product on the same device. Parts
can be run one by one; what fails or takes too long is a line with "error".

    python benchmarks/speed.py --out speed.jsonl                      # everything, on one GPU: about five minutes
    python benchmarks/speed.py --out speed.jsonl --parts cpu          # the embedded models, on a CPU
    python benchmarks/speed.py --out speed.jsonl --tiny               # small models, to try this script out
"""

import argparse
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from speed_cases import PARTS, Case, build, change
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from editproof.bench.demo import astronaut
from editproof.editors import pick_device
from editproof.editors.pipeline import Editor
from editproof.immunizer.network import NestedUNet, perturb
from editproof.methods import METHODS

Step = Callable[[int, Callable[..., None]], Any]  # number of steps, callback
MANY = 1000  # steps that a method is told to take, as the papers do; it is stopped after a few


class EnoughError(Exception):
    """Ends a method when its steps have been timed."""


def runner(case: Case, model: Editor | NestedUNet, device: torch.device, tiny: bool) -> Step:
    """A function that takes steps of a method on random photos."""
    side = case.side // 16 if tiny and case.side > 256 else case.side
    photos = torch.rand(case.batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    if case.method == "facelock":  # needs a face
        photos = astronaut(side)[0].expand(case.batch, -1, -1, -1).to(device)
    mask = torch.ones(1, 1, side, side)
    mask[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 0
    mask = mask.to(device)
    if isinstance(model, NestedUNet):

        def passes(steps: int, callback: Callable[..., None]) -> None:
            for number in range(steps):
                with torch.no_grad():
                    perturb(model, photos, eps=8 / 255)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                callback(number + 1, steps, 0.0)

        return passes

    def method(steps: int, callback: Callable[..., None]) -> None:
        settings = {"mask": mask if model.masked else None, **case.settings}
        METHODS[case.method](model, photos, steps=steps, callback=callback, **settings)

    return method


def timed(step: Step, warm_up: int, steps: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each of `steps` steps (fewer once `seconds` are over) after `warm_up` others; and of the first."""
    times = [time.perf_counter()]

    def callback(number: int, of: int, loss: float) -> None:  # the step is done, on a GPU with the next one launched
        times.append(time.perf_counter())
        late = len(times) > warm_up + 2 and times[-1] - times[1] > seconds
        if len(times) > warm_up + steps or late:
            raise EnoughError

    with suppress(EnoughError):
        step(MANY, callback)
    each = [after - before for before, after in pairwise(times)]
    return each[warm_up:], each[0]


def counted(step: Step) -> float:
    """TFLOP of one step (matrix products, convolutions, attention; a fused multiply-add is two)."""
    flops = []
    for steps in (1, 2):  # what comes before the first step is not counted
        with FlopCounterMode(display=False) as counter:
            step(steps, lambda *news: None)
        flops.append(counter.get_total_flops())
    return (flops[1] - flops[0]) / 1e12


def profiled(step: Step) -> list[str]:
    """The kernels that took most of a step's time on the GPU, with milliseconds."""
    profiler = profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU])

    def callback(number: int, of: int, loss: float) -> None:
        torch.cuda.synchronize()
        if number == 2:
            profiler.start()
        if number == 4:
            profiler.stop()
            raise EnoughError

    with suppress(EnoughError):
        step(MANY, callback)
    found = profiler
    events = [e for e in found.key_averages() if str(e.device_type).endswith("CUDA") and e.self_device_time_total > 0]
    events.sort(key=lambda e: -e.self_device_time_total)
    total = sum(e.self_device_time_total for e in events) / 2e3
    tops = [f"{e.self_device_time_total / 2e3:.2f} ms {e.count // 2} x {e.key[:70]}" for e in events[:12]]
    return [f"{total:.2f} ms in all, {sum(e.count for e in events) // 2} kernels", *tops]


def measured(case: Case, model: Any, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    on_gpu = device.type == "cuda"
    row: dict[str, Any] = case.described() | {"weights_gib": weights(model)}
    undo = change(case.variant, model)
    try:
        step = runner(case, model, device, args.tiny)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        spent = time.process_time()
        times, first = timed(step, args.warm_up, args.steps, args.seconds)
        spent = (time.process_time() - spent) / (len(times) + args.warm_up)
        middle = statistics.median(times)
        row |= {"s_per_step": round(middle, 5), "slowest": round(max(times), 5), "first": round(first, 2),
                "steps_timed": len(times)}  # fmt: skip
        if device.type == "cpu":
            row["processor_s"] = round(spent, 4)  # a step of all threads; other jobs do not change it much
        if on_gpu:
            row["peak_gib"] = round(peak(device) / 2**30, 2)
        if on_gpu and case.profile:
            row["profile"] = profiled(step)
        unrecorded = change("eager", model)
        row["tflop"] = round(counted(step), 3)
        row["tflop_per_s"] = round(row["tflop"] / middle, 1)
        unrecorded()
    except Exception as error:  # out of memory, a compiler that is missing ...
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        traceback.print_exc()
    finally:
        undo()
    return row


def peak(device: torch.device) -> int:
    """The most bytes that tensors took. A graph's tensors are not counted as such: it keeps its memory for itself."""
    graphs = sum(s["total_size"] for s in torch.cuda.memory_snapshot() if tuple(s["segment_pool_id"]) != (0, 0))
    return max(torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device) + graphs)


def weights(model: Any) -> float:
    """GiB of weights on the device."""
    parts = [model] if isinstance(model, NestedUNet) else [p for p in model.pipe.components.values() if p is not None]
    tensors = [p for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters() if not p.is_meta]
    return round(sum(p.nbytes for p in tensors) / 2**30, 2)


def ceiling(device: torch.device, side: int) -> dict[str, Any]:
    """The rate of a bf16 matrix product and of a copy."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(4 * side * side, device=device)
    rates = {}
    for name, work, amount in (("tflop_per_s", lambda: a @ b, 2 * side**3 / 1e12),
                               ("tb_per_s", lambda: big.clone(), 2 * big.nbytes / 1e12)):  # fmt: skip
        times = []
        for _ in range(13):
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        rates[name] = float(f"{amount / statistics.median(times[3:]):.3g}")
    return {"part": "ceiling", **rates}


def freed(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file, which grows by each row")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}; all but cpu on a GPU, cpu elsewhere")
    parser.add_argument("--steps", type=int, default=12, help="steps to time at most; default %(default)s")
    parser.add_argument("--warm-up", type=int, default=4, help="steps before them; default %(default)s")
    parser.add_argument("--seconds", type=float, default=5, help="after which a case is not timed longer")
    parser.add_argument("--limit", type=float, default=500, help="seconds after which no case is begun")
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is if not given")
    parser.add_argument("--tiny", action="store_true", help="small models, to try this script out")
    args = parser.parse_args()
    device, started = pick_device(args.device), time.perf_counter()
    every = [part for part in PARTS if (part == "cpu") == (device.type == "cpu" and not args.tiny)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = {package: version(package) for package in ("torch", "diffusers")}
    common = {"device": name, **versions, "tiny": args.tiny}
    with args.out.open("a") as file:

        def tell(row: dict[str, Any]) -> None:
            file.write(json.dumps(row | common) + "\n")
            file.flush()
            print(json.dumps(row), f"after {time.perf_counter() - started:.0f} s", flush=True)

        tell(ceiling(device, 512 if args.tiny or device.type == "cpu" else 8192))
        for part in args.parts.split(",") if args.parts else every:
            model, made = None, None
            for case in PARTS[part]:
                if args.tiny and case.batch > 16:
                    continue
                if time.perf_counter() - started > args.limit:
                    tell(case.described() | {"error": "no time left"})
                    continue
                try:
                    if made != case.model:
                        del model
                        freed(device)
                        model = build(case.model, device, args.tiny)
                        made = case.model
                    with torch.no_grad() if case.model.startswith("unet++") else nullcontext():
                        tell(measured(case, model, device, args))
                except Exception as error:
                    tell(case.described() | {"error": f"{type(error).__name__}: {str(error)[:400]}"})
                    traceback.print_exc()
                    model, made = None, None
                freed(device)
            del model
            freed(device)


if __name__ == "__main__":
    main()
