"""Train the embedded one-pass immunizer end to end against tiny-inpaint, over random masks it is mostly not told.

    python training/immunizer.py --pictures pictures --out work/immunizer --seconds 400

DiffVax trains towards a mid-grey edit; here the edit of the protected photo is pushed away from the edit of the photo
with the same noise (SSIM and L1 in the edited region), under a hard bound. The two losses were not compared.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from common import Average, cosine, log, save_grid, set_lr, timed_steps
from torch import Tensor

from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb, save_immunizer
from editproof.metrics import edit_change

EPS = (8 / 255, 16 / 255)


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def closeness(edited: Tensor, reference: Tensor, mask: Tensor, l1: float) -> Tensor:
    """(B,), lower = the edit is further from what it would have been, within the edited region."""
    apart = ((edited - reference).abs() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return 1 - edit_change(edited, reference, mask) - l1 * apart


def objective(
    network: NestedUNet,
    editor: Editor,
    images: Tensor,
    mask: Tensor,
    prompts: list[str],
    *,
    steps: int,
    l1: float,
    told: float,
    draw: random.Random,
) -> Tensor:
    """(B,) for one draw of noise, bound, and whether the network is told the mask (with probability `told`)."""
    seeds = [draw.randrange(2**40) for _ in images]
    known = mask if draw.random() < told else None
    eps = draw.choices(EPS, (0.35, 0.65))[0]
    with torch.no_grad():
        reference = editor.sample(images, prompts, mask=mask, steps=steps, generator=generators(seeds)).clamp(0, 1)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        delta = perturb(network, images, known, eps)
    protected = (images + delta).clamp(0, 1)
    edited = editor.sample(protected, prompts, mask=mask, steps=steps, generator=generators(seeds))
    return closeness(edited.clamp(-0.2, 1.2), reference, mask, l1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder made by make_pictures.py")
    parser.add_argument("--editor", default="tiny-inpaint")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--resume", type=Path, help="weights to start from")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--l1", type=float, default=2.0, help="weight of the L1 distance beside SSIM")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--told", type=float, default=0.2, help="share of the batches in which the network is told the mask"
    )
    parser.add_argument("--denoising-steps", type=int, nargs="+", default=[4])
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    args = parser.parse_args()
    torch.manual_seed(2)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    editor = load_editor(args.editor, dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    device, cuda = editor.device, editor.device.type == "cuda"
    images, masks = (np.load(args.pictures / f"{n}.npy", mmap_mode="r") for n in ("images", "masks"))
    captions = json.loads((args.pictures / "captions.json").read_text())
    pool = sorted(set(captions[:400]))  # any prompt may meet any photo; the editor keeps the text of each

    fresh = NestedUNet(in_channels=4, depths=args.depths, batch_norm="photo")
    network = (load_immunizer(args.resume) if args.resume else fresh).to(device).train()
    network.trained_eps, network.size = EPS[1], images.shape[-1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=cuda)
    average = Average(network, 0.995)
    draw = random.Random(3)
    running: list[float] = []
    for step, done in timed_steps(args.seconds, args.max_steps):
        set_lr(optimizer, args.lr * cosine(step, done))
        rows = draw.sample(range(len(images)), args.batch)
        photos = torch.from_numpy(np.stack([images[i] for i in rows])).to(device).float() / 255
        mask = (
            torch.from_numpy(np.stack([masks[i, draw.randrange(masks.shape[1])] for i in rows])[:, None])
            .to(device)
            .float()
        )
        share = mask.mean((1, 2, 3))
        useful = (share > 0) & (share < 1)  # where nothing is kept, or nothing is repainted, there is no lesson
        prompts = ["a portrait photo" if draw.random() < 0.3 else draw.choice(pool) for _ in rows]
        prompts = [p for p, keep in zip(prompts, useful.tolist(), strict=True) if keep]
        photos, mask = photos[useful], mask[useful]
        steps = draw.choice(args.denoising_steps)
        loss = objective(
            network, editor, photos, mask, prompts, steps=steps, l1=args.l1, told=args.told, draw=draw
        ).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update()
        running.append(loss.item())
        if step % 50 == 0:
            log(stage="immunizer", step=step, loss=sum(running[-50:]) / len(running[-50:]))
    average.store()
    network.eval()
    save_immunizer(network, args.out, half=True, trained_against=args.editor, steps=step)
    with torch.no_grad():
        delta = perturb(network, photos[:8], None, EPS[1])
    save_grid([photos[:8], (photos[:8] + delta).clamp(0, 1), delta / EPS[1] / 2 + 0.5], args.out / "samples.png")
    log(stage="immunizer", steps=step, loss=sum(running[-50:]) / len(running[-50:]))


if __name__ == "__main__":
    main()
