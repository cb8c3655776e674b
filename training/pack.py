"""Bring a trained pipeline's folder to 8 bits a weight, as it is shipped, or back.

    PYTHONPATH=src python training/pack.py work/tiny-inpaint/model work/tiny-inpaint-int8
    PYTHONPATH=src python training/pack.py work/tiny-inpaint-int8 work/tiny-inpaint-again/model --back

`load_editor` takes either. --back: float16, in diffusers' layout, which `--resume` of a training script wants.
"""

import argparse
import shutil
from pathlib import Path

import diffusers
import torch
from common import log
from torch import nn

from editproof.editors.packed import packed_parts, save_packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--back", action="store_true")
    args = parser.parse_args()
    if args.back:
        parts = packed_parts(args.model, torch.float16)
        diffusers.DiffusionPipeline.from_pretrained(args.model, **parts).save_pretrained(args.out)
    else:
        pipe = diffusers.DiffusionPipeline.from_pretrained(args.model, dtype=torch.float32)
        shutil.copytree(args.model, args.out, dirs_exist_ok=True)
        for name, part in pipe.components.items():
            if isinstance(part, nn.Module):
                save_packed(part, args.out / name)
    sizes = {str(path.relative_to(args.out)): path.stat().st_size for path in args.out.rglob("*") if path.is_file()}
    log(stage="packed", bytes=sum(sizes.values()), largest=max(sizes.values()), files=len(sizes))


if __name__ == "__main__":
    main()
