"""Effect against number of steps: the papers' settings and ours, at equal budget, on the embedded editors.

The effect is what `editproof.metrics.disruption` defines (for tiny-kontext, whose edits hardly differ from seed to
seed, the numerator alone: 1 - SSIM between the edits of the protected photo and of the photo). One JSON line for each
run: mean over photos, its standard error, PSNR, seconds a photo. The methods are not told the prompt of the edits.

    python benchmarks/effect_curves.py --out curves.jsonl --pack portraits-val.tar --count 16     # on a GPU
    python benchmarks/effect_curves.py --out curves.jsonl --only encoder --count 2 --side 128      # anywhere
"""

import argparse
import io
import json
import tarfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.methods import METHODS
from editproof.metrics.disruption import edit_change

PROMPTS = {"tiny-inpaint": "a portrait photo", "tiny-kontext": "a photo of this person"}
EPS = {"tiny-inpaint": 16 / 255, "tiny-kontext": 12.75 / 255}
ENCODER, DIFFUSION, GUARD = "photoguard-encoder", "photoguard-diffusion", "diffusionguard"


@dataclass(frozen=True)
class Run:
    """A point of a curve."""

    method: str
    curve: str  # "paper", or what is different in ours
    steps: int
    knobs: dict[str, Any] = field(default_factory=dict)
    editor: str = "tiny-inpaint"


class Falling:
    """Steps that begin at `first` x eps and fall to nothing along half a cosine."""

    def __init__(self, first: float, eps: float, steps: int) -> None:
        self.first, self.eps, self.steps = first, eps, steps

    def __call__(self, step: int) -> float:
        return self.first * self.eps * (0.5 + 0.5 * float(np.cos(np.pi * step / self.steps)))


HEAVY = {"momentum": 0.9}
PAPER, OURS, SLOPE, BEGUN, BOTH = "paper", "momentum", "momentum, falling", "from immunizer", "from immunizer, momentum"
SLOPED: dict[str, Any] = {**HEAVY, "falling": 0.5}
START = {"start": "immunizer"}

RUNS: tuple[Run, ...] = (
    Run("noise", "control", 1),
    Run("immunizer", "control", 1),
    Run(ENCODER, PAPER, 1000),
    *(Run(ENCODER, OURS, steps, HEAVY) for steps in (10, 20, 40, 80)),
    *(Run(ENCODER, SLOPE, steps, SLOPED) for steps in (10, 20, 40, 80)),
    *(Run(ENCODER, BOTH, steps, HEAVY | START) for steps in (10, 40)),
    *(Run(ENCODER, PAPER, steps) for steps in (20, 80)),
    *(Run(GUARD, SLOPE, steps, SLOPED) for steps in (20, 40, 80)),
    *(Run(GUARD, OURS, steps, HEAVY) for steps in (20, 40, 80)),
    Run(GUARD, PAPER, 80),
    *(Run(DIFFUSION, SLOPE, steps, SLOPED | {"samples": 1}) for steps in (6, 12, 20)),
    *(Run(DIFFUSION, OURS, steps, HEAVY | {"samples": 1}) for steps in (12, 20)),
    Run("noise", "control", 1, {}, "tiny-kontext"),
    *(Run("veto", SLOPE, steps, SLOPED | {"timesteps": 2}, "tiny-kontext") for steps in (10, 20, 40)),
    *(Run("veto", OURS, steps, {"timesteps": 4}, "tiny-kontext") for steps in (20, 40)),
    Run("veto", PAPER, 100, {}, "tiny-kontext"),
    *(Run("decontext", SLOPE, steps, SLOPED, "tiny-kontext") for steps in (40, 80)),
    *(Run("decontext", "momentum, steps of eps", steps, HEAVY | {"step_size": 12.75 / 255}, "tiny-kontext")
      for steps in (20, 40, 80)),
    Run("decontext", PAPER, 80, {}, "tiny-kontext"),
    Run(GUARD, PAPER, 800),
    Run("decontext", PAPER, 800, {}, "tiny-kontext"),
    Run(DIFFUSION, PAPER, 20, {"samples": 10}),
    Run(GUARD, BOTH, 40, HEAVY | START),
    Run(DIFFUSION, BOTH, 12, HEAVY | START | {"samples": 1}),
    Run(DIFFUSION, PAPER, 200, {"samples": 10}),
)  # fmt: skip


def load_photos(pack: Path | None, count: int, side: int) -> tuple[Tensor, Tensor]:
    """Photos (B,3,side,side) in [0,1] and masks (B,1,side,side) of a pack, or scikit-image's astronaut without one."""
    if pack is None:
        from editproof.bench.demo import astronaut

        photo, mask = astronaut(side)
        return photo.expand(count, -1, -1, -1), mask.expand(count, -1, -1, -1)
    pairs = []
    with tarfile.open(pack) as tar:
        rows = [json.loads(line) for line in tar.extractfile("metadata.jsonl").read().splitlines()]  # type: ignore[union-attr]
        for row in rows[:count]:
            images = [Image.open(io.BytesIO(tar.extractfile(row[key]).read())) for key in ("file_name", "mask")]  # type: ignore[union-attr]
            photo, mask = (image.resize((side, side), Image.Resampling.BICUBIC) for image in images)
            pairs.append((np.array(photo.convert("RGB")), np.array(mask.convert("L")) > 127))
    photos = torch.stack([torch.from_numpy(photo).permute(2, 0, 1) for photo, _ in pairs]).float() / 255
    return photos, torch.stack([torch.from_numpy(mask)[None] for _, mask in pairs]).float()


class Bench:
    """An editor, photos, and the edits of the photos themselves."""

    def __init__(self, name: str, photos: Tensor, masks: Tensor, edit_steps: int | None) -> None:
        self.editor: Editor = load_editor(name)
        self.name, self.steps = name, edit_steps
        self.photos = photos.to(self.editor.device)
        self.masks = masks.to(self.editor.device) if self.editor.masked else None
        self.edits, other = self.edited(self.photos, 0), self.edited(self.photos, 1)
        self.scale = edit_change(other, self.edits, self.masks) if self.editor.masked else torch.ones(len(photos))

    def edited(self, images: Tensor, seed: int) -> Tensor:
        return self.editor.edit(images, PROMPTS[self.name], mask=self.masks, steps=self.steps, seed=seed)

    def row(self, run: Run) -> dict[str, Any]:
        """Protect, edit, compare."""
        eps, knobs = EPS[self.name], dict(run.knobs)
        if "falling" in knobs:
            knobs["step_size"] = Falling(knobs.pop("falling"), eps, run.steps)
        started = time.perf_counter()
        safe = METHODS[run.method](
            self.editor, self.photos, mask=self.masks, budget=Linf(eps), steps=run.steps, **knobs
        )
        seconds = (time.perf_counter() - started) / len(safe)
        change = edit_change(self.edited(safe, 0), self.edits, self.masks)
        effect = (change / self.scale.to(change.device)).double().cpu()
        spread = effect.std(correction=0) / len(effect) ** 0.5
        error = (safe - self.photos).square().flatten(1).mean(1).clamp_min(1e-12)
        return {
            "effect": round(effect.mean().item(), 4), "sem": round(spread.item(), 4),
            "psnr": round((-10 * error.log10()).mean().item(), 2), "seconds_a_photo": round(seconds, 3),
            "each": [round(e, 3) for e in effect.tolist()],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file, which grows by each row")
    parser.add_argument("--pack", type=Path, help="a .tar of photos and masks; the demo's photo if not given")
    parser.add_argument("--count", type=int, default=16, help="the first photos of the pack")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--only", help="runs whose method or curve holds this word")
    parser.add_argument("--skip", help="leave out this method")
    parser.add_argument("--most", type=int, default=10**6, help="leave out runs of more gradients than this")
    parser.add_argument("--edit-steps", type=int, help="of the edits; the editor's own if not given")
    parser.add_argument("--limit", type=float, default=10**6, help="seconds after which no run is begun")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    started, benches = time.perf_counter(), dict[str, Bench]()
    photos, masks = load_photos(args.pack, args.count, args.side)
    with args.out.open("a") as file:
        for run in RUNS:
            if args.only and args.only not in (run.method + " " + run.curve + " " + run.editor):
                continue
            if args.skip == run.method:
                continue
            gradients = run.steps * run.knobs.get("samples", 1)
            if gradients > args.most or time.perf_counter() - started > args.limit:
                continue
            row: dict[str, Any] = {"editor": run.editor, "method": run.method, "curve": run.curve, "steps": run.steps,
                                   "knobs": run.knobs, "photos": len(photos), "side": args.side}  # fmt: skip
            try:
                if run.editor not in benches:
                    benches[run.editor] = Bench(run.editor, photos, masks, args.edit_steps)
                row |= benches[run.editor].row(run)
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                traceback.print_exc()
            file.write(json.dumps(row) + "\n")
            file.flush()
            short = {key: value for key, value in row.items() if key != "each"}
            print(json.dumps(short), f"after {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
