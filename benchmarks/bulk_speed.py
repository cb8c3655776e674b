"""`editproof bulk` with one worker and with two, over the same photos: seconds that passed, and of the processor.

    python benchmarks/bulk_speed.py --count 12 --size 3000x4000 --out outputs/bulk-speed

On a machine that others use, the processor's seconds for a photo are what can be compared: they should not grow with
the workers, and no worker should wait for another.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

from PIL import Image
from skimage import data

from editproof.bulk.run import protect_many
from editproof.protection.settings import ProtectSettings


def photos(folder: Path, count: int, height: int, width: int) -> None:
    """JPEGs that differ in one row of pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(data.astronaut()).resize((width, height))
    for i in range(count):
        picture.paste((i, i, i), (0, 0, width, 1))
        picture.save(folder / f"{i:04}.jpg", quality=90)


def processor() -> float:
    """Seconds that this process's children have used, those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--size", default="3000x4000", help="height x width")
    parser.add_argument("--out", type=Path, default=Path("outputs/bulk-speed"))
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    height, width = map(int, asked.size.split("x"))
    photos(asked.out / "photos", asked.count, height, width)
    for workers in (1, 2):
        used, started, first = processor(), time.perf_counter(), 0.0
        for done, _row in enumerate(
            protect_many(
                str(asked.out / "photos"), str(asked.out / f"by-{workers}"), ProtectSettings(device="cpu"),
                workers=workers,
            )
        ):  # fmt: skip
            first = first or time.perf_counter() - started
            count = done + 1
        passed = time.perf_counter() - started
        print(json.dumps({
            "workers": workers, "photos": count, "seconds": round(passed, 1), "until_the_first": round(first, 1),
            "photos_a_second_after_it": round((count - 1) / (passed - first), 3),
            "processor_seconds_a_photo": round((processor() - used) / count, 2), "load": round(os.getloadavg()[0], 1),
        }), flush=True)  # fmt: skip
    same = all(
        path.read_bytes() == (asked.out / "by-2" / path.name).read_bytes()
        for path in (asked.out / "by-1").glob("*.png")
    )
    print("the same bytes" if same else "other bytes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
