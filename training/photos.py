"""Endless training pictures with captions: the packs' people composited over colours, gradients and scenes.

The portraits' own backdrops are nearly all blue-grey, so an editor trained on them as they are learns one backdrop.
Everything here runs on the device the packs were loaded to.
"""

import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZE = 256
LUMA = torch.tensor([0.299, 0.587, 0.114])  # of red, green and blue
COLOURS = {
    "red": (215, 25, 30), "green": (25, 145, 50), "blue": (30, 65, 215), "yellow": (250, 225, 40),
    "orange": (250, 135, 20), "purple": (125, 25, 155), "pink": (250, 150, 190), "white": (250, 250, 250),
    "black": (10, 10, 10), "gray": (128, 128, 128), "brown": (120, 70, 30), "cyan": (20, 215, 225),
    "teal": (10, 125, 125), "magenta": (230, 30, 200), "beige": (235, 220, 185), "navy": (15, 25, 95),
}  # fmt: skip
COLOUR_WEIGHTS = [3.0] * 12 + [1.0] * 4
PERSON = [
    "a portrait photo",
    "a portrait photo",
    "a portrait",
    "a photo of a person",
    "a person",
    "a portrait of a person",
]
PLAIN = [
    "plain {} background",
    "plain {} background",
    "a plain {} background",
    "{} background",
    "in front of a {} wall",
]


@dataclass(frozen=True)
class Packs:
    portraits: Tensor  # (P,3,H,W) uint8
    persons: Tensor  # (P,1,H,W) float, 1 = person, soft edge
    landmarks: Tensor  # (P,68,2) pixels
    portrait_notes: list[dict]
    scenes: Tensor  # (S,3,H,W) uint8
    scene_captions: list[str]


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (B,3,H,W) in [0,1]
    persons: Tensor  # (B,1,H,W), 1 = person (0 everywhere in a scene)
    landmarks: Tensor  # (B,68,2), NaN in a scene
    captions: list[str]


def read_tar(path: Path) -> tuple[dict[str, Image.Image], list[dict]]:
    pictures, notes = {}, []
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            name, data = member.name.removeprefix("./"), file.read()
            if name == "metadata.jsonl":
                notes = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
            else:
                pictures[name] = Image.open(io.BytesIO(data)).copy()
    return pictures, notes


def to_uint8(pictures: list[Image.Image], mode: str) -> Tensor:
    arrays = [np.asarray(p.convert(mode).resize((SIZE, SIZE), Image.Resampling.LANCZOS)) for p in pictures]
    stacked = torch.from_numpy(np.stack(arrays))
    return stacked[:, None] if mode == "L" else stacked.permute(0, 3, 1, 2).contiguous()


def load_packs(folder: Path, split: str, device: str) -> Packs:
    """Read portraits-<split>.tar and scenes-<split>.tar from `folder`."""
    pictures, people = read_tar(folder / f"portraits-{split}.tar")
    scenes, scene_notes = read_tar(folder / f"scenes-{split}.tar")
    background = to_uint8([pictures[n["mask"]] for n in people], "L").to(device).float() / 255
    grown = F.max_pool2d(background, 3, 1, 1)  # the cut-outs keep a 1-2 px blue rim: shrink the person, then soften
    persons = 1 - F.avg_pool2d(F.pad(grown, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return Packs(
        portraits=to_uint8([pictures[n["file_name"]] for n in people], "RGB").to(device),
        persons=persons,
        landmarks=torch.tensor([n["landmarks68"] for n in people], device=device),
        portrait_notes=people,
        scenes=to_uint8([scenes[n["file_name"]] for n in scene_notes], "RGB").to(device),
        scene_captions=[n["caption"] for n in scene_notes],
    )


def uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def warp(images: Tensor, scale: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Enlarge by `scale` (B,), move by `shift` (B,2) in halves of the picture, mirror where `flip` (B,) is -1."""
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = flip / scale, 1 / scale
    theta[:, :, 2] = -shift / scale[:, None] * torch.stack([flip, torch.ones_like(flip)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def warp_points(points: Tensor, scale: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    half = SIZE / 2
    centred = (points + 0.5 - half) / half * scale[:, None, None]
    centred = centred * torch.stack([flip, torch.ones_like(flip)], 1)[:, None]
    return (centred + shift[:, None]) * half + half - 0.5


def colour_backdrop(rng: random.Random, device: torch.device) -> tuple[Tensor, str]:
    name = rng.choices(list(COLOURS), COLOUR_WEIGHTS)[0]
    colour = torch.tensor(COLOURS[name], device=device).float() / 255
    colour = (colour + 0.06 * torch.randn(3, device=device)).clamp(0, 1)
    picture = colour[:, None, None].expand(3, SIZE, SIZE)
    if rng.random() < 0.6:  # a lamp from one side
        angle = rng.uniform(0, 6.283)
        axis = torch.linspace(-1, 1, SIZE, device=device)
        ramp = axis[None] * np.cos(angle) + axis[:, None] * np.sin(angle)
        picture = picture * (1 + rng.uniform(0, 0.12) * ramp)
    return picture, rng.choice(PLAIN).format(name)


def gradient_backdrop(rng: random.Random, device: torch.device) -> tuple[Tensor, str]:
    name = rng.choices(list(COLOURS), COLOUR_WEIGHTS)[0]
    first = torch.tensor(COLOURS[name], device=device).float() / 255
    second = first * rng.uniform(0.3, 0.8) if rng.random() < 0.7 else first + (1 - first) * rng.uniform(0.3, 0.8)
    t = torch.linspace(0, 1, SIZE, device=device)[None, :, None] ** rng.uniform(0.5, 2)
    picture = first[:, None, None] * (1 - t) + second[:, None, None] * t
    return picture.expand(3, SIZE, SIZE), f"{name} gradient background"


def place(caption: str, rng: random.Random) -> str:
    what = caption.removeprefix("a photo of ")
    return rng.choice([f"in front of {what}", f"{what} in the background", f"background of {what}", caption])


def scene_crop(scenes: Tensor, blur: bool) -> Tensor:
    n, device = len(scenes), scenes.device
    scale = uniform(n, 1, 1.5, device)
    shift = (torch.rand(n, 2, device=device) * 2 - 1) * (scale - 1)[:, None]
    cropped = warp(scenes.float() / 255, scale, shift, torch.randint(0, 2, (n,), device=device) * 2.0 - 1)
    if blur:
        small = F.interpolate(cropped, scale_factor=0.25, mode="area")
        soft = F.interpolate(small, size=SIZE, mode="bicubic").clamp(0, 1)
        cropped = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.4, soft, cropped)
    return cropped


def compose(
    packs: Packs, count: int, rng: random.Random, scene_share: float = 0.15, natural_share: float = 0.18
) -> Batch:
    """Draw `count` pictures: people over new backdrops, people as photographed, and scenes without people."""
    device = packs.portraits.device
    who = torch.tensor([rng.randrange(len(packs.portraits)) for _ in range(count)], device=device)
    where = [rng.randrange(len(packs.scenes)) for _ in range(count)]
    scale = torch.where(
        torch.rand(count, device=device) < 0.3, uniform(count, 0.8, 1, device), uniform(count, 1, 1.25, device)
    )
    room = (scale - 1).abs()
    shift = torch.stack(
        [uniform(count, -1, 1, device) * (room + 0.06), 1 - scale + uniform(count, 0, 1, device) * room], 1
    )
    flip = torch.randint(0, 2, (count,), device=device) * 2.0 - 1
    moved = warp(torch.cat([packs.portraits[who].float() / 255, packs.persons[who]], 1), scale, shift, flip)
    people, persons = moved[:, :3], moved[:, 3:]
    light = uniform(count, 0.85, 1.15, device)[:, None] * (1 + 0.04 * torch.randn(count, 3, device=device))
    people = people * light[:, :, None, None]
    scenes = scene_crop(packs.scenes[torch.tensor(where, device=device)], blur=True)
    landmarks = warp_points(packs.landmarks[who], scale, shift, flip)

    natural = scene_share + natural_share
    plain = natural + 0.627 * (1 - natural)
    images, captions, kept = [], [], torch.ones(count, device=device)
    for i in range(count):
        note, draw = packs.portrait_notes[int(who[i])], rng.random()
        about = [rng.choice(PERSON)]
        if draw < scene_share:
            kept[i] = 0
            images.append(scenes[i])
            captions.append(packs.scene_captions[where[i]])
            continue
        if draw < natural:
            images.append(people[i])
            phrase = rng.choice(PLAIN).format(note["background"]["name"])
        elif draw < plain:
            make = colour_backdrop if rng.random() < 0.8 else gradient_backdrop
            backdrop, phrase = make(rng, device)
            images.append(people[i] * persons[i] + backdrop * (1 - persons[i]))
        else:
            phrase = place(packs.scene_captions[where[i]], rng)
            images.append(people[i] * persons[i] + scenes[i] * (1 - persons[i]))
        # a studio backdrop may go without saying; a scene is always named
        if draw >= plain or rng.random() < 0.7:
            about = [phrase] if rng.random() < 0.35 else [*about, phrase]
        if rng.random() < 0.2:
            about.append(f"{note['clothing']['name']} clothing")
        captions.append(", ".join(about))
    persons = persons * kept[:, None, None, None]
    landmarks = torch.where(kept[:, None, None] > 0, landmarks, torch.nan)
    return Batch(torch.stack(images).clamp(0, 1), persons, landmarks, captions)
