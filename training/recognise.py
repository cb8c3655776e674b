"""In how many edits saved by measure_context.py the person is still recognised: a JSON line a method and instruction.

PYTHONPATH=src python training/recognise.py --packs ../shared/data --edits outputs/context

Needs `pip install editproof[faces]`. Recognised: the distance of dlib's embeddings is below .6; without a face in the
edit, not recognised.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import log
from photos import load_packs
from PIL import Image

from editproof.metrics.faces import distance, recognised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--edits", type=Path, required=True, help="what measure_context.py was given as --out")
    args = parser.parse_args()
    photos = load_packs(args.packs, args.split, "cpu").portraits.float() / 255
    for folder in sorted(path for path in args.edits.glob("*/*") if path.is_dir()):
        arrays = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.jpg"))]
        edits = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
        sources = photos[: len(edits)]
        log(
            run=folder.parent.name,
            edit=folder.name,
            photos=len(edits),
            recognised=recognised(edits, sources).nanmean().item(),
            distance=distance(edits, sources).nanmean().item(),
        )


if __name__ == "__main__":
    main()
