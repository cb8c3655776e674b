"""One case of benchmarks/speed.py, measured in this process: the row is the last line that is printed, as JSON.

python benchmarks/speed_case.py flux 2 --runs 3
"""

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
from speed_cases import PARTS, Case, build, change
from speed_meters import Driver, ceiling, weights
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


def counted(step: Step) -> float:
    """TFLOP of one step (matrix products, convolutions, attention; a fused multiply-add is two)."""
    flops = []
    for steps in (1, 2):  # what comes before the first step is not counted
        with FlopCounterMode(display=False) as counter:
            step(steps, lambda *news: None)
        flops.append(counter.get_total_flops())
    return (flops[1] - flops[0]) / 1e12


def measured(case: Case, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """The row of a case: medians of `--runs` runs, each after a warm-up."""
    row: dict[str, Any] = case.described()
    on_gpu = device.type == "cuda"
    if on_gpu and case.limit:
        allowed = case.limit * 2**30 / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed), device)
    driver = Driver(device)
    try:
        model = build(case.model, device, args.tiny)
        change(case.variant, model)
        row["weights_gib"] = weights(model)
        step = runner(case, model, device, args.tiny)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        spent, runs, taken = time.process_time(), [], 0
        for _ in range(args.runs):
            times, first = timed(step, args.warm_up, args.steps, args.seconds)
            row.setdefault("first", round(first, 2))
            runs.append(statistics.median(times))
            taken += len(times) + args.warm_up
        spent = (time.process_time() - spent) / taken
        middle = statistics.median(runs)
        row |= {"s_per_step": round(middle, 5), "slowest_run": round(max(runs), 5), "runs": len(runs)}
        if not on_gpu:
            row["processor_s"] = round(spent, 4)  # a step of all threads; other jobs do not change it much
        if on_gpu:
            row["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
            row["driver_gib"] = driver.end()
        if on_gpu and case.profile:
            row["profile"] = profiled(step)
        change("eager", model)
        with suppress(torch.OutOfMemoryError):  # what counts keeps streamed weights
            row["tflop"] = round(counted(step), 3)
            row["tflop_per_s"] = round(row["tflop"] / middle, 1)
    except Exception as error:  # out of memory, a compiler that is missing ...
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        traceback.print_exc()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["ceiling", *PARTS])
    parser.add_argument("number", type=int, help="of the case in its part, from 0")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=8, help="steps of a run that are timed at most; default %(default)s"
    )
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them; default %(default)s")
    parser.add_argument("--seconds", type=float, default=4, help="after which a run is not timed longer")
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is if not given")
    parser.add_argument("--tiny", action="store_true", help="small models, to try this script out")
    args = parser.parse_args()
    device = pick_device(args.device)
    if args.part == "ceiling":
        row = ceiling(device, 512 if device.type == "cpu" else 8192)
    else:
        case = PARTS[args.part][args.number]
        with torch.no_grad() if case.model.startswith("unet++") else nullcontext():
            row = measured(case, device, args)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = {package: version(package) for package in ("torch", "diffusers")}
    print(json.dumps(row | {"device": name, **versions, "tiny": args.tiny}), flush=True)


if __name__ == "__main__":
    main()
