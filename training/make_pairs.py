"""Fill a folder with photos, instructions and results, on all CPU cores, for tiny-kontext.

contexts.npy (N,3,H,W), targets.npy (N,K,3,H,W), both uint8, and prompts.json, K instructions for each photo.

python training/make_pairs.py --packs ../shared/data --out pairs --count 24000
"""

import argparse
import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from edits import Picture, draw_edit
from photos import SIZE, compose, load_packs, scene_crop

CHUNK = 64


def fill(packs_folder: Path, out: Path, worker: int, workers: int, count: int, seed: int) -> dict[int, list[str]]:
    """Worker `worker` makes every `workers`-th chunk; a chunk depends on its number and the seed only."""
    torch.set_num_threads(1)
    packs = load_packs(packs_folder, "train", "cpu")
    contexts, targets = (np.lib.format.open_memmap(out / f"{n}.npy", mode="r+") for n in ("contexts", "targets"))
    prompts = {}
    for start in range(worker * CHUNK, count, workers * CHUNK):
        own = 1_000_000 * seed + start + 1
        rng, size = random.Random(own), min(CHUNK, count - start)
        torch.manual_seed(own)
        batch = compose(packs, size, rng, scene_share=0.12, natural_share=0.4)
        where = [rng.randrange(len(packs.scenes)) for _ in range(size)]
        scenes = scene_crop(packs.scenes[where], blur=True)
        contexts[start : start + size] = (batch.images * 255).round().byte().numpy()
        for i in range(size):
            caption = packs.scene_captions[where[i]]
            picture = Picture(batch.images[i], batch.persons[i], batch.landmarks[i], scenes[i], caption)
            taken: set[str] = set()
            texts = []
            for k in range(targets.shape[1]):
                name, text, result = draw_edit(picture, rng, taken)
                taken.add(name)
                texts.append(text)
                targets[start + i, k] = (result * 255).round().byte().numpy()
            prompts[start + i] = texts
    return prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24_000)
    parser.add_argument("--edits-each", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    shapes = {"contexts": (args.count, 3, SIZE, SIZE), "targets": (args.count, args.edits_each, 3, SIZE, SIZE)}
    for name, shape in shapes.items():
        np.lib.format.open_memmap(args.out / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    prompts: dict[int, list[str]] = {}
    if args.workers == 1:
        prompts = fill(args.packs, args.out, 0, 1, args.count, args.seed)
    else:
        with ProcessPoolExecutor(args.workers) as pool:
            jobs = [
                pool.submit(fill, args.packs, args.out, w, args.workers, args.count, args.seed)
                for w in range(args.workers)
            ]
            for job in jobs:
                prompts.update(job.result())
    (args.out / "prompts.json").write_text(json.dumps([prompts[i] for i in range(args.count)]))


if __name__ == "__main__":
    main()
