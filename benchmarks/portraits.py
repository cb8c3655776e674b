"""Data for configs/own.yml from a pack of portraits: photos, masks, and what tiny-kontext's edits should be.

    python benchmarks/portraits.py shared/data/portraits-val DATA --start 38 --count 24

PACK holds images/, masks/ (white = background) and metadata.jsonl. The photos are kept as they are. The truths are
exact: the photo itself, its grey version (luma of Rec. 601), its mirror image.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from editproof.photo.reading import open_photo, save_png

LUMA = torch.tensor([0.299, 0.587, 0.114])
TRUTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "a photo of this person": lambda photo: photo,
    "make it black and white": lambda photo: (photo * LUMA[:, None, None]).sum(0, keepdim=True).expand(3, -1, -1),
    "mirror the picture": lambda photo: photo.flip(-1),
}


def main() -> None:
    """Write DATA/images, masks, truths and metadata.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--start", type=int, default=0, help="photos of the pack that are left out at its start")
    parser.add_argument("--count", type=int, default=32)
    args = parser.parse_args()
    rows = [json.loads(line) for line in (args.pack / "metadata.jsonl").read_text().splitlines()]
    rows = rows[args.start : args.start + args.count]
    for folder in ("images", "masks"):
        (args.data / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        image, mask = Path(row["file_name"]), Path(row["mask"])
        shutil.copy(args.pack / image, args.data / "images" / image.name)
        shutil.copy(args.pack / mask, args.data / "masks" / mask.name)
        photo = open_photo(args.pack / image).pixels
        truths = [f"truths/{image.stem}-{number}.png" for number in range(len(TRUTHS))]
        for name, make in zip(truths, TRUTHS.values(), strict=True):
            save_png(args.data / name, make(photo))
        line = {"file_name": f"images/{image.name}", "mask": f"masks/{mask.name}"}
        lines.append(json.dumps({**line, "prompts": list(TRUTHS), "truths": truths}))
    (args.data / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} photos in {args.data}")


if __name__ == "__main__":
    main()
