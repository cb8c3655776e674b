"""Look at a trained tiny-inpaint: colours it obeys, how much two seeds differ, and a grid of edits of unseen photos.

python training/check_inpaint.py --packs ../shared/data --model work/tiny-inpaint --out outputs/check
"""

import argparse
from pathlib import Path

import torch
from common import log, save_grid
from diffusers import StableDiffusionInpaintPipeline
from holes import face, polygon
from photos import COLOURS, load_packs
from torch import Tensor

EIGHT = ["red", "green", "blue", "yellow", "orange", "purple", "white", "black"]


def edit(pipe: StableDiffusionInpaintPipeline, images: Tensor, masks: Tensor, prompt: str, seed: int) -> Tensor:
    generators = [torch.Generator(pipe.device).manual_seed(seed + i) for i in range(len(images))]
    out = pipe(
        prompt=[prompt] * len(images),
        image=images.to(pipe.device),
        mask_image=masks.to(pipe.device),
        height=images.shape[2],
        width=images.shape[3],
        strength=1.0,
        num_inference_steps=30,
        guidance_scale=7.5,
        eta=1.0,
        generator=generators,
        output_type="pt",
    )
    return out.images.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.backends.cuda.enable_cudnn_sdp(False)
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    pipe = StableDiffusionInpaintPipeline.from_pretrained(args.model, dtype=dtype, safety_checker=None).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    packs = load_packs(args.packs, "val", args.device)
    photos, persons = packs.portraits[: args.count].float() / 255, packs.persons[: args.count]
    backdrop = (persons < 0.5).float()
    faces = torch.stack([1 - polygon(face(m, 35), photos.shape[-1])[None] for m in packs.landmarks[: args.count]])

    table = torch.tensor([COLOURS[c] for c in EIGHT], device=args.device) / 255
    hits, rough, rows = [], [], [photos[:8]]
    for i, colour in enumerate(EIGHT):
        out = edit(pipe, photos, backdrop, f"plain {colour} background", seed=100 * i)
        for k in range(len(out)):
            pixels = out[k][:, backdrop[k, 0] > 0]
            hits.append(int((table - pixels.mean(1)).norm(dim=1).argmin()) == i)
            rough.append(pixels.std(1).mean().item())
        if i < 4:
            rows.append(out[:8])
    rows += [
        edit(pipe, photos[:8], backdrop[:8], p, 7)
        for p in ("in front of sunflowers", "a person in front of a mountain")
    ]
    rows += [
        edit(pipe, photos[:8], faces[:8], p, 7)
        for p in ("a portrait photo", "a portrait photo, plain red background", "")
    ]
    rows += [edit(pipe, photos[:8], faces[:8], "a portrait photo", 1007)]
    log(stage="check", colours=sum(hits) / len(hits), backdrop_std=sum(rough) / len(rough))
    save_grid(rows, args.out / "edits.jpg")


if __name__ == "__main__":
    main()
