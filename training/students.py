"""Distil a small autoencoder (diffusers' AutoencoderTiny) from a teacher: the latent space of an embedded editor.

    PYTHONPATH=src python training/students.py --space sd1 --weights WEIGHTS --packs PACKS --out work/sd1 \
        --resume work/sd1-narrow --seconds 240

Trains a student as a whole; it begins with what narrow.py fitted layer by layer (--resume). From random weights it
stays smooth (210 s of an H200: latents 28 % off), and attacks on it do not hold on its teacher, nor the other way.
Photos as they are, noisy, after JPEG, and attacked: at the student, at the teacher's round trip, and towards where the
two disagree. Resumable; --out holds a model folder, samples.png (photos, teacher's, student's) and log.jsonl.
"""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Stage, begin, log, psnr, save_grid, stage_parser
from diffusers import AutoencoderTiny
from pictures import crops, load_pool, noisy
from spaces import CHANNELS, Space, load_space
from torch import Tensor

from editproof.counters.jpeg_diff import jpeg_diff
from editproof.metrics.contrast import contrast_structure

ATTACKS = ("student", "teacher", "apart")


def relative_error(latents: Tensor, truth: Tensor) -> Tensor:
    """(B,): the L2 distance of latents (B,C,h,w) to the true ones, as a share of the length of these."""
    latents, truth = latents.float().flatten(1), truth.float().flatten(1)
    return (latents - truth).norm(dim=1) / truth.norm(dim=1)


def attack(images: Tensor, student: Space, teacher: Space, kind: str, steps: int, eps: float | None = None) -> Tensor:
    """Images (B,3,H,W) after `steps` sign steps within 4 to 16 / 255 each (or `eps`), from random signs.

    "student", "teacher": the round trip there loses the photo's structure; "apart": their latents differ.
    """
    size = torch.empty(len(images), 1, 1, 1, device=images.device)
    size = size.uniform_(4 / 255, 16 / 255) if eps is None else size.fill_(eps)
    delta = torch.randn_like(images).sign() * size * 0.5
    momentum = torch.zeros_like(images)
    for _ in range(steps):
        with torch.enable_grad():
            moved = (images + delta).clamp(0, 1).detach().requires_grad_()
            if kind == "apart":
                loss = -relative_error(student.encode(moved), teacher.encode(moved)).sum()
            else:
                seen = (student if kind == "student" else teacher)(moved)
                loss = contrast_structure(seen.float(), images).sum()
            gradient = torch.autograd.grad(loss, moved)[0]
        momentum = 0.7 * momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-20)
        delta = (delta - size * max(0.15, 1.5 / steps) * momentum.sign()).clamp(-size, size)
    return (images + delta).clamp(0, 1)


def spoil(images: Tensor, student: Space, teacher: Space, rng: random.Random, share: float, steps: int) -> Tensor:
    """Parts of a batch noisy, after JPEG, and (`share`) attacked; the rest as it is."""
    count = len(images)
    attacked, others = int(count * share), count // 5
    first, second, third, clean = images.split([attacked, others, others, count - attacked - 2 * others])
    if attacked:
        first = attack(first, student, teacher, rng.choice(ATTACKS), steps)
    with torch.autocast(images.device.type, enabled=False):  # half precision is none for JPEG
        third = jpeg_diff(third, rng.randint(40, 95))
    return torch.cat([first, noisy(second), third, clean])


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(student: Space, teacher: Space, images: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, relative latent error): the student's latents to the teacher's, and both decoders' pictures of latents
    that are an encoder's, or nearly so, as a diffusion model's are."""
    with torch.no_grad():
        truth = teacher.encode(images)
    found = student.encode(images)
    apart = relative_error(found, truth)
    with torch.no_grad():
        own = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.3
        spread = 0.1 * torch.rand(len(images), 1, 1, 1, device=images.device) * truth.std()
        latents = torch.where(own, found.detach(), truth) + spread * torch.randn_like(truth)
        wanted = teacher.decode(latents).float()
    out = student.decode(latents).float()
    fine = torch.stack([F.l1_loss(a, b) for a, b in zip(edges(out), edges(wanted), strict=True)]).sum()
    pictures = F.l1_loss(out, wanted) + fine + 2 * F.mse_loss(out, wanted)
    return apart.square().mean() + 0.1 * apart.mean() + pictures, apart.detach().mean()


@torch.no_grad()
def check(student: Space, teacher: Space, pictures: Tensor) -> dict[str, float]:
    """On whole unseen pictures: relative latent error, and dB to the photo of both round trips."""
    rows = [(teacher.encode(part), student.encode(part), part) for part in pictures.split(16)]
    errors = torch.cat([relative_error(found, truth) for truth, found, _ in rows])
    trips = {"teacher": lambda t, s: teacher.decode(t), "student": lambda t, s: student.decode(s)}
    decoded = {
        f"{name}_db": torch.cat([psnr(trip(t, s).float().clamp(0, 1), x) for t, s, x in rows]).mean().item()
        for name, trip in trips.items()
    }
    return {"latent_error": errors.mean().item(), "highest": errors.max().item(), **decoded}


def main() -> None:
    parser = stage_parser(__doc__, seconds=240, batch=32, lr=5e-4)
    parser.add_argument("--space", choices=CHANNELS, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the teachers")
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--side", type=int, default=128, help="of the crops")
    parser.add_argument("--attacked", type=float, default=0.25, help="share of attacked crops")
    parser.add_argument("--attack-steps", type=int, default=3)
    parser.add_argument("--composed", type=int, default=512, help="pictures of people over other backdrops")
    parser.add_argument("--unseen", type=int, default=32, help="pictures that are checked on")
    parser.add_argument("--every", type=float, default=60, help="seconds between checks on unseen pictures")
    args = parser.parse_args()
    device = begin(args)
    pool, unseen = load_pool(args.packs, "train", device, args.composed), load_pool(args.packs, "val", device)
    unseen = unseen[:: max(1, len(unseen) // args.unseen)].float() / 255
    teacher = load_space(args.space, args.weights, device)
    folder = args.resume / "model" if args.resume else None
    model = AutoencoderTiny.from_pretrained(folder) if folder else AutoencoderTiny(latent_channels=CHANNELS[args.space])
    model = model.to(device, memory_format=torch.channels_last).train()
    student = Space(model.encoder, model.decoder, CHANNELS[args.space], signed=True)
    model.requires_grad_(True)
    teacher.to(memory_format=torch.channels_last)
    fused = device.type == "cuda"
    optimizers = [torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused)]
    stage, rng, checked = Stage(args, model, optimizers, 0.998), random.Random(args.seed + 7), 0.0
    for step, done in stage.steps():
        images = crops(pool, args.batch, args.side, 0.75, 3.0).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            images = spoil(images, student, teacher, rng, args.attacked, args.attack_steps)
            loss, error = loss_of(student, teacher, images)
        stage.step(loss)
        if step % (200 if fused else 20) == 0:
            log(step=stage.before + step, done=done, loss=loss.item(), error=error.item())
        if (done - checked) * args.seconds >= args.every:
            checked = done
            kept = [p.detach().clone() for p in model.parameters()]
            stage.average.store()
            log(step=stage.before + step, **check(student, teacher, unseen))
            with torch.no_grad():
                for p, value in zip(model.parameters(), kept, strict=True):
                    p.copy_(value)
    steps = stage.save()
    log(stage="done", steps=steps, **check(student, teacher, unseen))
    with torch.no_grad():
        rows = [unseen[:10], teacher(unseen[:10]), student(unseen[:10])]
    save_grid(rows, args.out / "samples.png")
    model.to(memory_format=torch.contiguous_format).half().eval().save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
