"""Train an autoencoder of the embedded editors, f8: tiny-inpaint's with 4 latent channels, tiny-kontext's with 16.

python training/vae.py --packs ../shared/data --out work/vae --channels 4 --seconds 150
torchrun --nproc-per-node 2 training/vae.py --packs ../shared/data --pairs pairs --out work/vae --channels 16
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Average, cosine, join_ranks, log, psnr, save_grid, set_lr, share_gradients, timed_steps
from diffusers import AutoencoderKL
from photos import Packs, compose, load_packs
from torch import Tensor


def make_vae(channels: int) -> AutoencoderKL:
    """Stable Diffusion's layout for 4 channels, FLUX's (no convolutions around the latents) for 16."""
    flux = channels == 16
    return AutoencoderKL(
        block_out_channels=(32, 64, 96, 112),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=16,
        sample_size=256,
        force_upcast=False,
        use_quant_conv=not flux,
        use_post_quant_conv=not flux,
        shift_factor=0.0 if flux else None,
    )


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(vae: AutoencoderKL, images: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """L1 + L1 of the image gradient + squared error + a tiny KL term; images in [-1,1]."""
    moments = vae.encoder(images)
    moments = (moments if vae.quant_conv is None else vae.quant_conv(moments)).float()
    mean, logvar = moments.chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    latents = mean + noise * (0.5 * logvar).exp()
    out = vae.decoder(latents if vae.post_quant_conv is None else vae.post_quant_conv(latents)).float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    gradient = sum(
        (F.l1_loss(a, b) for a, b in zip(edges(out), edges(images), strict=True)), torch.zeros((), device=out.device)
    )
    return F.l1_loss(out, images) + gradient + 2 * F.mse_loss(out, images) + kl_weight * kl


def make_pool(packs: Packs, pairs: Path | None, count: int) -> Tensor:
    """Pictures (count,3,H,W), uint8: newly composed ones, or photos and results of `pairs` by halves."""
    if pairs is None:
        rng = random.Random(0)
        return torch.cat([(compose(packs, 256, rng, 0.3).images * 255).round().byte() for _ in range(0, count, 256)])
    contexts, targets = (np.load(pairs / f"{name}.npy", mmap_mode="r") for name in ("contexts", "targets"))
    half = count // 2
    pictures = np.concatenate([contexts[:half], targets[:half, 0]])
    return torch.from_numpy(pictures).to(packs.portraits.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="folder made by make_pairs.py, instead of composing pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--channels", type=int, default=4, choices=(4, 16))
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=64, help="pictures a step and GPU")
    parser.add_argument("--pool", type=int, default=8192, help="pictures to train on")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    rank, _ = join_ranks()
    torch.manual_seed(0)
    device, cuda = args.device, args.device == "cuda"
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.benchmark = True
    pool = make_pool(load_packs(args.packs, "train", device), args.pairs, args.pool)
    log(stage="pool", pictures=len(pool))

    vae = make_vae(args.channels).to(device)
    if cuda:
        vae = vae.to(memory_format=torch.channels_last)
    parameters = list(vae.parameters())
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=cuda)
    step_loss = torch.compile(loss_of) if cuda else loss_of
    torch.manual_seed(1 + rank)
    for step, done in timed_steps(args.seconds, args.max_steps):
        images = pool[torch.randint(len(pool), (args.batch,), device=device)].float() / 127.5 - 1
        noise = torch.randn(len(images), args.channels, images.shape[2] // 8, images.shape[3] // 8, device=device)
        set_lr(optimizer, args.lr * cosine(step, done))
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = step_loss(vae, images, noise, 1e-6)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0 and rank == 0:
            log(stage="vae", step=step, done=done, loss=loss.item())
    if rank > 0:
        return
    average.store()

    unseen = load_packs(args.packs, "val", device)
    with torch.no_grad():
        latents = torch.cat([vae.encode(b.float() / 127.5 - 1).latent_dist.mean for b in pool[:2048].split(256)])
        vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
        if args.channels == 16:
            vae.register_to_config(shift_factor=round(latents.mean().item(), 5))
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
