"""Photos a second of `editproof protect FOLDER --recursive`, and where the time of one photo goes.

    python benchmarks/folder_speed.py --parts --out outputs/folder-speed

Makes JPEGs of --size from scikit-image's astronaut with grain and protects them all in one pass, with the threads and
batches of the command line. --parts then runs the steps one after another on one photo. Processor seconds are those of
all threads together; other programs on the machine change them less than the time.
"""

import argparse
import io
import os
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from native_resolution import enlarge, load
from PIL import Image

from editproof.budgets import Linf
from editproof.cli.display import OUT, make_table, progress_bar
from editproof.immunizer.network import trained_size
from editproof.photo.formats import encode
from editproof.photo.reading import open_photo
from editproof.protection.apply import perturbation
from editproof.protection.files import protect_photos
from editproof.protection.own_size import add, changes
from editproof.resolution import working_copy, working_size
from editproof.serve.allocation import keep_pages


def processor_seconds(part: Callable[[], object], repeats: int = 3) -> float:
    """The least processor time of several runs, all threads together."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        part()
        found.append(time.process_time() - started)
    return min(found)


def make(path: Path, height: int, width: int) -> None:
    """A JPEG of the astronaut."""
    Image.fromarray(enlarge(load("astronaut", None), height, width)).save(path, quality=92)


def folder(out: Path, height: int, width: int, count: int, kind: str, bits: int) -> None:
    """Print how quickly `count` photos in a folder are protected, and the most memory that it took."""
    for name in ("photos", "protected"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "photos").mkdir(parents=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:  # whose memory is not measured
        other.submit(make, out / "photos" / "0.jpg", height, width).result()
    for i in range(1, count):
        shutil.copy(out / "photos" / "0.jpg", out / "photos" / f"{i}.jpg")
    started, used = time.perf_counter(), time.process_time()
    with progress_bar() as bar:
        task = bar.add_task("protect", total=count)
        outcomes = list(
            protect_photos(
                [out / "photos"], out / "protected", recursive=True, format=kind, knobs={"bits": bits},
                progress=lambda done: bar.update(task, completed=done),
            )
        )  # fmt: skip
    seconds, used = time.perf_counter() - started, time.process_time() - used
    assert len(outcomes) == count
    assert not any("error" in outcome for outcome in outcomes)
    row = {
        "photos": count, "format": kind, "cores": os.cpu_count(), "seconds": round(seconds, 1),
        "photos a second": round(count / seconds, 2), "processor seconds a photo": round(used / count, 2),
        "peak memory (GB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }  # fmt: skip
    OUT.print(make_table(f"{width}x{height}, with the network's loading", [row]))


def parts(path: Path, bits: int) -> None:
    """Print where the time of one photo goes."""
    torch.set_num_threads(1)  # waiting for each other, threads use processor time
    photo = open_photo(path)
    size = working_size(*photo.size, trained_size())
    levels = photo.levels.permute(2, 0, 1)[None]
    copy = working_copy(levels, size)
    settings = {"method": "immunizer", "editor": None, "mask": None, "budget": Linf(8 / 255), "bits": bits}
    delta = perturbation(copy, **settings)[0]
    result = add(photo.levels, delta, Linf(8 / 255))
    ours, theirs = encode(result, photo, "png"), io.BytesIO()

    def pillow() -> None:
        theirs.seek(0)
        Image.fromarray(result.numpy()).save(theirs, format="PNG", compress_level=3)

    steps: dict[str, Callable[[], object]] = {
        "decode the JPEG, check sum, metadata": lambda: open_photo(path),
        f"scale down to {size[1]}x{size[0]}": lambda: working_copy(levels, size),
        "network": lambda: perturbation(copy, **settings),
        "lift and add": lambda: add(photo.levels, delta, Linf(8 / 255)),
        "PSNR, largest change": lambda: changes(result, photo.levels),
        "encode the PNG": lambda: encode(result, photo, "png"),
        "instead, by Pillow at level 3": pillow,
    }
    rows = [{"part": name, "processor seconds": round(processor_seconds(step), 3)} for name, step in steps.items()]
    OUT.print(make_table("one photo on one core", rows))
    OUT.print(f"PNG: {len(ours.getvalue()) / 1e6:.1f} MB, by Pillow {len(theirs.getvalue()) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--size", default="3000x4000", help="width x height")
    parser.add_argument("--format", default="png")
    parser.add_argument("--parts", action="store_true", help="where the time of one photo goes")
    parser.add_argument("--bits", type=int, default=32, help="of the network's numbers, 32 or 8")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    keep_pages()  # as the command line does
    folder(args.out, height, width, args.count, args.format, args.bits)
    if args.parts:
        parts(args.out / "photos" / "0.jpg", args.bits)


if __name__ == "__main__":
    main()
