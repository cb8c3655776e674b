"""Train tiny-inpaint's denoiser and text encoder on cached latents, then save the whole pipeline folder.

python training/tiny_inpaint_unet.py --pictures pictures --vae work/vae --out work/tiny-inpaint --seconds 400
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Average, cosine, log, set_lr, timed_steps
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from tokens import make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 96


@dataclass(frozen=True)
class Cache:
    targets: Tensor  # (N,4,h,w) latents, scaled
    masked: Tensor  # (N,K,4,h,w) latents of the pictures with their holes grey, scaled
    masks: Tensor  # (N,K,1,h,w)
    tokens: Tensor  # (N,77)


@torch.no_grad()
def build_cache(folder: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, device: str, chunk: int = 256) -> Cache:
    images, masks = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("images", "masks"))
    captions = json.loads((folder / "captions.json").read_text())
    scale = vae.config.scaling_factor
    targets, holes, small = [], [], []

    def encode(x: Tensor) -> Tensor:
        return (vae.encode(x).latent_dist.sample() * scale).to(torch.bfloat16)

    for start in range(0, len(images), chunk):
        picture = (
            torch.from_numpy(np.ascontiguousarray(images[start : start + chunk])).to(device).to(vae.dtype) / 127.5 - 1
        )
        mask = torch.from_numpy(np.ascontiguousarray(masks[start : start + chunk])).to(device)
        targets.append(encode(picture))
        holes.append(torch.stack([encode(picture * (mask[:, k : k + 1] < 1)) for k in range(mask.shape[1])], 1))
        small.append(mask[:, :, None, ::8, ::8].to(torch.bfloat16))  # nearest, as the pipeline does
    ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return Cache(torch.cat(targets), torch.cat(holes), torch.cat(small), ids.to(device))


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=3,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=9,
        out_channels=4,
        block_out_channels=(64, 112, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule, run down to less signal (betas up to .02), so that plain colours are reachable."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Denoiser(nn.Module):
    """Text encoder and UNet, trained together."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text, self.unet = text, unet

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.text(tokens).last_hidden_state).sample


def v_loss(
    model: nn.Module, scheduler: DDIMScheduler, cache: Cache, rows: Tensor, empty: Tensor, drop: float
) -> Tensor:
    device, count = rows.device, len(rows)
    pick = torch.randint(cache.masks.shape[1], (count,), device=device)
    target = cache.targets[rows].float()
    tokens = torch.where(torch.rand(count, 1, device=device) < drop, empty, cache.tokens[rows])
    t = torch.randint(1000, (count,), device=device)
    noise = torch.randn_like(target)
    noisy = scheduler.add_noise(target, noise, t)
    velocity = scheduler.get_velocity(target, noise, t)
    inputs = torch.cat([noisy, cache.masks[rows, pick].float(), cache.masked[rows, pick].float()], 1)
    return F.mse_loss(model(inputs, t, tokens).float(), velocity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder made by make_pictures.py")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="pipeline folder to start from")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--drop", type=float, default=0.15, help="share of empty prompts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    device, cuda = args.device, args.device == "cuda"
    half = torch.bfloat16 if cuda else torch.float32
    vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=half).to(device)
    if args.resume:
        old = StableDiffusionInpaintPipeline.from_pretrained(args.resume, torch_dtype=torch.float32)
        tokenizer, text, unet = old.tokenizer, old.text_encoder, old.unet
    else:
        captions = json.loads((args.pictures / "captions.json").read_text())
        tokenizer = make_tokenizer(captions, args.out / "tokenizer")
        text, unet = make_text_encoder(tokenizer), make_unet()
    cache = build_cache(args.pictures, vae, tokenizer, device)
    log(stage="cache", pictures=len(cache.targets), latent_std=cache.targets[:2000].float().std().item())

    scheduler = make_scheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    model = Denoiser(text, unet).to(device).train()
    empty = tokenizer([""], padding="max_length", return_tensors="pt").input_ids.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=cuda)
    average = Average(model, 0.9995)
    fast = torch.compile(model) if cuda else model
    running = 0.0
    for step, done in timed_steps(args.seconds, args.max_steps):
        set_lr(optimizer, args.lr * cosine(step, done, 300))
        rows = torch.randint(len(cache.targets), (args.batch,), device=device)
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = v_loss(fast, scheduler, cache, rows, empty, args.drop)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 200 == 0:
            running = loss.item() if not running else 0.5 * running + 0.5 * loss.item()
            log(stage="unet", step=step, loss=running, lr=args.lr * cosine(step, done, 300))
    average.store()
    log(stage="unet", steps=step)
    vae.register_to_config(_name_or_path="tiny-inpaint")  # not the folder of this machine
    pipe = StableDiffusionInpaintPipeline(
        vae=vae.half(),
        text_encoder=model.text.half().eval(),
        tokenizer=tokenizer,
        unet=model.unet.half().eval(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(args.out)


if __name__ == "__main__":
    main()
