"""Photos a second of `editproof protect FOLDER --recursive`, and where the time of one photo goes.

    python benchmarks/folder_speed.py --out outputs/folder-speed

Makes JPEGs of --size from scikit-image's astronaut with grain, protects them all in one pass (threads and batches as
the command line's), then runs the parts one after another on one photo, and prints seconds of processor time, which
other programs on the machine do not change. "one core" adds them up; a machine of n cores does at most n times as many.
"""

import argparse
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from native_resolution import enlarge, load
from PIL import Image

from editproof.budgets import Linf
from editproof.display import OUT, make_table, progress_bar
from editproof.formats import encode
from editproof.immunizer import trained_size
from editproof.native import add, changes
from editproof.photo import open_photo
from editproof.photos import protect_photos
from editproof.protection import perturbation
from editproof.resolution import working_copy, working_size


def processor_seconds(part: Callable[[], object], repeats: int = 3) -> float:
    """The least processor time of several runs, all threads together."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        part()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--size", default="3000x4000", help="width x height")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    shutil.rmtree(args.out / "photos", ignore_errors=True)
    shutil.rmtree(args.out / "protected", ignore_errors=True)
    (args.out / "photos").mkdir(parents=True)
    picture = Image.fromarray(enlarge(load("astronaut", None), height, width))
    picture.save(args.out / "photos" / "0.jpg", quality=92)
    for i in range(1, args.count):
        shutil.copy(args.out / "photos" / "0.jpg", args.out / "photos" / f"{i}.jpg")
    first = args.out / "photos" / "0.jpg"
    list(protect_photos([first], args.out / "warm", overwrite=True))
    started, used = time.perf_counter(), time.process_time()
    with progress_bar() as bar:
        task = bar.add_task("protect", total=args.count)
        outcomes = list(
            protect_photos(
                [args.out / "photos"], args.out / "protected", recursive=True,
                progress=lambda done: bar.update(task, completed=done),
            )
        )  # fmt: skip
    seconds, used = time.perf_counter() - started, time.process_time() - used
    assert len(outcomes) == args.count and not any("error" in outcome for outcome in outcomes)

    photo = open_photo(first)
    size = working_size(*photo.size, trained_size())
    levels = photo.levels.permute(2, 0, 1)[None]
    copy = working_copy(levels, size)
    settings = {"method": "diffvax", "editor": None, "mask": None, "budget": Linf(8 / 255)}
    delta = perturbation(copy, **settings)[0]
    result = add(photo.levels, delta, Linf(8 / 255))
    parts: dict[str, Callable[[], object]] = {
        "decode the JPEG, check sum, metadata": lambda: open_photo(first),
        f"scale down to {size[1]}x{size[0]}": lambda: working_copy(levels, size),
        "network": lambda: perturbation(copy, **settings),
        "lift and add": lambda: add(photo.levels, delta, Linf(8 / 255)),
        "PSNR, largest change": lambda: changes(result, photo.levels),
        "encode the PNG": lambda: encode(result, photo, "png"),
    }
    rows = [{"part": name, "processor seconds": round(processor_seconds(part), 3)} for name, part in parts.items()]
    total = sum(row["processor seconds"] for row in rows)
    rows.append({"part": "one core", "processor seconds": round(total, 3)})
    OUT.print(make_table(f"one photo of {args.size}", rows))

    def pillow() -> None:
        Image.fromarray(result.numpy()).save(io.BytesIO(), format="PNG", compress_level=3)

    file = io.BytesIO()
    Image.fromarray(result.numpy()).save(file, format="PNG", compress_level=3)
    encoded = len(encode(result, photo, "png").getvalue())
    summary = {
        "photos": args.count, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1), "photos a second": round(args.count / seconds, 2),
        "processor seconds a photo": round(used / args.count, 2),
    }  # fmt: skip
    OUT.print(make_table("all photos, threads and batches as on the command line", [summary]))
    encoders = [
        {"encoder": "ours", "MB": round(encoded / 1e6, 1), "processor seconds": rows[5]["processor seconds"]},
        {
            "encoder": "Pillow, level 3", "MB": round(len(file.getvalue()) / 1e6, 1),
            "processor seconds": round(processor_seconds(pillow, 1), 2),
        },
    ]  # fmt: skip
    OUT.print(make_table("the PNG", encoders))
    (args.out / "speed.json").write_text(json.dumps({"parts": rows, **summary, "png": encoders}, indent=2) + "\n")


if __name__ == "__main__":
    main()
