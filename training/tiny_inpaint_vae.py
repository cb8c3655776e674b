"""Train tiny-inpaint's autoencoder: f8, 4 latent channels, 2.9M parameters.

python training/tiny_inpaint_vae.py --packs ../shared/data --out work/vae --seconds 150
"""

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Average, log, psnr, save_grid, set_lr, timed_steps
from diffusers import AutoencoderKL
from photos import compose, load_packs
from torch import Tensor


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64, 96, 112),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=256,
        force_upcast=False,
    )


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(vae: AutoencoderKL, images: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """L1 + L1 of the image gradient + squared error + a tiny KL term; images in [-1,1]."""
    moments = vae.quant_conv(vae.encoder(images)).float()
    mean, logvar = moments.chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    latents = mean + noise * (0.5 * logvar).exp()
    out = vae.decoder(vae.post_quant_conv(latents)).float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    gradient = sum(
        (F.l1_loss(a, b) for a, b in zip(edges(out), edges(images), strict=True)), torch.zeros((), device=out.device)
    )
    return F.l1_loss(out, images) + gradient + 2 * F.mse_loss(out, images) + kl_weight * kl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=8192, help="pictures composed before the start")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    device, cuda = args.device, args.device == "cuda"
    torch.backends.cuda.enable_cudnn_sdp(False)
    packs, rng = load_packs(args.packs, "train", device), random.Random(0)
    chunks = range(0, args.pool, 256)
    pool = torch.cat([(compose(packs, 256, rng, 0.3).images * 255).round().byte() for _ in chunks])
    log(stage="pool", pictures=len(pool))

    vae = make_vae().to(device)
    if cuda:
        vae = vae.to(memory_format=torch.channels_last)
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=cuda)
    step_loss = torch.compile(loss_of) if cuda else loss_of
    for step, factor in timed_steps(args.seconds, args.max_steps):
        images = pool[torch.randint(len(pool), (args.batch,), device=device)].float() / 127.5 - 1
        noise = torch.randn(len(images), 4, images.shape[2] // 8, images.shape[3] // 8, device=device)
        set_lr(optimizer, args.lr * factor)
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = step_loss(vae, images, noise, 1e-6)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log(stage="vae", step=step, loss=loss.item())
    average.store()

    unseen = load_packs(args.packs, "val", device)
    with torch.no_grad():
        everything = torch.cat([vae.encode(b.float() / 127.5 - 1).latent_dist.mean for b in pool[:2048].split(256)])
        vae.register_to_config(scaling_factor=round(1 / everything.std().item(), 5))
        scores, shown = {}, []
        for name, pictures in {"portraits": unseen.portraits, "scenes": unseen.scenes}.items():
            photos = pictures.float() / 255
            halves = [vae(b * 2 - 1).sample / 2 + 0.5 for b in photos.split(32)]
            again = torch.cat(halves).clamp(0, 1)
            scores[name] = psnr(photos, again).mean().item()
            shown += [photos[:8], again[:8]]
        spread = vae.encode(photos[:32] * 2 - 1).latent_dist.std.mean().item()
    log(
        stage="vae",
        steps=step,
        scale=vae.config.scaling_factor,
        posterior_std=spread,
        **{f"psnr_{k}": v for k, v in scores.items()},
    )
    vae.to(memory_format=torch.contiguous_format).half().save_pretrained(args.out)
    save_grid(shown, args.out / "samples.jpg")


if __name__ == "__main__":
    main()
