"""Fit a narrower autoencoder (diffusers' AutoencoderTiny) to a teacher, layer by layer, on a CPU in minutes.

    PYTHONPATH=src python training/narrow.py --space sd1 --weights WEIGHTS --packs PACKS --out work/sd1

The student has as many layers as the teacher, but fewer channels (--width), chosen as channels.py says. Each
layer's weights are solved by least squares, so that what the student has so far gives what the teacher has there
(channel pruning, arXiv 1707.06168); then each residual block is fitted by gradient steps. A layer sees what the
earlier ones got wrong and makes up for it. Photos as they are, noisy, after JPEG and attacked at the teacher. --out
holds a model folder, which students.py trains on as a whole (--resume), samples.png and log.jsonl.
"""

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from channels import choose, patches, places_in, segments
from common import begin, log, save_grid
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from pictures import crops, load_pool, noisy
from spaces import CHANNELS, Space, load_space
from students import attack, check
from torch import Tensor, nn

from editproof.counters.jpeg_diff import jpeg_diff


def solve(conv: nn.Conv2d, x: Tensor, wanted: Tensor, most: int) -> float:
    """Set the weights so that conv(x) is as near as can be to `wanted`, every picture counting alike; returns the
    relative error."""
    places = places_in(x, conv.stride[0], most)
    even = 1 / wanted.std((1, 2, 3))[places[0], None].double()
    seen = patches(x, conv, places).double()
    if conv.bias is not None:
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
    seen, truth = seen * even, wanted[places[0], :, places[1], places[2]].double() * even
    gram = seen.T @ seen
    gram = gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram, seen.T @ truth)
    if conv.bias is not None:
        conv.bias.data.copy_(found[-1])
    conv.weight.data.copy_(found[: conv.weight[0].numel()].T.reshape(conv.weight.shape))
    return float((seen @ found - truth).norm() / (truth - truth.mean(0)).norm())


def windows(x: Tensor, wanted: Tensor, count: int, side: int, rim: int) -> tuple[Tensor, Tensor, list[int]]:
    """Random windows of both (B,C,H,W), `rim` wider on each side, and the pictures that they are of."""
    wide = min(side + 2 * rim, x.shape[-1])
    rows = torch.randint(x.shape[-2] - wide + 1, (count,)).tolist()
    columns = torch.randint(x.shape[-1] - wide + 1, (count,)).tolist()
    pictures = torch.randint(len(x), (count,)).tolist()
    cut = [
        (n, slice(None), slice(i, i + wide), slice(j, j + wide))
        for n, i, j in zip(pictures, rows, columns, strict=True)
    ]
    return torch.stack([x[place] for place in cut]), torch.stack([wanted[place] for place in cut]), pictures


def descend(block: nn.Module, x: Tensor, wanted: Tensor, steps: int, lr: float) -> float:
    """Adam on a block's weights, so that block(x) comes nearer to `wanted`; returns the relative error at the end."""
    block.requires_grad_(True)
    optimizer = torch.optim.Adam(block.parameters(), lr=lr, betas=(0.9, 0.99))
    errors, rim = [], 3
    even = wanted.std((1, 2, 3), keepdim=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 20, 1 - step / steps)
        given, truth, pictures = windows(x, wanted, 24, 24, rim)
        inner = (..., slice(rim, -rim), slice(rim, -rim))
        with torch.enable_grad():
            error = ((block(given)[inner] - truth[inner]) / even[pictures]).square().mean()
            optimizer.zero_grad()
            error.backward()
        optimizer.step()
        errors.append(error.item())
    block.requires_grad_(False)
    return (sum(errors[-10:]) / max(1, len(errors[-10:]))) ** 0.5


def fit(student: nn.Sequential, teacher: nn.Sequential, x: Tensor, kept: dict[str, list[int]], most: int, steps: int,
        lr: float) -> None:  # fmt: skip
    """Fit a half of the student: x goes into both."""
    owners, s = segments(teacher), x  # s: what the student makes of it
    for index, (layer, truth) in enumerate(zip(student, teacher, strict=True)):
        if isinstance(layer, AutoencoderTinyBlock):
            stream = kept[str(owners[index])]
            inner, own = x, s
            for place in (0, 2):
                inner = truth.conv[place](inner)
                solve(layer.conv[place], own, inner[:, kept[f"{index}.{place}"]], most)
                inner, own = F.relu(inner), F.relu(layer.conv[place](own))
            told = truth.conv[4](inner) + x
            solve(layer.conv[4], own, told[:, stream] - s, most)
            told = F.relu(told)
            wanted = told[:, stream]
            before = float(((layer(s) - wanted) / wanted.std((1, 2, 3), keepdim=True)).square().mean() ** 0.5)
            after = descend(layer, s, wanted, steps, lr)
            log(layer=index, solved=before, fitted=after)
        else:
            told = truth(x)
            if isinstance(layer, nn.Conv2d):
                log(layer=index, solved=solve(layer, s, told[:, kept[str(index)]], most))
        x, s = told, layer(s)


def pictures_for(teacher: Space, pool: Tensor, count: int, side: int, rng: random.Random) -> Tensor:
    """Half of them as they are; of the others as many noisy as after JPEG and as attacked at the teacher."""
    images, part = crops(pool, count, side, 0.5, 2.5), count // 6
    clean, loud, squeezed, attacked = images.split([count - 3 * part, part, part, part])
    squeezed = torch.cat([jpeg_diff(part, rng.randint(40, 95)) for part in squeezed.split(4)])
    attacked = torch.cat([attack(part, teacher, teacher, "teacher", 3) for part in attacked.split(8)])
    return torch.cat([clean, noisy(loud), squeezed, attacked])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="gets log.jsonl, samples.png and the model")
    parser.add_argument("--space", choices=CHANNELS, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the teachers")
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=96, help="crops that all layers are fitted to")
    parser.add_argument("--width", type=int, default=56, help="channels of the student; the teacher has 64")
    parser.add_argument("--side", type=int, default=128, help="of the crops")
    parser.add_argument("--places", type=int, default=60_000, help="places of each layer's output to fit at")
    parser.add_argument("--steps", type=int, default=100, help="gradient steps of each block")
    parser.add_argument("--unseen", type=int, default=32, help="pictures that are checked on")
    parser.add_argument("--lr", type=float, default=4e-4, help="of these steps")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.device = "cpu"
    device = begin(args)
    teacher, rng = load_space(args.space, args.weights, device), random.Random(args.seed)
    pool, unseen = load_pool(args.packs, "train", device), load_pool(args.packs, "val", device)
    unseen = unseen[:: max(1, len(unseen) // args.unseen)].float() / 255
    images = pictures_for(teacher, pool, args.batch, args.side, rng)
    log(stage="pictures", count=len(images))
    widths = (args.width,) * 4
    model = AutoencoderTiny(
        latent_channels=CHANNELS[args.space], encoder_block_out_channels=widths, decoder_block_out_channels=widths
    ).eval()
    model.requires_grad_(False)
    student = Space(model.encoder, model.decoder, CHANNELS[args.space], signed=True)
    for half in ("encoder", "decoder"):
        if half == "encoder":
            x = images  # as its layers see them
        else:  # what a diffusion model makes is not quite what an encoder makes
            x = teacher.encode(images)
            x = x + 0.1 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x) * x.std()
            x = torch.tanh(x / 3) * 3
        layers, truth = getattr(model, half).layers, getattr(teacher, half).layers
        few = x[:: max(1, len(x) // 48)]
        kept = choose(truth, few, args.width, args.places // 3)
        log(half=half, kept=kept)
        fit(layers, truth, x, kept, args.places, args.steps, args.lr)
        log(half=half, **check(student, teacher, unseen))
    rows = [unseen[:10], teacher(unseen[:10]), student(unseen[:10])]
    save_grid(rows, args.out / "samples.png")
    model.half().eval().save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
