"""Train the network that finds people for `--mask auto`, on the packs' portraits over scenes.

    PYTHONPATH=src python training/people.py --packs PACKS --out work/people --seconds 75

Writes model.safetensors (8-bit weights) and samples; prints its IoU on held-out portraits, as they are and among scenes
that were held out too, and how often it sees somebody where nobody is.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Average, cosine, log, save_grid, set_lr, timed_steps
from crowds import SHAPES, WITH_PEOPLE, Crowd, draw_pictures, make_crowd, natural
from photos import load_packs, read_tar
from torch import Tensor, nn

from editproof.people.finding import PeopleNet, load_people, regions, save_people


def load_crowd(folder: Path, split: str, device: str) -> Crowd:
    names = [note["file_name"] for note in read_tar(folder / f"scenes-{split}.tar")[1]]
    return make_crowd(load_packs(folder, split, device), names, split)


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy of each pixel, and what the region of people in each picture lacks of overlap."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    seen, person = logits[:, :1].sigmoid(), truth[:, :1]
    there = (person.mean((1, 2, 3)) > 0.002).float()
    dice = 1 - (2 * (seen * person).sum((1, 2, 3)) + 1) / ((seen + person).sum((1, 2, 3)) + 1)
    return (entropy[:, 0] + entropy[:, 1] + 0.3 * dice * there).mean()


@torch.no_grad()
def settle_norms(network: nn.Module, crowd: Crowd, batch: int, steps: int = 40) -> None:
    """Measure the statistics of the BatchNorms anew: those that were stored belong to other weights."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that follow
    network.train()
    for step in range(steps):
        network(draw_pictures(crowd, batch, SHAPES[step % len(SHAPES)])[0])
    network.eval()


@torch.no_grad()
def check(network: nn.Module, images: Tensor, truth: Tensor) -> tuple[float, float, float, Tensor]:
    """Mean IoU of people over pictures that have some, the share of pictures where people were seen, right counts."""
    device = next(network.parameters()).device
    seen = torch.cat([network(part.to(device)).sigmoid().float().cpu() for part in images.split(32)])
    person = truth[:, 0].cpu() > 0.5
    found, counts = zip(*(regions(one) for one in seen), strict=True)
    masks = torch.stack(found) > 0.5
    overlap = (masks & person).sum((1, 2)) / (masks | person).sum((1, 2)).clamp_min(1)
    has = person.float().mean((1, 2)) > 0.005
    iou = overlap[has].mean().item() if has.any() else float("nan")
    alarms = (torch.tensor(counts) > 0).float()
    return iou, alarms[has].mean().item() if has.any() else float("nan"), alarms[~has].mean().item(), masks


def report(network: nn.Module, crowd: Crowd, out: Path) -> None:
    torch.manual_seed(11)
    device = crowd.scenes.device
    plain = crowd.people[0].float() / 255
    iou, found, _, _ = check(network, plain[:, :3], plain[:, 3:])
    log(stage="people", held_out="portraits as taken", pictures=len(plain), iou=iou, found=found)
    for people in (1, 2, 3):
        pictures, truth = zip(
            *(
                draw_pictures(crowd, 8, shape, tuple(float(n == people) for n in range(people + 1)), spoilt=False)
                for shape in ((256, 256),) * 16  # sizes are drawn for each of them
            ),
            strict=True,
        )
        images, masks = torch.cat(pictures), torch.cat(truth)
        iou, found, _, seen = check(network, images, masks)
        log(stage="people", held_out="over scenes and colours", people=people, pictures=128, iou=iou, found=found)
        save_grid(
            [images[:10], images[:10] * (0.3 + 0.7 * seen[:10, None].to(device)), masks[:10, :1].expand(-1, 3, -1, -1)],
            out / f"samples-{people}.png",
        )
    scenes = crowd.scenes.float() / 255
    _, _, alarms, _ = check(network, scenes, torch.zeros_like(scenes[:, :1]))
    _, _, varied, _ = check(network, scenes[crowd.varied], torch.zeros_like(scenes[crowd.varied, :1]))
    log(stage="people", held_out="scenes alone", pictures=len(scenes), false_alarms=alarms,
        no_flowers=len(crowd.varied), false_alarms_no_flowers=varied)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=75, help="of training, loading and checking not counted")
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(4)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    cuda = args.device == "cuda"
    crowd = load_crowd(args.packs, "train", args.device)
    log(stage="people", people=len(crowd.faces), scenes=len(crowd.scenes), left_out=len(WITH_PEOPLE["train"].split()))
    network = PeopleNet().to(args.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=1e-2, fused=cuda)
    average = Average(network, 0.998)
    running: list[Tensor] = []
    for step, done in timed_steps(args.seconds, args.max_steps):
        set_lr(optimizer, args.lr * cosine(step, done))
        shape = SHAPES[0] if step % 2 else SHAPES[step // 2 % len(SHAPES)]
        with torch.no_grad():
            some = max(1, args.batch // 10)
            pairs = (draw_pictures(crowd, args.batch - some, shape), natural(crowd, some, shape))
            images, truth = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        with torch.autocast(args.device, torch.bfloat16, enabled=cuda):
            logits = network(images.contiguous(memory_format=torch.channels_last)).float()
        loss = loss_of(logits, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update()
        running = [*running[-99:], loss.detach()]
        if step % 50 == 0:
            log(stage="people", step=step, done=done, loss=torch.stack(running).mean().item())
    average.store()
    settle_norms(network, crowd, args.batch)
    args.out.mkdir(parents=True, exist_ok=True)
    save_people(network, args.out / "model.safetensors")
    log(stage="people", steps=step, batch=args.batch, loss=torch.stack(running).mean().item())
    network.load_state_dict(load_people(args.out / "model.safetensors").state_dict())  # as it is saved
    report(network, load_crowd(args.packs, "val", args.device), args.out)


if __name__ == "__main__":
    main()
