"""Train an attacker's network that takes a public one-pass protection off again, and say what it undoes.

    python training/inverse.py --photos portraits-train/images --test portraits-val/images --out inverse.safetensors

Pairs are made with the shipped network (`immunizer`), as anybody can. Prints a JSON line a minute, then one for each
budget of the test photos: how much of the perturbation is left (1 all, 0 nothing) and the PSNR to the original before
and after. The file is what the counter-attack `inverse@inverse.safetensors` works with.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.counters.inverse import InverseNet, save_inverse, undo
from editproof.metrics import psnr
from editproof.photo.reading import open_photo
from editproof.protection.apply import protect
from editproof.resolution import working_copy

SIDE = 256  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--eps", type=float, default=8, help="of 255: the budget that the attacker learns")
    parser.add_argument("--count", type=int, default=120, help="photos to learn from")
    parser.add_argument("--test-count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=96, help="pixels of a side, a multiple of 4")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    photos = load(args.photos, args.count)
    safe = protected(photos, args.eps, args.device)
    log(pairs=len(photos), psnr=psnr(safe, photos).mean().item())
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = InverseNet().to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=args.steps)
    draw, told = torch.Generator().manual_seed(0), time.perf_counter()
    for step in range(args.steps):
        given, added = crops(safe, safe - photos, args.batch, args.crop, draw)
        loss = (network(given.to(device)) - added.to(device)).abs().mean() * 255
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if time.perf_counter() - told > 60 or step == args.steps - 1:
            told = time.perf_counter()
            log(step=step + 1, mean_error_levels=loss.item())
    save_inverse(network.cpu(), args.out)
    fresh = load(args.test, args.test_count)
    for eps in sorted({args.eps, 16.0}):
        test(fresh, eps, args.out, args.device)


def load(folder: Path, count: int) -> Tensor:
    """The first `count` photos of a folder (B,3,SIDE,SIDE), those that are not square scaled to it."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    return torch.cat([working_copy(open_photo(path).pixels[None], (SIDE, SIDE)) for path in paths])


def protected(photos: Tensor, eps: float, device: str | None) -> Tensor:
    return torch.cat(
        [protect(part, method="immunizer", budget=Linf(eps / 255), device=device) for part in photos.split(16)]
    )


def crops(images: Tensor, added: Tensor, count: int, side: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random parts of random pairs, half of them mirrored."""
    chosen = []
    for number in torch.randint(len(images), (count,), generator=draw).tolist():
        top, left, mirrored = torch.randint(images.shape[-1] - side + 1, (3,), generator=draw).tolist()
        pair = torch.stack([images[number], added[number]])[..., top : top + side, left : left + side]
        chosen.append(pair.flip(-1) if mirrored % 2 else pair)
    stacked = torch.stack(chosen)
    return stacked[:, 0], stacked[:, 1]


def test(photos: Tensor, eps: float, weights: Path, device: str | None) -> None:
    safe = protected(photos, eps, device)
    cleaned = undo(safe, weights=weights)
    added, left = (safe - photos).flatten(1).double(), (cleaned - photos).flatten(1).double()
    share = ((left * added).sum(1) / added.square().sum(1)).mean().item()
    before, after, plain = (psnr(x, photos).mean().item() for x in (safe, cleaned, undo(photos, weights=weights)))
    log(eps=eps, photos=len(photos), left=share, psnr_protected=before, psnr_cleaned=after, psnr_of_plain=plain)


def log(**values: object) -> None:
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}), flush=True)


if __name__ == "__main__":
    main()
