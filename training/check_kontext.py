"""How near tiny-kontext comes to the exact results of its instructions on unseen portraits: a JSON line for each.

python training/check_kontext.py --packs ../shared/data --model work/tiny-kontext --out outputs/check
"""

import argparse
import random
from pathlib import Path

import torch
from common import log, psnr, save_grid
from diffusers import FluxKontextPipeline
from edits import EDITS, Picture
from photos import SIZE, load_packs
from torch import Tensor

SHOWN = 8


def edit(pipe: FluxKontextPipeline, images: Tensor, prompts: list[str], seed: int, steps: int = 28) -> Tensor:
    """The plain diffusers call, at the pictures' own size."""
    return pipe(
        image=images,
        prompt=prompts,
        height=SIZE,
        width=SIZE,
        max_area=SIZE * SIZE,
        _auto_resize=False,
        num_inference_steps=steps,
        guidance_scale=2.5,
        generator=[torch.Generator(images.device).manual_seed(seed + i) for i in range(len(images))],
        output_type="pt",
    ).images.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    pipe = FluxKontextPipeline.from_pretrained(args.model, dtype=torch.float32).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    packs, rng = load_packs(args.packs, "val", "cpu"), random.Random(0)
    photos = packs.portraits[: args.count].float() / 255
    rows, means = [photos[:SHOWN]], {}
    for number, (name, kind) in enumerate(EDITS.items()):
        scenes = [rng.randrange(len(packs.scenes)) for _ in photos]
        blanks = [kind.blanks[i % len(kind.blanks)] for i in range(len(photos))]
        captions = [packs.scene_captions[scene] for scene in scenes]
        filled = kind.exact or kind.blanks != ("",)
        fills = blanks if filled else [caption.removeprefix("a photo of ") for caption in captions]
        prompts = [kind.wordings[i % len(kind.wordings)].format(fill) for i, fill in enumerate(fills)]
        truth = torch.stack([
            kind.make(Picture(photo, packs.persons[i], packs.landmarks[i], packs.scenes[scenes[i]].float() / 255,
                              captions[i]), blanks[i])
            for i, photo in enumerate(photos)
        ])  # fmt: skip
        edited = edit(pipe, photos.to(args.device), prompts, 1000 * number, args.steps).cpu()
        score = psnr(edited, truth)
        if kind.exact:
            means[name] = score.mean().item()
        log(edit=name, exact=kind.exact, psnr=score.mean().item(), lowest=score.min().item(), prompt=prompts[0])
        rows += [truth[:SHOWN], edited[:SHOWN]]
    log(
        photos=len(photos),
        mean=sum(means.values()) / len(means),
        lowest=min(means.values()),
        worst=min(means, key=means.get),
    )
    for part in range(0, len(rows) - 1, 20):
        save_grid([rows[0], *rows[1 + part : 21 + part]], args.out / f"edits{part // 20}.jpg")


if __name__ == "__main__":
    main()
