"""Fill a folder with training pictures and masks, on all CPU cores: images.npy, masks.npy (uint8), captions.json.

python training/make_pictures.py --packs ../shared/data --out pictures --count 32000
"""

import argparse
import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from holes import draw_masks
from photos import SIZE, compose, load_packs

CHUNK = 64


def fill(packs_folder: Path, out: Path, worker: int, workers: int, count: int) -> dict[int, str]:
    """Worker `worker` makes every `workers`-th chunk; a chunk depends on its number only."""
    torch.set_num_threads(1)
    packs = load_packs(packs_folder, "train", "cpu")
    images, masks = (np.lib.format.open_memmap(out / f"{n}.npy", mode="r+") for n in ("images", "masks"))
    captions = {}
    for start in range(worker * CHUNK, count, workers * CHUNK):
        rng, size = random.Random(start), min(CHUNK, count - start)
        torch.manual_seed(start)
        batch = compose(packs, size, rng)
        images[start : start + size] = (batch.images * 255).round().byte().numpy()
        for k in range(masks.shape[1]):
            masks[start : start + size, k] = draw_masks(batch.persons, batch.landmarks, rng)[:, 0].byte().numpy()
        captions.update({start + i: c for i, c in enumerate(batch.captions)})
    return captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=32_000)
    parser.add_argument("--masks-each", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    shapes = {"images": (args.count, 3, SIZE, SIZE), "masks": (args.count, args.masks_each, SIZE, SIZE)}
    for name, shape in shapes.items():
        np.lib.format.open_memmap(args.out / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    captions: dict[int, str] = {}
    if args.workers == 1:
        captions = fill(args.packs, args.out, 0, 1, args.count)
    else:
        with ProcessPoolExecutor(args.workers) as pool:
            jobs = [pool.submit(fill, args.packs, args.out, w, args.workers, args.count) for w in range(args.workers)]
            for job in jobs:
                captions.update(job.result())
    (args.out / "captions.json").write_text(json.dumps([captions[i] for i in range(args.count)]))


if __name__ == "__main__":
    main()
