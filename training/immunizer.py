"""Train the embedded one-pass immunizer: what autoencoders of real latent spaces make of the photo loses its structure.

    PYTHONPATH=src python training/immunizer.py --packs PACKS --weights WEIGHTS --out work/immunizer --seconds 500
    PYTHONPATH=src python training/immunizer.py --packs PACKS --weights WEIGHTS --out work/immunizer-2 \
        --resume work/immunizer --seconds 400 --cool .6 --editors work/tiny-inpaint/model work/tiny-kontext/model

Each step: photos at one of --sides, a bound, one of --spaces, and one of what happens to photos on the way (JPEG, other
sizes, blur, crops). Loss: contrast-structure of decode(encode(protected)) to the photo + what a person would see
(visibility.py). With --editors, a share of the steps goes through an editor instead, denoising and all. flux2 is left
out while training, and shows in the last lines what transfers. samples.png: photos, protected, the perturbation, what
each space makes of them.
"""

import random
from pathlib import Path

import torch
from common import Stage, begin, log, psnr, save_grid, stage_parser
from photos import compose, load_packs
from pictures import crops, load_pool, survive
from spaces import CHANNELS, Space, load_space
from torch import Tensor
from visibility import colour_difference, visibility

from editproof.counters.jpeg_diff import jpeg_diff
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb, save_immunizer
from editproof.metrics.contrast import contrast_structure

EPS = 8 / 255
TASKS = ("a photo of this person", "make it black and white", "mirror the picture", "zoom in on the face")


def photos_for(pool: Tensor, count: int, side: int) -> Tensor:
    """Crops as a camera might take them: faces from a third of the side to more than all of it, half with grain."""
    images = crops(pool, count, side, side / 512, side / 140)
    grain = 0.04 * (torch.rand(count, 1, 1, 1, device=pool.device) - 0.5).relu()
    grey = (images.amax(1, keepdim=True) - images.amin(1, keepdim=True)).amax((1, 2, 3), keepdim=True) < 1e-3
    noise = torch.randn_like(images)
    return (images + grain * torch.where(grey, noise[:, :1], noise)).clamp(0, 1)


def part_told(images: Tensor, rng: random.Random) -> Tensor:
    """A mask (B,1,H,W), 1 = may be repainted: one rectangle's outside, or its inside."""
    height, width = images.shape[-2:]
    mask = torch.zeros_like(images[:, :1])
    tall, wide = (int(n * rng.uniform(0.3, 0.8)) for n in (height, width))
    top, left = rng.randrange(height - tall + 1), rng.randrange(width - wide + 1)
    mask[..., top : top + tall, left : left + wide] = 1
    return mask if rng.random() < 0.3 else 1 - mask


def trip_loss(space: Space, photos: Tensor, protected: Tensor, rng: random.Random) -> Tensor:
    """(B,): the structure that the round trip keeps, after one thing that happens to photos."""
    after, before = survive(torch.cat([protected, photos]), rng).chunk(2)
    return contrast_structure(space(after).float(), before.float())


def edit_loss(editor: Editor, photos: Tensor, protected: Tensor, persons: Tensor, rng: random.Random) -> Tensor:
    """(B,): the structure of the person that an edit of the protected photo keeps; a few steps, a new seed."""
    draws = [torch.Generator().manual_seed(rng.randrange(2**40)) for _ in photos]
    if editor.masked:
        mask = (persons < 0.5).float()
        colour = rng.choice(["red", "green", "blue", "white", "gray"])
        edited = editor.sample(protected, f"plain {colour} background", mask=mask, steps=4, generator=draws)
        return contrast_structure(edited.clamp(-0.2, 1.2), photos, 1 - mask)
    task = rng.choice(TASKS)
    with torch.no_grad():
        wanted = editor.sample(photos, task, steps=4, generator=draws).clamp(0, 1)
    draws = [generator.manual_seed(generator.initial_seed()) for generator in draws]
    return contrast_structure(editor.sample(protected, task, steps=4, generator=draws).clamp(-0.2, 1.2), wanted)


@torch.no_grad()
def check(network: NestedUNet, spaces: dict[str, Space], photos: Tensor, batch: int) -> None:
    """JSON lines on unseen portraits: visibility, and the structure that every space keeps, now and after a way."""
    ways = {
        "plain": lambda x: x,
        "jpeg 75": lambda x: jpeg_diff(x, 75),
        "half size": lambda x: torch.nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    }
    protected = torch.cat([(p + perturb(network, p, None, EPS)).clamp(0, 1) for p in photos.split(batch)])
    protected = (protected * 255).round() / 255
    difference = colour_difference(photos, protected).flatten()
    log(check="visibility", colour_mean=difference.mean().item(), psnr=psnr(protected, photos).mean().item(),
        colour_95=difference.sort().values[int(0.95 * len(difference))].item())  # fmt: skip
    for way, change in ways.items():
        for label, seen in {"untouched": photos, "protected": protected}.items():
            parts = list(zip(photos.split(batch), seen.split(batch), strict=True))
            scores = {
                name: torch.cat([contrast_structure(space(change(s)), change(p)) for p, s in parts]).mean().item()
                for name, space in spaces.items()
            }
            log(check=label, after=way, **scores)


def main() -> None:
    parser = stage_parser(__doc__, seconds=500, batch=16, lr=1e-3)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the autoencoders")
    parser.add_argument("--spaces", nargs="+", choices=CHANNELS, default=["sd1", "sdxl", "flux1"])
    parser.add_argument("--left-out", nargs="*", choices=CHANNELS, default=["flux2"], help="only checked")
    parser.add_argument("--editors", nargs="*", default=[], help="names or folders, attacked end to end")
    parser.add_argument("--edit-share", type=float, default=0.2, help="of the steps, with --editors")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 512, 640], help="of the photos, in pixels")
    parser.add_argument("--seen", type=float, default=1.0, help="weight of what a person would see")
    parser.add_argument("--told", type=float, default=0.15, help="share of the steps that tell a mask")
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--unseen", type=int, default=24, help="portraits that are checked on, at 512x512")
    args = parser.parse_args()
    device = begin(args)
    torch.backends.cudnn.benchmark = False  # sizes change from step to step
    packs, pool = load_packs(args.packs, "train", str(device)), load_pool(args.packs, "train", device)
    names = [*args.spaces, *(n for n in args.left_out if n not in args.spaces)]
    spaces = {n: load_space(n, args.weights, device).to(memory_format=torch.channels_last) for n in names}
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    editors = [load_editor(name, device, dtype, compile=False) for name in args.editors]
    fresh = NestedUNet(in_channels=4, depths=[4, 8, 16] if args.tiny else args.depths, batch_norm="photo")
    network = (load_immunizer(args.resume / "model") if args.resume else fresh).to(device).train()
    network.trained_eps, network.size = EPS, 512
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=fused)
    stage, rng = Stage(args, network, [optimizer], 0.998), random.Random(args.seed + 3)
    for step, done in stage.steps():
        editor = rng.choice(editors) if editors and rng.random() < args.edit_share else None
        eps = rng.choice([EPS, EPS, 0.75 * EPS, 1.5 * EPS])
        side = editor.size if editor else rng.choice(args.sides)
        count = max(1, int(args.batch * min(1.0, (512 / side) ** 2) * (4 if side <= 256 else 1)))
        persons = mask = None
        if editor:
            made = compose(packs, min(count, 16), rng, scene_share=0.0, natural_share=0.5)
            photos, persons = made.images, made.persons
        else:
            photos = photos_for(pool, count, side)
            mask = part_told(photos, rng) if rng.random() < args.told else None
        with torch.autocast(device.type, torch.bfloat16, enabled=args.half):
            delta = perturb(network, photos.contiguous(memory_format=torch.channels_last), mask, eps)
            protected = (photos + delta).clamp(0, 1)
            if editor is None or persons is None:
                name = rng.choice(args.spaces)
                kept = trip_loss(spaces[name], photos, protected, rng).mean()
            else:
                name, kept = editor.name, edit_loss(editor, photos, protected, persons, rng).mean()
        seen, parts = visibility(photos, protected, eps)
        stage.step(kept + args.seen * seen)
        if step % (50 if fused else 5) == 0:
            log(step=stage.before + step, done=done, on=name, side=side, kept=kept.item(), seen=seen.item(), **parts)
    steps = stage.save()
    network.eval()
    save_immunizer(network, args.out / "model", bits=16, trained_against=[*args.spaces, *args.editors], steps=steps)
    unseen = load_packs(args.packs, "val", str(device)).portraits[: args.unseen].float() / 255
    unseen = torch.nn.functional.interpolate(unseen, scale_factor=2.0, mode="bicubic").clamp(0, 1)
    check(network, spaces, unseen, 4)
    with torch.no_grad():
        shown = unseen[:3]
        delta = perturb(network, shown, None, EPS)
        protected = (shown + delta).clamp(0, 1)
        save_grid([shown, protected, delta / EPS / 2 + 0.5, *(s(protected) for s in spaces.values())],
                  args.out / "samples.png")  # fmt: skip
    log(stage="done", steps=steps)


if __name__ == "__main__":
    main()
