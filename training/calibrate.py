"""What the thresholds of editproof.metrics.success come from: strangers taken for one person, structure of clean edits.

    python training/calibrate.py --portraits PACK/portraits-train --count 30

PORTRAITS is an unpacked pack: images/, masks/ (white = background) and metadata.jsonl. Prints JSON lines: the L2
distance of dlib's embeddings at which a share of all pairs of different people match, then, for each embedded editor,
prompt and version of the photo, quantiles of `structure` and the shares that are obeyed and kept.
"""

import argparse
import json
import math
from pathlib import Path

import torch

from editproof.budgets import Linf
from editproof.editors import EDITORS, load_editor
from editproof.metrics import kept, obeyed, structure
from editproof.metrics.instructions import COLOURS
from editproof.metrics.trying import try_edits
from editproof.people.faces import embeddings
from editproof.photo.masks import open_mask
from editproof.photo.reading import open_photo
from editproof.protection.apply import protect

VERSIONS = {"clean": None, "noise 16/255": ("noise", 16), "immunizer 16/255": ("immunizer", 16)}
PROMPTS = {
    True: ("a portrait photo, plain {} background",),
    False: ("change the background to {}", "make it black and white"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--count", type=int, default=30, help="photos that are edited; all are compared as faces")
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    rows = [json.loads(line) for line in (args.portraits / "metadata.jsonl").read_text().splitlines()]
    false_matches([args.portraits / row["file_name"] for row in rows])
    chosen = rows[:: max(1, len(rows) // args.count)][: args.count]
    for name, info in EDITORS.items():
        if not info.embedded:
            continue
        editor = load_editor(name)
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for number, row in enumerate(chosen):
            photo = open_photo(args.portraits / row["file_name"])
            mask, images = open_mask(args.portraits / row["mask"], photo.size), photo.pixels[None]
            versions = {
                label: images if how is None else protect(images, method=how[0], budget=Linf(how[1] / 255), seed=1)
                for label, how in VERSIONS.items()
            }
            for prompt in PROMPTS[editor.masked]:
                asked = prompt.format(list(COLOURS)[number % len(COLOURS)])
                trials = try_edits(editor, images, versions, asked, mask=mask, person=1 - mask, steps=args.steps)
                for label, trial in trials.items():
                    values = structure(trial).item(), obeyed(trial).item(), kept(trial).item()
                    found.setdefault((prompt, label), []).append(values)
        for (prompt, label), values in found.items():
            table = torch.tensor(values)
            low, tenth, middle = table[:, 0].quantile(torch.tensor([0.0, 0.1, 0.5])).tolist()
            log(editor=name, prompt=prompt, version=label, photos=len(values), structure_least=low,
                structure_tenth=tenth, structure_median=middle, obeyed=table[:, 1].nanmean().item(),
                kept=table[:, 2].nanmean().item())  # fmt: skip


def false_matches(paths: list[Path]) -> None:
    faces = torch.cat([embeddings(open_photo(path).pixels[None]) for path in paths])
    faces = faces[~faces.isnan().any(1)]
    one, two = torch.triu_indices(len(faces), len(faces), 1)
    apart = torch.cdist(faces, faces)[one, two].sort().values
    for share in (1e-2, 1e-3, 1e-4):
        at = apart[math.floor(share * len(apart))].item()
        log(faces=len(faces), pairs=len(apart), false_matches=share, threshold=at)


def log(**values: object) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}), flush=True)


if __name__ == "__main__":
    main()
