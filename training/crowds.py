"""Pictures with any number of people for training the mask network: the packs' portraits over scenes, at any scale.

The portraits end at the chest and at the picture's sides. Here the last row and columns go on, and are cut to something
like shoulders, so that people stand in a picture as far down as it goes. Everything runs on the packs' device.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from photos import COLOURS, Packs, uniform
from torch import Tensor

from editproof.counters.jpeg_diff import jpeg_diff

SHAPES = ((256, 256), (192, 256), (256, 192), (160, 256), (256, 160))
# Scenes that show people, or hands, which no caption says of most: not for training, nor for counting false alarms.
WITH_PEOPLE = {
    "train": "0000 0002 0006 0015 0017 0018 0020 0021 0023 0024 0026 0028 0030 0037 0039 0047 0050 0055 0057 0058 "
    "0064 0065 0066 0129 0135 0154 0188 0226 0245 0252 0271 0322 0323 0334 0353 0371 0474 0533 0534 0536 0537 0559 "
    "0627 0648 0707 0714 0721",
    "val": "0019 0043 0167 0229 0250 0514 0535",
}
FLOWERS = ("dais", "dandelion", "tulip", "rose", "sunflower")
OCTAVES = ((0.75, 1.6), (0.38, 0.75), (0.2, 0.38))  # of a portrait's height in the picture's, and how often
OCTAVE_SHARES = (0.42, 0.33, 0.25)


@dataclass(frozen=True)
class Crowd:
    """What pictures are made of: portraits at 1, 1/2 and 1/4 of their size, and scenes without people."""

    people: list[Tensor]  # (P,4,h,w) uint8: RGB, person
    faces: Tensor  # (P,4): centre x, y and half axes of an ellipse, in halves of the portrait
    chins: Tensor  # (P,) y, in halves of the portrait
    scenes: Tensor  # (S,3,H,W) uint8
    varied: Tensor  # indices of the scenes that are no flowers


def make_crowd(packs: Packs, names: list[str], split: str) -> Crowd:
    """`names` are the scenes' file names, in the packs' order."""
    full = torch.cat([packs.portraits, (packs.persons * 255).round().byte()], 1)
    halves = [full, *(F.avg_pool2d(full.float(), k).round().byte() for k in (2, 4))]
    points = (packs.landmarks + 0.5) / 128 - 1
    low, high = points.amin(1), points.amax(1)
    low[:, 1] -= 0.35 * (high - low)[:, 1]  # the landmarks end at the brows: up to the forehead
    without = [i for i, name in enumerate(names) if not any(f"s{n}." in name for n in WITH_PEOPLE[split].split())]
    captions = [packs.scene_captions[i] for i in without]
    varied = [j for j, caption in enumerate(captions) if not any(flower in caption for flower in FLOWERS)]
    device = full.device
    return Crowd(
        people=halves,
        faces=torch.cat([(low + high) / 2, (high - low) / 2], 1),
        chins=high[:, 1],
        scenes=packs.scenes[torch.tensor(without, device=device)],
        varied=torch.tensor(varied, device=device),
    )


def backdrops(crowd: Crowd, count: int, shape: tuple[int, int], plain: float = 0.35) -> Tensor:
    """(B,3,h,w): crops of scenes, a share of them `plain`: a colour, most with a gradient."""
    device, (height, width) = crowd.scenes.device, shape
    which = torch.randint(len(crowd.scenes), (count,), device=device)
    varied = crowd.varied[torch.randint(len(crowd.varied), (count,), device=device)]
    which = torch.where(torch.rand(count, device=device) < 0.6, varied, which)
    zoom = uniform(count, 0.45, 1, device)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = zoom * min(1, width / height) * (torch.randint(0, 2, (count,), device=device) * 2 - 1)
    theta[:, 1, 1] = zoom * min(1, height / width)
    theta[:, :, 2] = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - zoom)[:, None]
    grid = F.affine_grid(theta, [count, 3, height, width], align_corners=False)
    scenes = F.grid_sample(crowd.scenes[which].float() / 255, grid, padding_mode="reflection", align_corners=False)
    colours = torch.tensor(list(COLOURS.values()), device=device) / 255
    first, second = (
        (colours[torch.randint(len(colours), (count,), device=device)] + 0.1 * torch.randn(count, 3, device=device))
        for _ in range(2)
    )
    second = torch.lerp(first, second, uniform(count, 0, 0.6, device)[:, None])
    angle = uniform(count, 0, 2 * math.pi, device)[:, None, None]
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    ramp = (0.5 + 0.35 * (x * angle.cos() + y * angle.sin()))[:, None]
    colour = torch.lerp(first[:, :, None, None], second[:, :, None, None], ramp)
    return torch.where(_chance(count, plain, device), colour, scenes).clamp(0, 1)


def _chance(count: int, share: float | Tensor, device: torch.device) -> Tensor:
    return (torch.rand(count, device=device) < share)[:, None, None, None]


def people_layer(crowd: Crowd, textures: Tensor, octave: int) -> tuple[Tensor, Tensor, Tensor]:
    """One person for each of as many pictures: colours (B,3,h,w), coverage (B,1,h,w) and face (B,1,h,w), 0 to 1.

    `textures` (B,3,h,w) are for clothes.
    """
    count, _, height, width = textures.shape
    device = textures.device
    who = torch.randint(len(crowd.people[0]), (count,), device=device)
    scale = uniform(count, *OCTAVES[octave], device)
    reach = width / height
    centre_x = uniform(count, -reach, reach, device)
    seated = torch.rand(count, device=device) < 0.6  # the portrait's lower edge at the picture's or below it
    centre_y = torch.where(seated, 1 - scale + scale * uniform(count, 0, 0.6, device), uniform(count, -0.9, 1, device))
    turn = 0.12 * torch.randn(count, device=device)
    flip = torch.randint(0, 2, (count,), device=device) * 2.0 - 1
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height * 2 - 1,
        ((torch.arange(width, device=device) + 0.5) / width * 2 - 1) * reach,
        indexing="ij",
    )
    x = (x - centre_x[:, None, None]) / scale[:, None, None]
    y = (y - centre_y[:, None, None]) / scale[:, None, None]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    x, y = (cos * x + sin * y) * flip[:, None, None], cos * y - sin * x  # in halves of the portrait
    source = crowd.people[octave][who].float() / 255
    grid = torch.stack([x, y], -1)
    drawn = F.grid_sample(source, grid, padding_mode="border", align_corners=False)
    colours, person = drawn[:, :3], drawn[:, 3:]
    cut = torch.rand(count, device=device) < 0.3  # pasted as it is: ends where the portrait ends, or above
    ends = torch.where(cut, uniform(count, 0.6, 1.4, device).clamp_max(1), 9.0)[:, None, None]
    broad = torch.where(cut, 1.0, uniform(count, 1.0, 1.9, device))[:, None, None]  # half the width of the shoulders
    side = 1 + (broad - 1) * ((y - 0.4) / 0.9).clamp(0, 1).sqrt()
    person = person * ((y > -0.99) & (x.abs() < side) & (y < ends))[:, None]
    chin = crowd.chins[who][:, None, None] + 0.12
    tint = uniform(count * 3, 0.2, 1.9, device).view(count, 3, 1, 1)
    dressed = torch.sigmoid((y - chin) * 40)[:, None] * _chance(count, 0.6, device)
    colours = torch.lerp(colours, (colours * tint + 0.1 * (tint - 1)).clamp(0, 1), dressed)
    beyond = ((y > 0.97) | (x.abs() > 0.97))[:, None]
    person = torch.where(beyond, (person > 0.5).float(), person)
    rough = uniform(count, 0, 0.8, device)[:, None, None, None]
    cloth = source[:, :3, -1].mean(2)[:, :, None, None] + (textures - textures.mean((2, 3), keepdim=True)) * rough
    colours = torch.where(beyond & _chance(count, 0.7, device), cloth * (0.5 + tint / 2), colours)  # else streaks
    light = uniform(count, 0.75, 1.2, device)[:, None] * (1 + 0.05 * torch.randn(count, 3, device=device))
    gamma = torch.exp(uniform(count, -0.5, 0.9, device))[:, None, None, None]  # the packs' people are mostly pale
    colours = (colours.clamp(1e-3, 1) ** gamma * light[:, :, None, None]).clamp(0, 1)
    ellipse = crowd.faces[who][:, :, None, None]
    face = ((x - ellipse[:, 0]) / ellipse[:, 2]) ** 2 + ((y - ellipse[:, 1]) / ellipse[:, 3]) ** 2 < 0.8
    return colours, person, face[:, None] * person


def draw_pictures(
    crowd: Crowd,
    count: int,
    shape: tuple[int, int],
    shares: tuple[float, ...] = (0.27, 0.4, 0.2, 0.13),
    spoilt: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pictures (B,3,h,w) in [0,1] and what is to be found in them (B,2,h,w), 0 to 1: person, face.

    `shares` of them have 0, 1, 2 ... people, those with most first. With `spoilt` some show a thing cut out in the
    shape of a person, others are recoloured, grey, blurred, noisy or compressed.
    """
    images = backdrops(crowd, count, shape)
    others = images.roll(1, 0).clone()  # of other pictures: textures
    truth = images.new_zeros(count, 2, *shape)
    number = torch.multinomial(torch.tensor(shares), count, replacement=True).sort(descending=True)[0]
    octaves = torch.multinomial(torch.tensor(OCTAVE_SHARES), len(shares), replacement=True).sort(descending=True)[0]
    things = int(torch.randint(len(shares), ())) if spoilt else -1  # behind which people they are
    for layer, octave in enumerate(octaves.tolist()):  # the smallest are furthest away
        if layer == things:
            some = torch.randperm(count)[: max(1, count // 3)].to(images.device)
            _, cover, _ = people_layer(crowd, others[some], octave)
            cover = torch.where(_chance(len(some), 0.6, images.device), cover.flip(2), cover)
            images[some] = torch.lerp(images[some], others[some], cover)
            truth[some] = truth[some] * (1 - cover)
        here = int((number > layer).sum())
        if here:
            colours, person, face = people_layer(crowd, others[:here], octave)
            images[:here] = torch.lerp(images[:here], colours, person)
            truth[:here] = truth[:here] * (1 - person) + torch.cat([person, face], 1)
    return (spoil(images) if spoilt else images), truth.clamp(0, 1)


def spoil(images: Tensor) -> Tensor:
    """Recolour, blur, grain, grey and compress some of the pictures (B,3,h,w)."""
    count, device = len(images), images.device
    gain = 1 + 0.12 * torch.randn(count, 3, 1, 1, device=device)
    contrast = uniform(count, 0.6, 1.4, device)[:, None, None, None]
    spoilt = ((images - 0.5) * contrast + 0.5 + 0.1 * torch.randn(count, 1, 1, 1, device=device)) * gain
    images = torch.where(_chance(count, 0.7, device), spoilt, images).clamp(0, 1)
    small = F.interpolate(images, scale_factor=0.5, mode="area")
    images = torch.where(_chance(count, 0.2, device), F.interpolate(small, images.shape[-2:], mode="bilinear"), images)
    grain = torch.randn_like(images) * uniform(count, 0, 0.06, device)[:, None, None, None]
    images = torch.where(_chance(count, 0.3, device), images + grain, images)
    grey = images.mean(1, keepdim=True).expand_as(images)
    images = torch.where(_chance(count, 0.15, device), grey, images).clamp(0, 1)
    quality = float(uniform(1, 30, 95, torch.device("cpu")))
    images[::2] = jpeg_diff(images[::2], quality)
    return images


def natural(crowd: Crowd, count: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Portraits as they were taken, cropped a little: as draw_pictures."""
    device = crowd.scenes.device
    who = torch.randint(len(crowd.people[0]), (count,), device=device)
    zoom = uniform(count, 0.6, 1, device)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = zoom * min(1, shape[1] / shape[0]) * (torch.randint(0, 2, (count,), device=device) * 2 - 1)
    theta[:, 1, 1] = zoom * min(1, shape[0] / shape[1])
    theta[:, :, 2] = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - zoom)[:, None]
    grid = F.affine_grid(theta, [count, 3, *shape], align_corners=False)
    drawn = F.grid_sample(crowd.people[0][who].float() / 255, grid, padding_mode="border", align_corners=False)
    ellipse = crowd.faces[who][:, :, None, None]
    x, y = grid[..., 0], grid[..., 1]
    face = ((x - ellipse[:, 0]) / ellipse[:, 2]) ** 2 + ((y - ellipse[:, 1]) / ellipse[:, 3]) ** 2 < 0.8
    return spoil(drawn[:, :3]), torch.cat([drawn[:, 3:], face[:, None].float()], 1)
