"""Distil a small autoencoder (diffusers' AutoencoderTiny) from a teacher: the latent space of an embedded editor.

    PYTHONPATH=src python training/students.py --space sd1 --weights WEIGHTS --packs PACKS --out work/sd1 --seconds 240

The student starts at random and has the teacher's shape, so each of its layers can learn what the teacher's layer
makes of the same input (hints, FitNets, arXiv 1412.6550): first given the teacher's own activations (--forced, a share
of the time), then its own. Photos as they are, noisy, after JPEG, and attacked: at the student, at the teacher's round
trip, and towards where the two disagree. Without the hints a student is smooth (210 s of an H200): its latents are 29 %
off, and attacks on one do not hold on the other. Resumable; --out holds a model folder, samples.png (photos,
teacher's, student's) and log.jsonl.
"""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Stage, begin, log, psnr, save_grid, stage_parser
from diffusers import AutoencoderTiny
from pictures import crops, load_pool, noisy
from spaces import CHANNELS, Space, load_space
from torch import Tensor, nn

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


def layers_of(half: nn.Module) -> list[nn.Module]:
    """The layers of an encoder or decoder of AutoencoderTiny, in groups of which the last one has weights."""
    groups, waiting = [], []
    for layer in half.layers:
        waiting.append(layer)
        if any(True for _ in layer.parameters()):
            groups.append(nn.Sequential(*waiting))
            waiting = []
    return groups


def activations(half: nn.Module, x: Tensor) -> list[Tensor]:
    """What goes into the first group of layers, and what comes out of each."""
    seen = [x]
    for group in layers_of(half):
        seen.append(group(seen[-1]))
    return seen


def rows_of(weight: nn.Parameter) -> nn.Parameter:
    """A convolution's weights as a matrix in the same memory, as Muon wants them; its gradient follows by a hook."""
    kept = weight.is_contiguous(memory_format=torch.channels_last)

    def rows(x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) if kept else x).reshape(len(x), -1)

    matrix = nn.Parameter(rows(weight.data))
    weight.register_post_accumulate_grad_hook(lambda p: setattr(matrix, "grad", rows(p.grad)))
    return matrix


def apart_by_channel(found: Tensor, truth: Tensor) -> Tensor:
    """The mean over channels of squared errors, each as a share of the channel's mean square: faint ones count, too."""
    found, truth = found.float(), truth.float()
    size = truth.square().mean((0, 2, 3), keepdim=True)
    return ((found - truth).square() / (size + 1e-3 * size.mean())).mean()


def hints(half: nn.Module, teacher: nn.Module, inside: list[Tensor], forced: bool) -> tuple[Tensor, Tensor]:
    """How far the layers of a half are from the teacher's whose activations are `inside`; and the last output.

    forced: every layer is given the teacher's activations with noise, otherwise its own. Without noise a layer
    hardly learns what photos seldom show (their finest details), and that is where autoencoders are weak.
    """
    x, errors = inside[0], []
    for group, original, given, truth in zip(layers_of(half), layers_of(teacher), inside, inside[1:], strict=False):
        if forced:
            spread = given.std((0, 2, 3), keepdim=True)
            strength = torch.rand(len(given), 1, 1, 1, device=given.device) * (spread + 0.2 * spread.mean())
            noisy_input = given + strength * torch.randn_like(given)
            with torch.no_grad():
                truth = original(noisy_input)
            errors.append(apart_by_channel(group(noisy_input), truth))
        else:
            x = group(x)
            errors.append(apart_by_channel(x, truth))
    return torch.stack(errors).mean(), half_output(half, inside[-2]) if forced else x


def half_output(half: nn.Module, given: Tensor) -> Tensor:
    """What the last group of layers makes of the teacher's activations."""
    with torch.no_grad():
        return layers_of(half)[-1](given)


def loss_of(student: Space, teacher: Space, images: Tensor, photo: float, forced: bool) -> tuple[Tensor, Tensor]:
    """The loss of a batch, and the mean relative error of its latents (of the last layer alone, if `forced`)."""
    with torch.no_grad():
        inside = activations(teacher.encoder, images)
        truth = inside[-1].float()
    hint, latents = hints(student.encoder, teacher.encoder, inside, forced)
    apart = relative_error(latents, truth)
    with torch.no_grad():
        mixed = torch.where(torch.rand(len(truth), 1, 1, 1, device=truth.device) < 0.5, truth, latents.float())
        mixed = mixed + 0.2 * torch.rand(len(truth), 1, 1, 1, device=truth.device).square() * torch.randn_like(truth)
        inside = activations(teacher.decoder, torch.tanh(mixed / 3) * 3)
    more, out = hints(student.decoder, teacher.decoder, inside, forced)
    if forced:
        return hint + more, apart.detach().mean()
    out, wanted = out.float(), inside[-1].float()
    fine = sum((F.l1_loss(a, b) for a, b in zip(edges(out), edges(wanted), strict=True)), torch.zeros_like(hint))
    pictures = F.l1_loss(out, wanted) + fine + 2 * F.mse_loss(out, wanted) + photo * F.l1_loss(out, images)
    return hint + more + apart.square().mean() + 0.1 * apart.mean() + pictures, apart.detach().mean()


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
    parser = stage_parser(__doc__, seconds=240, batch=32, lr=2e-3)
    parser.add_argument("--space", choices=CHANNELS, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the teachers")
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--side", type=int, default=128, help="of the crops")
    parser.add_argument("--attacked", type=float, default=0.25, help="share of attacked crops")
    parser.add_argument("--attack-steps", type=int, default=3)
    parser.add_argument("--forced", type=float, default=0.4, help="share of the time with the teacher's activations")
    parser.add_argument("--photo", type=float, default=0.0, help="weight of the photo beside the teacher's picture")
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
    flat = {p: rows_of(p) for p in model.parameters() if p.ndim == 4}
    biases = [p for p in model.parameters() if p not in flat]
    optimizers = [
        torch.optim.Muon(flat.values(), lr=10 * args.lr, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(biases, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused),
    ]
    stage, rng, checked = Stage(args, model, optimizers, 0.998), random.Random(args.seed + 7), 0.0
    for step, done in stage.steps():
        images = crops(pool, args.batch, args.side, 0.75, 3.0).contiguous(memory_format=torch.channels_last)
        forced = done < args.forced and not args.resume
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            images = spoil(images, student, teacher, rng, args.attacked, args.attack_steps)
            loss, error = loss_of(student, teacher, images, args.photo, forced)
        stage.step(loss)
        if step % (200 if fused else 20) == 0:
            log(step=stage.before + step, done=done, forced=forced, loss=loss.item(), error=error.item())
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
