"""What down-scaling leaves of a protection that was added at 3000x4000: D there, relative to D at the editor's size.

    python benchmarks/native_resolution.py --out outputs/native

Photos are scikit-image's (public domain or CC0), or those of --photos, cut to 3:4, enlarged to --size with grain of 2
levels, protected at that size, and then scaled down by Pillow as an attacker would: the whole picture, or its middle
square. "at the editor's size" protects the small copy instead. All but an ellipse in the middle is repainted; D is as
in editproof.metrics.disruption. "given back" is the share of the perturbation that is in the small copy, as
editproof.protection.task.perturbation_left counts it. Rows go to rows.jsonl; a killed run goes on where it was.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.budgets import Linf
from editproof.cli.display import OUT, make_table, progress_bar
from editproof.editors import load_editor
from editproof.metrics import edit_change
from editproof.photo.reading import open_photo
from editproof.protection.apply import method_settings, protect
from editproof.resolution import working_size

SCALERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX}
FRAMES = ("whole", "square")
SMALL, NATIVE, BACK = "D at the editor's size", "D native", "given back"  # what a row holds
FACE = (slice(0, 256), slice(128, 320))  # of the astronaut: rows, columns
NAMES = ("face", "astronaut", "camera", "chelsea", "coffee", "rocket", "stereo_motorcycle")


def load(name: str, folder: Path | None) -> np.ndarray:
    """(H, W, 3) uint8."""
    if folder is not None:
        return open_photo(folder / name).levels.numpy()
    import skimage.data

    if name == "face":
        return np.ascontiguousarray(skimage.data.astronaut()[FACE])
    picture = getattr(skimage.data, name)()
    picture = picture[0] if isinstance(picture, tuple) else picture
    return np.asarray(Image.fromarray(picture).convert("RGB"))


def enlarge(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a photo at height x width, with grain, so that it has detail as fine as its pixels."""
    h, w = picture.shape[:2]
    scale = min(h / height, w / width)
    top, left = (h - height * scale) / 2, (w - width * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    large = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box)
    grain = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return (np.asarray(large) + grain).round().clip(0, 255).astype(np.uint8)


def small(picture: np.ndarray, frame: str, scaler: str, side: int) -> Tensor:
    """What an attacker edits: (1, 3, h, w) in [0, 1]."""
    height, width = picture.shape[:2]
    if frame == "square":
        side_long = min(height, width)
        top, left = (height - side_long) // 2, (width - side_long) // 2
        picture = np.ascontiguousarray(picture[top : top + side_long, left : left + side_long])
    size = working_size(*picture.shape[:2], side)
    scaled = Image.fromarray(picture).resize((size[1], size[0]), SCALERS[scaler])
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)[None].float() / 255


def ellipse(height: int, width: int) -> Tensor:
    """A mask that keeps an ellipse in the middle: (1, 1, height, width)."""
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return ((y / 0.5) ** 2 + (x / 0.5) ** 2 > 1).float()[None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos instead of scikit-image's")
    parser.add_argument("--count", type=int, default=7)
    parser.add_argument("--size", default="3000x4000", help="width x height")
    parser.add_argument("--method", default="immunizer")
    parser.add_argument("--method-steps", type=int)
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--editor", default="tiny-inpaint")
    parser.add_argument("--edit-steps", type=int, default=10)
    parser.add_argument("--prompt", default="a portrait photo")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.jsonl"
    settings = {k: str(v) for k, v in vars(args).items() if k not in ("out", "count")}
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {tuple(row["key"]) for row in rows if row["settings"] == settings}
    files = sorted(p.name for p in args.photos.iterdir()) if args.photos else list(NAMES)
    keys = [(n, f, s) for n in files[: args.count] for f in FRAMES for s in SCALERS]
    with progress_bar() as bar:
        task = bar.add_task("edits", total=len(keys), completed=len(done))
        editor = load_editor(args.editor)
        knobs = {
            "method": args.method, "editor": editor, "budget": Linf(float(Fraction(args.eps))),
            **method_settings(args.method, "fast", args.method_steps, {}),
        }  # fmt: skip
        for name in dict.fromkeys(key[0] for key in keys if key not in done):
            original = enlarge(load(name, args.photos), height, width)
            pixels = torch.from_numpy(original).permute(2, 0, 1)[None] / 255
            native = (protect(pixels, **knobs)[0] * 255).round().byte().permute(1, 2, 0).numpy()
            for key in (key for key in keys if key[0] == name and key not in done):
                before, after = (small(picture, *key[1:], editor.size) for picture in (original, native))
                reference = protect(before, **knobs)
                mask = ellipse(*before.shape[-2:])
                edited = [
                    editor.edit(x, args.prompt, mask=mask, seed=seed, steps=args.edit_steps)
                    for x, seed in ((before, 0), (before, 1), (reference, 0), (after, 0))
                ]
                seeds = edit_change(edited[1], edited[0], mask)
                added = reference - before
                row = {
                    "settings": settings,
                    "key": list(key),
                    SMALL: (edit_change(edited[2], edited[0], mask) / seeds).item(),
                    NATIVE: (edit_change(edited[3], edited[0], mask) / seeds).item(),
                    BACK: ((after - before) * added).sum().item() / added.square().sum().item(),
                }
                rows.append(row)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                bar.advance(task)
    table = []
    for frame in FRAMES:
        for scaler in SCALERS:
            chosen = [row for row in rows if row["settings"] == settings and row["key"][1:] == [frame, scaler]]
            at, own, back = (np.mean([row[name] for row in chosen]) for name in (SMALL, NATIVE, BACK))
            table.append(
                {
                    "frame": frame, "scaler": scaler, "photos": len(chosen), SMALL: f"{at:.3f}",
                    NATIVE: f"{own:.3f}", "left": f"{own / at:.0%}", BACK: f"{back:.0%}",
                }
            )  # fmt: skip
    OUT.print(make_table(f"{args.method}, eps {args.eps}, {args.size}", table))


if __name__ == "__main__":
    main()
