"""Train tiny-inpaint's UNet and text encoder in the latents of Stable Diffusion 1; saves the whole pipeline folder.

    python training/make_pictures.py --packs PACKS --out work/pictures --count 24000
    python training/tiny_inpaint.py --pictures work/pictures --vae work/sd1/model --out work/tiny-inpaint --seconds 500
    python training/tiny_inpaint.py --pictures work/pictures --vae work/sd1/model --out work/tiny-inpaint-2 \
        --resume work/tiny-inpaint --seconds 400 --cool .6

--vae: a student's folder, or sd1 with --weights, its teacher; several encode the pictures in turn, and the first is
saved with the pipeline. Most batches show masks as an attacker would draw them;
a share (--prior) shows nothing but the text, so that the UNet knows faces and places without a photo to copy.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import Stage, begin, log, save_grid, stage_parser
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from photos import SIZE
from spaces import load_vae
from tokens import make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 128


@dataclass(frozen=True)
class Cache:
    targets: Tensor  # (N,4,h,w) latents
    masked: Tensor  # (N,K+1,4,h,w) latents of the pictures with their holes grey; the last all grey
    masks: Tensor  # (N,K+1,1,h,w); the last 1 everywhere
    tokens: Tensor  # (N,77)


@torch.no_grad()
def build_cache(
    folder: Path, vaes: list[AutoencoderTiny], tokenizer: CLIPTokenizer, device: torch.device, chunk: int = 128
) -> Cache:
    images, masks = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("images", "masks"))
    captions = json.loads((folder / "captions.json").read_text())
    targets, holes, small = [], [], []
    for start in range(0, len(images), chunk):
        vae = vaes[start // chunk % len(vaes)]
        picture = torch.from_numpy(np.array(images[start : start + chunk])).to(device).float() / 127.5 - 1
        mask = torch.from_numpy(np.array(masks[start : start + chunk])).to(device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        shown = [vae.encode(picture * (mask[:, k : k + 1] < 1)).latents.bfloat16() for k in range(mask.shape[1])]
        targets.append(vae.encode(picture).latents.bfloat16())
        holes.append(torch.stack(shown, 1))
        small.append(mask[:, :, None, ::8, ::8].to(torch.bfloat16))  # nearest, as the pipeline does
    ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return Cache(torch.cat(targets), torch.cat(holes), torch.cat(small), ids.to(device))


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=2,
            num_attention_heads=4, projection_dim=TEXT_WIDTH, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def make_unet(widths: tuple[int, ...], heads: int = 4) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=9, out_channels=4, block_out_channels=widths, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(widths), up_block_types=("CrossAttnUpBlock2D",) * len(widths),
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=heads, norm_num_groups=8,
    )  # fmt: skip


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule, run down to less signal (betas up to .02), so that plain colours are reachable."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


class Denoiser(nn.Module):
    """Text encoder and UNet, trained together."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text, self.unet = text, unet

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.text(tokens).last_hidden_state).sample


def v_loss(
    model: nn.Module, alphas: Tensor, cache: Cache, rows: Tensor, empty: Tensor, drop: float, prior: float
) -> Tensor:
    """The squared error of the velocity; mirrored by chance; the repainted part counts double."""
    device, count = rows.device, len(rows)
    last = cache.masks.shape[1] - 1
    pick = torch.randint(last, (count,), device=device)
    pick = torch.where(torch.rand(count, device=device) < prior, last, pick)
    target, mask, hole = cache.targets[rows].float(), cache.masks[rows, pick].float(), cache.masked[rows, pick].float()
    tokens = torch.where(torch.rand(count, 1, device=device) < drop, empty, cache.tokens[rows])
    t = torch.randint(len(alphas), (count,), device=device)
    alpha = alphas[t][:, None, None, None]
    signal, noise_level = alpha.sqrt(), (1 - alpha).sqrt()
    noise = torch.randn_like(target)
    found = model(torch.cat([signal * target + noise_level * noise, mask, hole], 1), t, tokens).float()
    error = (found - (signal * noise - noise_level * target)).square()
    return (error * (0.5 + mask)).mean() / (0.5 + mask).mean()


def make_pipeline(vae: AutoencoderTiny, model: Denoiser, tokenizer: CLIPTokenizer) -> StableDiffusionInpaintPipeline:
    return StableDiffusionInpaintPipeline(
        vae=vae, text_encoder=model.text, tokenizer=tokenizer, unet=model.unet, scheduler=make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@torch.no_grad()
def samples(pipe: StableDiffusionInpaintPipeline, folder: Path, steps: int, count: int) -> list[Tensor]:
    """Rows of a grid: photos, holes, edits with their own captions, and pictures of the captions alone."""
    images, masks = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("images", "masks"))
    captions = json.loads((folder / "captions.json").read_text())[:count]
    photos, mask = (torch.from_numpy(x / np.float32(255)) for x in (images[:count], masks[:count, :1] * 255))
    rows = [photos, photos * (1 - mask) + 0.5 * mask]
    for hole in (mask, torch.ones_like(mask)):
        out = pipe(
            prompt=captions, image=photos.to(pipe.device), mask_image=hole.to(pipe.device), height=SIZE, width=SIZE,
            strength=1.0, num_inference_steps=steps, guidance_scale=4.0, eta=1.0, output_type="pt",
            generator=[torch.Generator(pipe.device).manual_seed(i) for i in range(count)],
        )  # fmt: skip
        rows.append(out.images.float().cpu())
    return rows


def main() -> None:
    parser = stage_parser(__doc__, seconds=500, batch=256, lr=1e-3)
    parser.add_argument("--pictures", type=Path, required=True, help="folder made by make_pictures.py")
    parser.add_argument("--vae", nargs="+", required=True, help="folders of an AutoencoderTiny, or sd1")
    parser.add_argument("--weights", type=Path, help="folder of the teachers, for --vae sd1")
    parser.add_argument("--widths", type=int, nargs="+", default=[80, 144, 176])
    parser.add_argument("--drop", type=float, default=0.15, help="share of empty prompts")
    parser.add_argument("--prior", type=float, default=0.15, help="share of examples that show no photo at all")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--sample-steps", type=int, default=25)
    args = parser.parse_args()
    device = begin(args)
    vaes = [load_vae(name, args.weights).to(device).eval() for name in args.vae]
    vae = vaes[0]
    if args.resume:
        old = StableDiffusionInpaintPipeline.from_pretrained(
            args.resume / "model", dtype=torch.float32, safety_checker=None
        )
        tokenizer, text, unet = old.tokenizer, old.text_encoder, old.unet
    else:
        captions = json.loads((args.pictures / "captions.json").read_text())
        tokenizer = make_tokenizer(captions, args.out / "tokenizer")
        text, unet = make_text_encoder(tokenizer), make_unet((16, 24, 32) if args.tiny else tuple(args.widths))
    model = Denoiser(text, unet).to(device).train()
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
    stage = Stage(args, model, [optimizer], 0.9995)
    with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
        cache = build_cache(args.pictures, vaes, tokenizer, device)
    log(stage="cache", pictures=len(cache.targets), latent_std=cache.targets[:2000].float().std().item())
    alphas = make_scheduler().alphas_cumprod.to(device)
    empty = tokenizer([""], padding="max_length", return_tensors="pt").input_ids.to(device)
    fast = torch.compile(model) if args.compile else model
    losses: list[Tensor] = []
    for step, done in stage.steps():
        rows = torch.randint(len(cache.targets), (args.batch,), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            loss = v_loss(fast, alphas, cache, rows, empty, args.drop, args.prior)
        stage.step(loss)
        losses.append(loss.detach())
        if step % (200 if fused else 10) == 0:
            log(step=stage.before + step, done=done, loss=torch.stack(losses[-200:]).mean().item())
    steps = stage.save()
    model.eval()
    log(stage="done", steps=steps, loss=torch.stack(losses[-200:]).mean().item())
    pipe = make_pipeline(vae, model, tokenizer)
    pipe.set_progress_bar_config(disable=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
        save_grid(samples(pipe, args.pictures, args.sample_steps, 2 if args.tiny else 10), args.out / "samples.png")
    for part in (vae, model.text, model.unet):
        part.half()
    vae.register_to_config(_name_or_path="tiny-inpaint")  # not the folder of this machine
    pipe.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
