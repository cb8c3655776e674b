"""Train the network of the method `diffvax` with DiffVax's loss (arXiv 2411.17957) through an inpainting editor.

    PYTHONPATH=src python training/diffvax.py --packs PACKS --out work/diffvax --seconds 400 --cool .5
    PYTHONPATH=src python training/diffvax.py --packs PACKS --out work/diffvax-2 --resume work/diffvax --seconds 400 \
        --cool .6 --ease 0

The loss, the masked photo that the network sees and the 4 DDIM steps at guidance 7.5 are those of `editproof train`
(its `losses`); what differs is that photos are drawn from the packs without end, on the device: people over other
backdrops, the backdrop to be repainted, prompts of other pictures. Unlike the paper: larger batches and learning rate,
a bound (--eps), and alpha that rises from 0 in the first share --ease, without which a network may settle on changing
nothing. The last --unseen training portraits are kept aside, and checked on. samples.png: photos, protected, the
perturbation, edits of both.
"""

import dataclasses
import random
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Stage, begin, log, psnr, save_grid, stage_parser
from photos import COLOURS, PERSON, PLAIN, Packs, compose, load_packs, place
from torch import Tensor
from visibility import colour_difference

from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.immunizer.config import TrainConfig
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb, save_immunizer
from editproof.immunizer.training import losses
from editproof.metrics.contrast import contrast_structure

DEPTHS = [16, 24, 48, 96, 192]  # 1.3 million parameters, 1.3 MB as they are shipped
PROMPTS = 180  # an editor keeps what its text encoder made of 200
CHECKED = ("red", "green", "blue", "white")


def make_prompts(packs: Packs, rng: random.Random) -> list[str]:
    """Half plain colours, half places; most begin with the person."""
    plain = [rng.choice(PLAIN).format(rng.choice(list(COLOURS))) for _ in range(PROMPTS // 2)]
    places = [place(rng.choice(packs.scene_captions), rng) for _ in range(PROMPTS - len(plain))]
    return [f"{rng.choice(PERSON)}, {text}" if rng.random() < 0.7 else text for text in plain + places]


def backdrop(persons: Tensor, rng: random.Random) -> Tensor:
    """The mask (B,1,H,W), 1 = repaint: all but the person, who keeps up to 5 pixels around."""
    radius = rng.randint(0, 5)
    return (F.max_pool2d(persons, 2 * radius + 1, 1, radius) < 0.5).float()


def split(packs: Packs, unseen: int) -> tuple[Packs, Packs]:
    """Packs without the last `unseen` portraits, and with no others."""
    parts = ("portraits", "persons", "landmarks", "portrait_notes")
    cut = len(packs.portraits) - unseen
    first, last = ({name: getattr(packs, name)[part] for name in parts} for part in (slice(cut), slice(cut, None)))
    return dataclasses.replace(packs, **first), dataclasses.replace(packs, **last)


@torch.no_grad()
def protect(network: NestedUNet, photos: Tensor, mask: Tensor, eps: float | None) -> Tensor:
    return ((photos + perturb(network, photos, mask, eps)).clamp(0, 1) * 255).round() / 255


@torch.no_grad()
def check(network: NestedUNet, editor: Editor, packs: Packs, eps: float | None, steps: int | None) -> list[Tensor]:
    """JSON lines on portraits that were kept aside, beside random signs of the same PSNR; returns rows of pictures."""
    photos = packs.portraits.float() / 255
    mask = backdrop(packs.persons, random.Random(0))
    prompts = [f"a portrait photo, plain {CHECKED[i % len(CHECKED)]} background" for i in range(len(photos))]
    protected = protect(network, photos, mask, eps)
    delta = protected - photos
    loudness = delta.square().sum((1, 2, 3), keepdim=True) / (3 * (1 - mask).sum((1, 2, 3), keepdim=True))
    draw = torch.Generator().manual_seed(0)
    signs = torch.randn(photos.shape, generator=draw).sign().to(photos) * loudness.sqrt() * (1 - mask)
    edits = {}
    for name, seen in {"photo": photos, "signs": (photos + signs).clamp(0, 1), "protected": protected}.items():
        parts = zip(seen.split(8), mask.split(8), (prompts[i : i + 8] for i in range(0, len(photos), 8)), strict=True)
        edits[name] = torch.cat([editor.edit(p, text, mask=m, steps=steps) for p, m, text in parts])
        structure = contrast_structure(edits[name], photos, 1 - mask).mean().item()
        to_grey = ((2 * (edits[name] - 0.5) * mask).abs().sum((1, 2, 3)) / mask.sum((1, 2, 3))).mean().item()
        log(check=name, person_structure=structure, edit=to_grey, psnr=psnr(seen, photos).mean().item(),
            colour_mean=colour_difference(photos, seen).mean().item())  # fmt: skip
    amplified = delta / delta.abs().amax().clamp_min(1e-6) / 2 + 0.5
    return [row[:6] for row in (photos, protected, amplified, edits["photo"], edits["protected"])]


def main() -> None:
    parser = stage_parser(__doc__, seconds=400, batch=32, lr=1e-3)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--editor", default="tiny-inpaint", help="an inpainting editor's name or folder")
    parser.add_argument("--eps", default="8/255", help="Linf bound; 0: none, as the paper")
    parser.add_argument("--alpha", type=float, default=TrainConfig.alpha, help="weight of the perturbation's size")
    parser.add_argument("--ease", type=float, default=0.5, help="the share of the stage in which alpha rises from 0")
    parser.add_argument("--denoising-steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--guidance", type=float, default=TrainConfig.guidance)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--unseen", type=int, default=24, help="training portraits that are kept aside")
    parser.add_argument("--check-steps", type=int, help="of the edits that are checked; the editor's own by default")
    args = parser.parse_args()
    device = begin(args)
    eps = float(Fraction(args.eps)) or None
    packs, aside = split(load_packs(args.packs, "train", str(device)), args.unseen)
    editor = load_editor(args.editor, device, torch.bfloat16 if args.half else torch.float32, record=False)
    editor.recompute = False  # a small editor's activations fit
    fresh = NestedUNet(in_channels=3, depths=[4, 8, 16] if args.tiny else args.depths, batch_norm="photo")
    network = (load_immunizer(args.resume / "model") if args.resume else fresh).to(device).train()
    network.trained_eps, network.size = eps, editor.size
    optimizer = torch.optim.Adam(network.parameters(), lr=args.lr, fused=device.type == "cuda")
    stage, rng = Stage(args, network, [optimizer], 0.998), random.Random(args.seed)
    prompts = make_prompts(packs, rng)
    settings = TrainConfig(steps=args.denoising_steps, guidance=args.guidance, eps=eps)
    for step, done in stage.steps():
        alpha = args.alpha * (min(1.0, done / args.ease) if args.ease else 1.0)
        made = compose(packs, args.batch, rng, scene_share=0.0, natural_share=0.4)
        photos = made.images.contiguous(memory_format=torch.channels_last)
        draws = [torch.Generator().manual_seed(rng.randrange(2**40)) for _ in photos]
        edit, size = losses(
            network, editor, photos, backdrop(made.persons, rng), rng.choices(prompts, k=len(photos)),
            dataclasses.replace(settings, alpha=alpha), draws,
        )  # fmt: skip
        stage.step((edit + size).mean())
        if step % (50 if device.type == "cuda" else 1) == 0:
            log(step=stage.before + step, done=done, edit=edit.mean().item(), perturbation=size.mean().item(),
                alpha=alpha)  # fmt: skip
    steps = stage.save()
    network.eval()
    save_immunizer(network, args.out / "model", bits=8, trained_against=Path(args.editor).name, steps=steps,
                   alpha=args.alpha)  # fmt: skip
    save_grid(check(load_immunizer(args.out / "model").to(device), editor, aside, eps, args.check_steps),
              args.out / "samples.png")  # fmt: skip
    log(stage="done", steps=steps)


if __name__ == "__main__":
    main()
