"""Disruption D of every method on unseen portraits, the face kept, all else repainted: a JSON line a method and eps.

    python training/measure_disruption.py --packs ../shared/data --count 32 --eps 8/255 16/255 --out outputs/disruption

The immunizer is not told the mask unless asked (immunizer+mask). D is the ratio of the means over photos of what the
protection and what another seed changes, with its bootstrap interval, and the median of the photos' ratios.
"""

import argparse
import time
from fractions import Fraction
from pathlib import Path

import torch
from common import log, psnr, save_grid
from holes import face, polygon
from photos import load_packs

from editproof.bench.estimates import bootstrap
from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.methods import METHODS, PRESETS, ready
from editproof.metrics import edit_change

PROMPT, RAISED = "a portrait photo", 35


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="tiny-inpaint")
    parser.add_argument("--weights", help="immunizer other than the embedded one")
    parser.add_argument("--methods", nargs="+", default=[*ready(), "immunizer+mask"])
    parser.add_argument("--eps", nargs="+", default=["16/255"])
    parser.add_argument("--preset", default="fast", choices=PRESETS)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    editor = load_editor(args.model)
    packs = load_packs(args.packs, args.split, editor.device.type)
    photos = packs.portraits[: args.count].float() / 255
    masks = torch.stack([1 - polygon(face(m, RAISED), photos.shape[-1])[None] for m in packs.landmarks[: args.count]])

    def edit(images: torch.Tensor, seed: int) -> torch.Tensor:
        parts = zip(images.split(args.batch), masks.split(args.batch), strict=True)
        return torch.cat([editor.edit(i, PROMPT, mask=m, seed=seed) for i, m in parts])

    reference, other = edit(photos, 0), edit(photos, 1)
    between_seeds = edit_change(other, reference, masks)
    log(photos=len(photos), device=str(editor.device), between_seeds=between_seeds.mean().item())
    rows = [photos[:8], reference[:8], other[:8]]
    for eps in args.eps:
        for label in args.methods:
            name = label.removesuffix("+mask")
            knobs = dict(METHODS[name].fast if args.preset == "fast" else {})
            if name == "immunizer" and args.weights:
                knobs["weights"] = args.weights
            told = None if label == "immunizer" else masks
            start, protected = time.perf_counter(), []
            for i in range(0, len(photos), args.batch):
                chosen = slice(i, i + args.batch)
                mask = None if told is None else told[chosen]
                protected.append(
                    METHODS[name](editor, photos[chosen], mask=mask, budget=Linf(float(Fraction(eps))), seed=0, **knobs)
                )
            safe = torch.cat(protected)
            seconds = time.perf_counter() - start
            edited = edit(safe, 0)
            change = edit_change(edited, reference, masks)
            low, high = (
                edge.item() for edge in bootstrap(change[None].cpu().numpy(), between_seeds[None].cpu().numpy())[1:]
            )
            log(
                method=label, eps=eps, D=(change.mean() / between_seeds.mean()).item(), low=low, high=high,
                D_median=(change / between_seeds).median().item(), psnr=psnr(safe, photos).mean().item(),
                linf=(safe - photos).abs().max().item() * 255, seconds=seconds, **knobs,
            )  # fmt: skip
            rows += [safe[:8], edited[:8]]
    save_grid(rows, args.out / "edits.jpg")


if __name__ == "__main__":
    main()
