"""Train tiny-kontext's transformer and text encoders on cached latents, then save the whole pipeline folder.

torchrun --nproc-per-node 2 training/tiny_kontext.py --pairs pairs --vae work/vae --out work/tiny-kontext --seconds 500
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Average, cosine, join_ranks, log, set_lr, share_gradients, timed_steps
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from tokens import make_t5_tokenizer, make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase, T5Config, T5EncoderModel

SHORT, FULL = 64, 512  # text tokens; the plain call pads to 512
SHIFT = 1.65  # exp(.5): the pipeline's shift of noise levels for 256 tokens
EARLY = 0.7  # the share of the training in which most steps take short texts, which are faster


@dataclass(frozen=True)
class Cache:
    contexts: Tensor  # (N,2,16,h,w) latents, normalised: of the photo, and of the photo with random signs added
    targets: Tensor  # (N,K,16,h,w)
    words: Tensor  # (N,K,SHORT) T5 tokens
    clip_words: Tensor  # (N,K,77)


@torch.no_grad()
def build_cache(
    folder: Path,
    vae: AutoencoderKL,
    tokenizers: tuple[PreTrainedTokenizerBase, ...],
    device: str,
    rank: int,
    world: int,
    noise: float,
) -> Cache:
    """What this rank trains on: every `world`-th part of the pairs. `noise`: the most that signs are scaled by."""
    contexts, targets = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("contexts", "targets"))
    prompts = json.loads((folder / "prompts.json").read_text())
    rows, each = range(rank * len(contexts) // world, (rank + 1) * len(contexts) // world), targets.shape[1]

    def encode(pictures: np.ndarray, noise: float = 0.0) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).float() / 255
        if noise:
            x = (x + noise * torch.rand(len(x), 1, 1, 1, device=device) * torch.randn_like(x).sign()).clamp(0, 1)
        mean = vae.encode((2 * x - 1).to(vae.dtype)).latent_dist.mode()
        return ((mean - vae.config.shift_factor) * vae.config.scaling_factor).to(torch.bfloat16)

    photos, results = [], []
    for start in range(rows.start, rows.stop, 64):
        chosen = slice(start, min(start + 64, rows.stop))
        shown = encode(contexts[chosen])
        photos.append(torch.stack([shown, encode(contexts[chosen], noise) if noise else shown], 1))
        results.append(encode(targets[chosen].reshape(-1, *targets.shape[2:])))
    latents = torch.cat(results)
    texts = [text for i in rows for text in prompts[i]]
    clip_words, words = (
        tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        for tokenizer, length in zip(tokenizers, (77, SHORT), strict=True)
    )
    shape = (len(rows), each)
    return Cache(
        torch.cat(photos), latents.unflatten(0, shape), words.unflatten(0, shape).to(device),
        clip_words.unflatten(0, shape).to(device),
    )  # fmt: skip


def make_text_encoders(clip: PreTrainedTokenizerBase, t5: PreTrainedTokenizerBase) -> tuple[nn.Module, nn.Module]:
    pooled = CLIPTextConfig(
        vocab_size=len(clip), hidden_size=64, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=64, bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id,
        pad_token_id=clip.pad_token_id,
    )  # fmt: skip
    words = T5Config(
        vocab_size=len(t5), d_model=96, d_kv=24, num_heads=4, d_ff=192, num_layers=2, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False, use_cache=False, dropout_rate=0.0,
    )  # fmt: skip
    return CLIPTextModel(pooled), T5EncoderModel(words)


def make_transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=6, attention_head_dim=32, num_attention_heads=6,
        joint_attention_dim=96, pooled_projection_dim=64, guidance_embeds=False, axes_dims_rope=(8, 12, 12),
    )  # fmt: skip


class Denoiser(nn.Module):
    """Text encoders and transformer, trained together."""

    def __init__(self, clip: nn.Module, t5: nn.Module, transformer: FluxTransformer2DModel) -> None:
        super().__init__()
        self.clip, self.t5, self.transformer = clip, t5, transformer

    def forward(self, noisy: Tensor, context: Tensor, sigma: Tensor, words: Tensor, clip_words: Tensor) -> Tensor:
        """The velocity of packed latents (B,N,64), as the pipeline calls the transformer."""
        height, width = (2 * (n // 2) for n in (32, 32))
        ids = FluxKontextPipeline._prepare_latent_image_ids(1, height // 2, width // 2, noisy.device, noisy.dtype)
        context_ids = ids.clone()
        context_ids[:, 0] = 1
        text = self.t5(words)[0]
        return self.transformer(
            hidden_states=torch.cat([noisy, context], 1), timestep=sigma, guidance=None,
            pooled_projections=self.clip(clip_words).pooler_output, encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device), img_ids=torch.cat([ids, context_ids]),
            return_dict=False,
        )[0][:, : noisy.shape[1]]  # fmt: skip


def pack(latents: Tensor) -> Tensor:
    return FluxKontextPipeline._pack_latents(latents, *latents.shape)


def velocity_loss(model: nn.Module, cache: Cache, rows: Tensor, length: int, noisy_share: float) -> Tensor:
    """Flow matching at noise levels of a logit-normal law, shifted as in the pipeline; some levels uniform."""
    device, count = rows.device, len(rows)
    pick = torch.randint(cache.targets.shape[1], (count,), device=device)
    shown = (torch.rand(count, device=device) < noisy_share).long()
    target, context = pack(cache.targets[rows, pick].float()), pack(cache.contexts[rows, shown].float())
    level = torch.where(
        torch.rand(count, device=device) < 0.3, torch.rand(count, device=device),
        torch.randn(count, device=device).sigmoid(),
    )  # fmt: skip
    sigma = SHIFT * level / (1 + (SHIFT - 1) * level)
    noise = torch.randn_like(target)
    noisy = torch.lerp(target, noise, sigma[:, None, None])
    words = F.pad(cache.words[rows, pick], (0, length - SHORT))  # T5 pads with 0
    return F.mse_loss(model(noisy, context, sigma, words, cache.clip_words[rows, pick]).float(), noise - target)


def make_optimizers(model: Denoiser, muon: bool, lr: float, cuda: bool) -> list[torch.optim.Optimizer]:
    """AdamW; or Muon for the matrices of the transformer's blocks and AdamW for the rest."""
    transformer = model.transformer
    blocks = nn.ModuleList([*transformer.transformer_blocks, *transformer.single_transformer_blocks])
    matrices = [p for p in blocks.parameters() if p.ndim == 2] if muon else []
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    adam = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=cuda)
    if not muon:
        return [adam]
    return [torch.optim.Muon(matrices, lr=2 * lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), adam]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder made by make_pairs.py")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="pipeline folder to start from")
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch", type=int, default=128, help="pairs a step and GPU")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--muon", action="store_true")
    parser.add_argument("--noise", type=float, default=0.0, help="the most that random signs add to a photo, in [0,1]")
    parser.add_argument("--noisy-share", type=float, default=0.0, help="how often such a photo is the context")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    rank, world = join_ranks()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    device, cuda = args.device, args.device == "cuda"
    vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.bfloat16 if cuda else torch.float32).to(device)
    if args.resume:
        old = FluxKontextPipeline.from_pretrained(args.resume, torch_dtype=torch.float32)
        clip_tokenizer, t5_tokenizer = old.tokenizer, old.tokenizer_2
        model = Denoiser(old.text_encoder, old.text_encoder_2, old.transformer)
    else:
        texts = sorted({t for row in json.loads((args.pairs / "prompts.json").read_text()) for t in row})
        work = args.out / f"rank{rank}"
        clip_tokenizer, t5_tokenizer = make_tokenizer(texts, work, 700), make_t5_tokenizer(texts, 800)
        model = Denoiser(*make_text_encoders(clip_tokenizer, t5_tokenizer), make_transformer())
    cache = build_cache(args.pairs, vae, (clip_tokenizer, t5_tokenizer), device, rank, world, args.noise)
    spread = cache.targets[:500].float().std().item()
    log(stage="cache", pairs=cache.targets.shape[:2].numel(), latent_std=spread, rank=rank)

    model = model.to(device).train()
    parameters = list(model.parameters())
    log(stage="model", **{n: sum(p.numel() for p in m.parameters()) / 1e6 for n, m in model.named_children()})
    optimizers = make_optimizers(model, args.muon, args.lr, cuda)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    average = Average(model, 0.9995)
    if cuda:
        model.transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    torch.manual_seed(2 + rank)
    running = 0.0
    for step, done in timed_steps(args.seconds, args.max_steps):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            set_lr(optimizer, rate * cosine(step, done, 300))
        rows = torch.randint(len(cache.targets), (args.batch,), device=device)
        length = FULL if done > EARLY or step % 8 == 0 else SHORT
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = velocity_loss(model, cache, rows, length, args.noisy_share)
        model.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.update()
        if step % 100 == 0 and rank == 0:
            running = loss.item() if not running else 0.5 * running + 0.5 * loss.item()
            log(stage="transformer", step=step, done=done, loss=running)
    if rank > 0:
        return
    average.store()
    log(stage="transformer", steps=step)
    for part in (vae, *model.children()):
        part.half().eval()
    vae.register_to_config(_name_or_path="tiny-kontext")  # not the folder of this machine
    pipe = FluxKontextPipeline(
        vae=vae, text_encoder=model.clip, tokenizer=clip_tokenizer, text_encoder_2=model.t5, tokenizer_2=t5_tokenizer,
        transformer=model.transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip
    pipe.save_pretrained(args.out)


if __name__ == "__main__":
    main()
