"""What protections leave of tiny-kontext's edits: dB to the exact results, on unseen portraits. A JSON line a method.

python training/measure_context.py --packs ../shared/data --out outputs/context
python training/measure_context.py --packs ../shared/data --out outputs/context --variants FILE

FILE has a JSON line for each run: {"method": "decontext", "eps": "12.75/255", "knobs": {"steps": 100}}. Methods are not
told the instructions that they are measured with. The edits are saved for training/recognise.py.
"""

import argparse
import json
import time
from fractions import Fraction
from pathlib import Path

import torch
from common import log, psnr, save_grid
from edits import luma, zoom_in
from photos import load_packs
from PIL import Image
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.methods import METHODS

TRUTHS = {
    "a photo of this person": lambda photo: photo,
    "make it black and white": lambda photo: luma(photo).expand(3, -1, -1),
    "mirror the picture": lambda photo: photo.flip(-1),
    "zoom in on the face": zoom_in,
}
RUNS = [
    *({"method": n, "eps": "12.75/255"} for n in ("noise", "photoguard-encoder", "photoguard-diffusion", "decontext")),
    *({"method": n, "eps": eps} for n in ("autoencoder", "facelock") for eps in ("8/255", "12.75/255")),
    *({"method": "veto", "eps": eps} for eps in ("4/255", "8/255", "12.75/255")),
]  # fmt: skip


def save_photos(images: Tensor, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate((images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()):
        Image.fromarray(image).save(folder / f"{number:03}.jpg", quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="tiny-kontext")
    parser.add_argument("--variants", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1e9, help="no new run is started after this time")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    began = time.perf_counter()
    editor = load_editor(args.model, dtype=torch.float32)
    photos = load_packs(args.packs, args.split, "cpu").portraits[: args.count].float() / 255
    truths = {prompt: torch.stack([make(p) for p in photos]) for prompt, make in TRUTHS.items()}
    runs = RUNS
    if args.variants:
        runs = [json.loads(line) for line in args.variants.read_text().splitlines() if line.strip()]
    rows = [photos[:8]]
    for number, run in enumerate([None, *runs]):
        if time.perf_counter() - began > args.seconds:
            break
        start, safe, label, about = time.perf_counter(), photos, "none", {}
        if run is not None:
            about = {**METHODS[run["method"]].fast, **run.get("knobs", {})}
            label = f"{number:02}-{run['method']}"
            budget = Linf(float(Fraction(run["eps"].split("/")[0]) / 255))
            safe = torch.cat([
                METHODS[run["method"]](editor, part.to(editor.device), budget=budget, **about).cpu()
                for part in photos.split(args.batch)
            ])  # fmt: skip
        seconds = (time.perf_counter() - start) / len(photos)
        scores = {}
        for prompt, truth in truths.items():
            parts = [editor.edit(part.to(editor.device), prompt, seed=7).cpu() for part in safe.split(args.batch)]
            edited = torch.cat(parts)
            scores[prompt] = psnr(edited, truth).mean().item()
            save_photos(edited, args.out / label / prompt.replace(" ", "-"))
            if prompt in ("a photo of this person", "zoom in on the face"):
                rows.append(edited[:8])
        rows.append(safe[:8])
        visible = psnr(safe, photos).mean().item() if run else None
        log(run=label, eps=run and run["eps"], mean=sum(scores.values()) / len(scores), visible=visible,
            seconds=seconds, **scores, **about)  # fmt: skip
        save_grid(rows, args.out / "edits.jpg")


if __name__ == "__main__":
    main()
