"""What is left of a protection after counters, made with and without counters in the attack: a JSON line a counter.

    python benchmarks/transform.py DATA --transform jpeg-diff:75,resize:0.5 --counters none,jpeg:75,resize:0.5

DATA holds images/ and, by the same names, masks/ as PNG (white = may be repainted). Without --transform the attack sees
the photo as it is. D is between the edits of the protected and of the original photo after the same counter.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import torch

from editproof import Linf, open_mask, open_photo
from editproof.counters import counter_label, parse_counter
from editproof.editors import load_editor
from editproof.methods import METHODS, PRESETS
from editproof.metrics import disruption, psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--transform")
    parser.add_argument("--counters", default="none,jpeg:75,resize:0.5")
    parser.add_argument("--method", default="photoguard-encoder")
    parser.add_argument("--eps", default="16/255")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--edit-steps", type=int, default=10)
    parser.add_argument("--prompt", default="a portrait photo")
    args = parser.parse_args()
    editor = load_editor("tiny-inpaint")
    paths = sorted((args.data / "images").iterdir())[args.first :][: args.count]
    photos = torch.stack([open_photo(path).pixels for path in paths])
    masks = torch.cat([open_mask(args.data / "masks" / f"{path.stem}.png", photos.shape[-2:]) for path in paths])
    settings = {**PRESETS["fast"][args.method], "steps": args.steps, "transform": args.transform}
    protected = METHODS[args.method](
        editor, photos, mask=masks, budget=Linf(float(Fraction(args.eps))), prompt="", **settings
    )
    grey = editor.encode(torch.full_like(photos[:1], 0.5))
    for text in args.counters.split(","):
        counter = parse_counter(text, editor)
        before, after = counter(photos), counter(protected)
        change = disruption(editor, before, after, args.prompt, mask=masks, steps=args.edit_steps)
        distance = [(editor.encode(x, masks) - grey).flatten(1).norm(dim=1).mean().item() for x in (before, after)]
        row = {
            "method": args.method, "eps": args.eps, "transform": args.transform, "counter": counter_label(text),
            "photos": len(photos), "D": change.mean().item(), "D_each": change.tolist(),
            "distance_to_grey": distance, "psnr": psnr(protected, photos).mean().item(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
