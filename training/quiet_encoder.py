"""Train tiny-kontext's autoencoder on: nearer to the photo, hardly moved by noise in it, latents as they were.

Random signs or Gaussian noise are added to some of the pictures, which are to come out clean. The latents of the rest
are held near those of the first autoencoder, so that the transformer can be used, or trained on, as it is.

python training/quiet_encoder.py --packs ../shared/data --pairs pairs --vae work/vae --out work/vae-quiet --seconds 90
"""

import argparse
import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Average, cosine, log, psnr, save_grid, set_lr, timed_steps
from diffusers import AutoencoderKL
from photos import load_packs
from torch import Tensor, nn
from vae import edges, make_pool

AMPLITUDE = 12.75 / 255  # of the signs that are measured with


def add_noise(images: Tensor, most: float, share: float) -> Tensor:
    """Images (B,3,H,W) in [-1,1], a `share` of them with noise of up to `most` (in [0,1])."""
    count, device = len(images), images.device
    chosen = torch.rand(count, device=device) < share
    drawn = torch.randn_like(images)
    signs = (torch.rand(count, device=device) < 0.7)[:, None, None, None]
    strength = 2 * most * torch.rand(count, device=device).sqrt() * chosen
    noisy = images + strength[:, None, None, None] * torch.where(signs, drawn.sign(), drawn)
    return noisy.clamp(-1, 1)


def loss_of(
    vae: AutoencoderKL, teacher: nn.Module, images: Tensor, shown: Tensor, noise: Tensor, hold: float, square: float
) -> tuple[Tensor, Tensor]:
    """Error of pictures (L1, L1 of the image gradient, squares) and latents (from the teacher's); that of latents."""
    with torch.no_grad():
        wanted, spread = teacher(images).float().chunk(2, 1)
        spread = spread.clamp(-30, 20)
    mean, logvar = vae.encoder(shown).float().chunk(2, 1)
    out = vae.decoder(mean + noise * (0.5 * spread).exp()).float()
    gradient = sum(
        (F.l1_loss(a, b) for a, b in zip(edges(out), edges(images), strict=True)), torch.zeros((), device=out.device)
    )
    moved = F.mse_loss(mean, wanted)
    away = hold * (moved + 0.01 * F.mse_loss(logvar.clamp(-30, 20), spread))
    return F.l1_loss(out, images) + gradient + square * F.mse_loss(out, images) + away, moved.detach()


@torch.no_grad()
def measure(vae: AutoencoderKL, teacher: nn.Module, photos: Tensor) -> tuple[dict[str, float], Tensor]:
    """How near photos (B,3,H,W) in [0,1] come out, clean and with signs, and their latents; then those pictures."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(photos.shape[1:], generator=generator).sign().to(photos.device)
    rows: list[tuple[Tensor, ...]] = []
    for part in photos.split(16):
        shown = (part, (part + AMPLITUDE * signs).clamp(0, 1))
        clean, noisy = (vae.encode(2 * x - 1).latent_dist.mean for x in shown)
        outs = [(vae.decode(z).sample / 2 + 0.5).clamp(0, 1) for z in (clean, noisy)]
        wanted = teacher(2 * part - 1).chunk(2, 1)[0]
        far = [(z - wanted).square().mean((1, 2, 3)) for z in (clean, noisy)]
        rows.append((*outs, *far, psnr(*outs)))
    clean, noisy, far_clean, far_noisy, apart = (torch.cat(column) for column in zip(*rows, strict=True))
    scores = {"clean": psnr(clean, photos), "noisy": psnr(noisy, photos), "apart": apart}
    scores |= {"moved": far_clean.sqrt(), "moved_noisy": far_noisy.sqrt()}
    return {name: score.mean().item() for name, score in scores.items()}, clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="folder made by make_pairs.py, instead of composing pictures")
    parser.add_argument("--vae", type=Path, required=True, help="the autoencoder to start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--pool", type=int, default=8192, help="pictures to train on")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--noise", type=float, default=0.06, help="the most that is added to a picture, in [0,1]")
    parser.add_argument("--noisy-share", type=float, default=0.4)
    parser.add_argument("--hold", type=float, default=1.0, help="weight of the latents' distance")
    parser.add_argument("--square", type=float, default=20.0, help="weight of the pictures' squared error")
    parser.add_argument("--encoder-only", action="store_true", help="leave the decoder as it is")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    device, cuda = args.device, args.device == "cuda"
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.benchmark = True
    pool = make_pool(load_packs(args.packs, "train", device), args.pairs, args.pool)
    photos = load_packs(args.packs, "val", device).portraits[: 62 if cuda else 8].float() / 255
    vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32).to(device)
    if cuda:
        vae = vae.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(vae.encoder).requires_grad_(False)
    vae.decoder.requires_grad_(not args.encoder_only)
    log(stage="pool", pictures=len(pool), **measure(vae, teacher, photos)[0])

    parameters = [p for p in vae.parameters() if p.requires_grad]
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=cuda)
    step_loss = torch.compile(loss_of) if cuda else loss_of
    torch.manual_seed(1)
    for step, done in timed_steps(args.seconds, args.max_steps):
        images = pool[torch.randint(len(pool), (args.batch,), device=device)].float() / 127.5 - 1
        shown = add_noise(images, args.noise, args.noisy_share)
        noise = torch.randn(len(images), 16, images.shape[2] // 8, images.shape[3] // 8, device=device)
        set_lr(optimizer, args.lr * cosine(step, done, 40))
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss, moved = step_loss(vae, teacher, images, shown, noise, args.hold, args.square)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log(stage="vae", step=step, done=done, loss=loss.item(), moved=moved.item())
    average.store()
    scores, again = measure(vae, teacher, photos)
    log(stage="vae", steps=step, **scores)
    vae.to(memory_format=torch.contiguous_format).half().save_pretrained(args.out)
    save_grid([photos[:8], again[:8]], args.out / "samples.jpg")


if __name__ == "__main__":
    main()
