"""Both one-pass methods beside random signs on tiny-inpaint: what a person sees, and what an edit makes of it.

    PYTHONPATH=src python training/check_one_pass.py --packs PACKS --out outputs/one-pass
    PYTHONPATH=src python training/check_one_pass.py --packs PACKS --out outputs/one-pass --diffvax work/diffvax/model

On the last training portraits, which diffvax.py keeps aside: each is to get a plain backdrop. A JSON line a method:
PSNR and CIEDE2000 of the protected photo, the structure that the edit keeps of the person, and how far its backdrop is
from mid-grey (DiffVax's loss: lower is more broken). pictures.png: protected photos over their edits, a pair of rows a
method.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from common import log, psnr, save_grid
from diffvax import CHECKED, backdrop, split
from gain import colours
from photos import load_packs
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.methods import METHODS
from editproof.metrics.contrast import contrast_structure

ROWS = {  # name: (method, whether it is told the mask)
    "noise, told": ("noise", True),
    "immunizer": ("immunizer", False),
    "immunizer, told": ("immunizer", True),
    "diffvax, told": ("diffvax", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--editor", default="tiny-inpaint")
    parser.add_argument("--diffvax", help="weights in the place of the embedded ones")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--steps", type=int, help="of the edits; the editor's own by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    editor = load_editor(args.editor, args.device)
    packs = split(load_packs(args.packs, "train", args.device), args.count)[1]
    photos = packs.portraits.float() / 255
    masks = backdrop(packs.persons, random.Random(0))
    prompts = [f"a portrait photo, plain {CHECKED[i % len(CHECKED)]} background" for i in range(args.count)]

    def edit(images: Tensor) -> Tensor:
        alone = zip(images.split(1), masks.split(1), prompts, strict=True)
        return torch.cat([editor.edit(x, text, mask=m, steps=args.steps) for x, m, text in alone])

    pictures = []
    for name, (method, told) in {"untouched": ("", False), **ROWS}.items():
        knobs = {"weights": args.diffvax} if method == "diffvax" and args.diffvax else {}
        mask = masks if told else None
        seen = METHODS[method](None, photos, mask=mask, budget=Linf(8 / 255), **knobs) if method else photos
        edited = edit(seen)
        to_grey = (2 * (edited - 0.5) * masks).abs().sum((1, 2, 3)) / masks.sum((1, 2, 3))
        shown = [colours(*pair).mean() for pair in zip(photos.cpu(), seen.cpu(), strict=True)]
        log(method=name, psnr=psnr(seen, photos).mean().item(), colour_mean=float(np.mean(shown)),
            person_structure=contrast_structure(edited, photos, 1 - masks).mean().item(),
            to_grey=to_grey.mean().item())  # fmt: skip
        pictures += [seen[:6], edited[:6]]
    save_grid(pictures, args.out / "pictures.png")


if __name__ == "__main__":
    main()
