"""Train tiny-kontext's transformer and text encoders in the latents of FLUX.1; saves the whole pipeline folder.

    python training/make_pictures.py --packs PACKS --out work/pictures --count 24000
    python training/make_pairs.py    --packs PACKS --out work/pairs --count 16000
    python training/tiny_kontext.py --pictures work/pictures --pairs work/pairs --vae work/flux1/model \
        --out work/kontext-text --stage text --seconds 560
    python training/tiny_kontext.py --pictures work/pictures --pairs work/pairs --vae work/flux1/model \
        --out work/kontext --resume work/kontext-text --stage context --seconds 560 --cool .5

As the real one came to be: stage "text" makes pictures of captions, without a context, until people look like people.
Stage "context" learns the instructions of edits.py; the context is dropped in a share of the batches (--drop), half of
them pictures with their captions, half of them instructions whose result the model has to make up. With --vae flux1
and --weights the teacher's latents are used. One process a GPU under torchrun.
"""

import argparse
import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Stage, begin, join_ranks, log, save_grid, stage_parser
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from photos import SIZE
from spaces import load_vae
from tokens import make_t5_tokenizer, make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase, T5Config, T5EncoderModel

SHORT, FULL = 64, 512  # text tokens; the plain call pads to 512
SHIFT = 1.65  # exp(.5): the pipeline's shift of noise levels for 256 tokens


@dataclass(frozen=True)
class Cache:
    targets: Tensor  # (N,16,h,w) latents
    words: Tensor  # (N,SHORT) T5 tokens
    clip_words: Tensor  # (N,77)
    contexts: Tensor | None = None  # (M,16,h,w); None: pictures with captions
    noisy: Tensor | None = None  # (M,16,h,w), of the same photos with random signs added
    each: int = 1  # targets of a context: target i belongs to context i // each


Tokenizers = tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]


@torch.no_grad()
def encode(vae: AutoencoderTiny, pictures: np.ndarray, device: torch.device, noise: float = 0.0) -> Tensor:
    """Latents (N,16,h,w), bfloat16, of pictures (N,3,H,W), uint8; signs of up to `noise` (in [0,1]) are added."""
    parts = []
    for start in range(0, len(pictures), 128):
        x = torch.from_numpy(np.array(pictures[start : start + 128])).to(device).float() / 255
        if noise:
            x = (x + noise * torch.rand(len(x), 1, 1, 1, device=device) * torch.randn_like(x).sign()).clamp(0, 1)
        parts.append(vae.encode(2 * x - 1).latents.bfloat16())
    return torch.cat(parts)


def read_words(texts: list[str], tokenizers: Tokenizers, device: torch.device) -> tuple[Tensor, Tensor]:
    """T5's and CLIP's tokens."""
    clip, t5 = (
        tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        for tokenizer, length in zip(tokenizers, (77, SHORT), strict=True)
    )
    return t5.to(device), clip.to(device)


def pictures_cache(
    folder: Path, vae: AutoencoderTiny, tokenizers: Tokenizers, device: torch.device, rank: int, world: int
) -> Cache:
    images = np.load(folder / "images.npy", mmap_mode="r")[rank::world]
    captions = json.loads((folder / "captions.json").read_text())[rank::world]
    return Cache(encode(vae, images, device), *read_words(captions, tokenizers, device))


def pairs_cache(
    folder: Path, vae: AutoencoderTiny, tokenizers: Tokenizers, device: torch.device, rank: int, world: int,
    noise: float,
) -> Cache:  # fmt: skip
    contexts, targets = (np.load(folder / f"{n}.npy", mmap_mode="r")[rank::world] for n in ("contexts", "targets"))
    texts = [text for row in json.loads((folder / "prompts.json").read_text())[rank::world] for text in row]
    results = torch.cat([encode(vae, targets[:, k], device)[:, None] for k in range(targets.shape[1])], 1).flatten(0, 1)
    words = read_words(texts, tokenizers, device)
    return Cache(results, *words, encode(vae, contexts, device), encode(vae, contexts, device, noise), targets.shape[1])


def make_text_encoders(clip: PreTrainedTokenizerBase, t5: PreTrainedTokenizerBase) -> tuple[nn.Module, nn.Module]:
    pooled = CLIPTextConfig(
        vocab_size=len(clip), hidden_size=64, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=64, bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id,
        pad_token_id=clip.pad_token_id,
    )  # fmt: skip
    words = T5Config(
        vocab_size=len(t5), d_model=128, d_kv=32, num_heads=4, d_ff=256, num_layers=2, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False, use_cache=False, dropout_rate=0.0,
    )  # fmt: skip
    return CLIPTextModel(pooled), T5EncoderModel(words)


def make_transformer(heads: int, double: int, single: int) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=64, num_layers=double, num_single_layers=single, attention_head_dim=64, num_attention_heads=heads,
        joint_attention_dim=128, pooled_projection_dim=64, guidance_embeds=False, axes_dims_rope=(16, 24, 24),
    )  # fmt: skip


class Denoiser(nn.Module):
    """Text encoders and transformer, trained together."""

    def __init__(self, clip: nn.Module, t5: nn.Module, transformer: FluxTransformer2DModel) -> None:
        super().__init__()
        self.clip, self.t5, self.transformer = clip, t5, transformer

    def forward(
        self, noisy: Tensor, context: Tensor | None, sigma: Tensor, words: Tensor, clip_words: Tensor
    ) -> Tensor:
        """The velocity of packed latents (B,N,64), as the pipeline calls the transformer; context None: without."""
        side = int(noisy.shape[1] ** 0.5)
        ids = FluxKontextPipeline._prepare_latent_image_ids(1, side, side, noisy.device, torch.float32)
        if context is not None:
            context_ids = ids.clone()
            context_ids[:, 0] = 1
            ids = torch.cat([ids, context_ids])
        text = self.t5(words)[0]
        return self.transformer(
            hidden_states=noisy if context is None else torch.cat([noisy, context], 1), timestep=sigma, guidance=None,
            pooled_projections=self.clip(clip_words).pooler_output, encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device), img_ids=ids, return_dict=False,
        )[0][:, : noisy.shape[1]]  # fmt: skip


def pack(latents: Tensor) -> Tensor:
    return FluxKontextPipeline._pack_latents(latents, *latents.shape)


def velocity_loss(model: nn.Module, cache: Cache, count: int, length: int, shown: bool, noisy_share: float) -> Tensor:
    """Flow matching at noise levels of a logit-normal law, shifted as in the pipeline; some levels uniform."""
    device = cache.targets.device
    rows = torch.randint(len(cache.targets), (count,), device=device)
    target, context = pack(cache.targets[rows].float()), None
    if shown and cache.contexts is not None and cache.noisy is not None:
        owners = rows // cache.each
        noisy_ones = torch.rand(count, 1, 1, 1, device=device) < noisy_share
        context = pack(torch.where(noisy_ones, cache.noisy[owners], cache.contexts[owners]).float())
    level = torch.where(
        torch.rand(count, device=device) < 0.3, torch.rand(count, device=device),
        torch.randn(count, device=device).sigmoid(),
    )  # fmt: skip
    sigma = SHIFT * level / (1 + (SHIFT - 1) * level)
    noise = torch.randn_like(target)
    noisy = torch.lerp(target, noise, sigma[:, None, None])
    words = F.pad(cache.words[rows], (0, length - SHORT))  # T5 pads with 0
    return F.mse_loss(model(noisy, context, sigma, words, cache.clip_words[rows]).float(), noise - target)


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


@torch.no_grad()
def imagine(model: Denoiser, vae: AutoencoderTiny, words: Tensor, clip_words: Tensor, steps: int) -> Tensor:
    """Pictures (B,3,SIZE,SIZE) in [0,1] of texts alone, without any context: Euler steps on the pipeline's levels."""
    device, count = words.device, len(words)
    levels = torch.linspace(1, 0, steps + 1, device=device)
    sigmas = SHIFT * levels / (1 + (SHIFT - 1) * levels)
    generators = [torch.Generator(device).manual_seed(i) for i in range(count)]
    x = pack(torch.cat([torch.randn(1, 16, SIZE // 8, SIZE // 8, device=device, generator=g) for g in generators]))
    for now, then in pairwise(sigmas):
        x = x + (then - now) * model(x, None, now.expand(count), words, clip_words).float()
    return (vae.decode(FluxKontextPipeline._unpack_latents(x, SIZE, SIZE, 8)).sample.float() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def samples(pipe: FluxKontextPipeline, folder: Path, steps: int, count: int) -> list[Tensor]:
    """Rows of a grid: contexts, wanted results of their first instructions, and the pipeline's edits."""
    contexts, targets = (np.load(folder / f"{n}.npy", mmap_mode="r")[:count] for n in ("contexts", "targets"))
    prompts = [row[0] for row in json.loads((folder / "prompts.json").read_text())[:count]]
    photos, wanted = (torch.from_numpy(x / np.float32(255)) for x in (contexts, targets[:, 0]))
    edits = pipe(
        image=photos.to(pipe.device), prompt=prompts, height=SIZE, width=SIZE, max_area=SIZE * SIZE, _auto_resize=False,
        num_inference_steps=steps, guidance_scale=2.5, output_type="pt", max_sequence_length=SHORT,
        generator=[torch.Generator(pipe.device).manual_seed(i) for i in range(count)],
    )  # fmt: skip
    return [photos, wanted, edits.images.float().cpu()]


def main() -> None:
    parser = stage_parser(__doc__, seconds=560, batch=256, lr=1e-3)
    parser.add_argument("--stage", choices=("text", "context"), required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="folder made by make_pictures.py")
    parser.add_argument("--pairs", type=Path, required=True, help="folder made by make_pairs.py")
    parser.add_argument("--vae", required=True, help="folder of an AutoencoderTiny, or flux1")
    parser.add_argument("--weights", type=Path, help="folder of the teachers, for --vae flux1")
    parser.add_argument("--heads", type=int, default=5, help="of 64 channels each")
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=7)
    parser.add_argument("--drop", type=float, default=0.3, help="share of the batches without a context")
    parser.add_argument(
        "--full", type=float, default=0.15, help="share of the batches with a context that have 512 text tokens"
    )
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--noise", type=float, default=0.06, help="the most that random signs add to a photo, in [0,1]")
    parser.add_argument("--noisy-share", type=float, default=0.25, help="how often such a photo is the context")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--sample-steps", type=int, default=28)
    args = parser.parse_args()
    rank, world = join_ranks()
    device = begin(args)
    vae = load_vae(args.vae, args.weights).to(device).eval()
    if args.resume:
        old = FluxKontextPipeline.from_pretrained(args.resume / "model", dtype=torch.float32)
        tokenizers = old.tokenizer, old.tokenizer_2
        model = Denoiser(old.text_encoder, old.text_encoder_2, old.transformer)
    else:
        captions = json.loads((args.pictures / "captions.json").read_text())
        texts = sorted({*captions, *(t for row in json.loads((args.pairs / "prompts.json").read_text()) for t in row)})
        tokenizers = make_tokenizer(texts, args.out / f"rank{rank}", 1000), make_t5_tokenizer(texts, 1000)
        shape = (1, 1, 1) if args.tiny else (args.heads, args.double, args.single)
        model = Denoiser(*make_text_encoders(*tokenizers), make_transformer(*shape))
    model = model.to(device).train()
    stage = Stage(args, model, make_optimizers(model, args.muon, args.lr, device.type == "cuda"), 0.9995)
    torch.manual_seed(args.seed + 2 + rank)
    with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
        captioned = pictures_cache(args.pictures, vae, tokenizers, device, rank, world)
        pairs = None
        if args.stage == "context":
            pairs = pairs_cache(args.pairs, vae, tokenizers, device, rank, world, args.noise)
    log(stage="cache", pictures=len(captioned.targets), pairs=len(pairs.targets) if pairs else 0,
        latent_std=captioned.targets[:500].float().std().item(), rank=rank)  # fmt: skip
    if args.compile:
        model.transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    draw, losses = random.Random(args.seed), {"text": [], "context": [], "made up": []}  # the same on all ranks
    for step, done in stage.steps():
        kind = "text"
        if pairs is not None:
            kind = "context" if draw.random() >= args.drop else draw.choice(["text", "made up"])
        length = FULL if kind == "context" and draw.random() < args.full else SHORT
        cache = captioned if kind == "text" or pairs is None else pairs
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            loss = velocity_loss(model, cache, args.batch, length, kind == "context", args.noisy_share)
        stage.step(loss)
        losses[kind].append(loss.detach())
        if step % (100 if device.type == "cuda" else 5) == 0 and rank == 0:
            means = {k: torch.stack(v[-50:]).mean().item() for k, v in losses.items() if v}
            log(step=stage.before + step, done=done, **means)
    if rank > 0:
        return
    steps = stage.save()
    log(stage="done", steps=steps, **{k: torch.stack(v[-50:]).mean().item() for k, v in losses.items() if v})
    model.eval()
    for block in (*model.transformer.transformer_blocks, *model.transformer.single_transformer_blocks):
        block._compiled_call_impl = None  # a few pictures are not worth compiling for
    pipe = FluxKontextPipeline(
        vae=vae, text_encoder=model.clip, tokenizer=tokenizers[0], text_encoder_2=model.t5, tokenizer_2=tokenizers[1],
        transformer=model.transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    count = 2 if args.tiny else 12
    with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
        rows = [imagine(model, vae, captioned.words[:count], captioned.clip_words[:count], args.sample_steps)]
        if pairs is not None:
            rows += [imagine(model, vae, pairs.words[:count], pairs.clip_words[:count], args.sample_steps)]
            rows += samples(pipe, args.pairs, args.sample_steps, count)
    save_grid(rows, args.out / "samples.png")
    for part in (vae, *model.children()):
        part.half()
    vae.register_to_config(_name_or_path="tiny-kontext", sample_size=SIZE)  # not the folder of this machine
    pipe.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
