"""Who is in a photo: a small network of our own finds people offline; masks that let everything else be repainted."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import ceil, floor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from editproof.building import ONE_AT_A_TIME
from editproof.errors import UserError
from editproof.people.faces import face_boxes
from editproof.resolution import working_copy
from editproof.surroundings import undisturbed

Box = tuple[float, float, float, float]  # left, top, right, bottom, in shares of the picture
EMBEDDED = Path(__file__).parents[1] / "assets" / "people" / "model.safetensors"
SIDE, MULTIPLE = 256, 32  # pixels: the longer side at which people are looked for; what both sides are multiples of
CHANNELS = (16, 24, 40, 64, 80)  # at 1/2, 1/4 ... 1/32 of the size
SURE = 0.9  # a picture has people only if the network is this sure of a face somewhere
LIKELY = 0.6  # then every region whose surest tenth of pixels reaches this for a person counts
COUNTED = 0.8  # of a face's brightest pixel, to be counted
SCALE = ".scale"  # ends the names of scales in the file
SMALLEST = 0.002  # of the picture, a region that counts
MISSED = 0.5  # of a face's box may be repainted: the network has missed it
MARGIN = 2  # pixels of SIDE around people that are kept, too: the network draws hair short
HEAD = (1.0, 1.3, 0.3)  # round a face, in its box's sides: half the width, half the height, how much higher it lies
NECK = 0.15  # where shoulders begin, from the middle of the box
SHOULDERS = (1.9, 1.0, 3.0)  # below: half their width, over what height they widen to it, how far down they go


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut: (B,C,H,W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(inner)))


class PeopleNet(nn.Module):
    """A UNet: (B,3,H,W) in [0,1], H and W multiples of 32 -> (B,2,H,W), the logits of person and of face."""

    def __init__(self) -> None:
        super().__init__()
        above = (3, *CHANNELS)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), Residual(b))
            for a, b in zip(above, CHANNELS, strict=False)
        )
        self.context = nn.Linear(CHANNELS[-1], CHANNELS[-1])  # of the whole picture
        self.across = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(CHANNELS))  # to the level above
        self.up = nn.ModuleList(Residual(c) for c in CHANNELS[:-1])
        self.head = nn.Conv2d(CHANNELS[0], 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, levels = images * 2 - 1, []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        x = x + self.context(x.mean((2, 3)))[:, :, None, None]
        for level in reversed(range(len(self.up))):
            x = functional.interpolate(self.across[level](x), scale_factor=2.0, mode="bilinear")
            x = self.up[level](x + levels[level])
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear")


@cache
def _network() -> PeopleNet:
    return load_people(EMBEDDED)


def load_people(file: Path) -> PeopleNet:
    """The network with the weights in `file`, in eval mode, float32 on the CPU."""
    found = {name: value.float() if value.is_floating_point() else value for name, value in load_file(file).items()}
    scales = {name.removesuffix(SCALE): found.pop(name) for name in list(found) if name.endswith(SCALE)}
    with ONE_AT_A_TIME:
        network = PeopleNet()
        network.load_state_dict({n: v.float() * scales[n] if n in scales else v for n, v in found.items()})
    return network.eval()


def save_people(network: PeopleNet, file: Path) -> None:
    """Write the weights, those of convolutions as whole numbers from -127 to 127 and a scale for each output."""
    tensors = {}
    for name, value in network.state_dict().items():
        value = value.detach().cpu()
        if value.ndim == 4:
            scale = (value.abs().amax((1, 2, 3), keepdim=True) / 127).clamp_min(1e-6).half()
            tensors[name + SCALE] = scale
            value = (value / scale.float()).round().clamp(-127, 127).to(torch.int8)
        tensors[name] = (value.half() if value.is_floating_point() else value).contiguous()
    save_file(tensors, file)


def seen_size(height: int, width: int) -> tuple[int, int]:
    """The size at which people are looked for in a picture: SIDE pixels on its longer side, multiples of MULTIPLE."""
    scale = SIDE / max(height, width)
    return tuple(max(MULTIPLE, round(length * scale / MULTIPLE) * MULTIPLE) for length in (height, width))  # type: ignore[return-value]


@torch.inference_mode()
def probabilities(images: Tensor) -> Tensor:
    """Photos (B,3,H,W), in [0,1] or uint8 -> (B,2,h,w) in [0,1], of person and of face, at seen_size."""
    height, width = images.shape[-2:]
    small = working_copy(images.cpu(), seen_size(height, width))
    return _network()(small).sigmoid()


def regions(seen: Tensor, boxes: Sequence[Box] = ()) -> tuple[Tensor, int]:
    """One picture's probabilities (2,h,w) -> those of a person (h,w), cleaned, and how many people there seem to be.

    A face has to be seen clearly in some region, or one of `boxes` be there, for a false alarm would leave most of a
    photo unprotected; then every likely region counts. Others become 0, holes 1. What is counted is faces, because
    people who touch are one region.
    """
    person, face = (channel.numpy() for channel in seen)
    cleaned = np.minimum(person, 0.49)
    labels, count = ndimage.label(person > 0.5)
    found_regions = [region for i in range(1, count + 1) if (region := labels == i).mean() >= SMALLEST]
    people = 0
    height, width = person.shape
    middles = [
        (min(height - 1, int((top + bottom) / 2 * height)), min(width - 1, int((left + right) / 2 * width)))
        for left, top, right, bottom in boxes
    ]
    sure = [face[region].max() >= SURE or any(region[at] for at in middles) for region in found_regions]
    if not any(sure):
        return torch.from_numpy(cleaned), people
    for region, clear in zip(found_regions, sure, strict=True):
        if not clear and np.quantile(person[region], 0.9) < LIKELY:
            continue
        filled = ndimage.binary_fill_holes(region)
        cleaned[filled] = np.where(region, person, 1.0)[filled]
        found, faces = ndimage.label((face > 0.5) & filled)
        people += int((ndimage.maximum(face, found, range(1, faces + 1)) >= COUNTED).sum()) if faces else 0
    return torch.from_numpy(cleaned), max(1, people)


def with_faces(seen: Tensor, boxes: Sequence[Box]) -> tuple[Tensor, int, int]:
    """One picture's probabilities (2,h,w) with a person, head and shoulders, around each of the detector's faces that
    the network has missed; how many people it has found, and how many faces it has missed."""
    cleaned, people = regions(seen, boxes)
    size, seen = (cleaned.shape[0], cleaned.shape[1]), seen.clone()
    missed = [box for box in boxes if (cleaned[_within(box, size)] <= 0.5).float().mean() > MISSED]
    for box in missed:
        seen[0][head_and_shoulders(box, size)] = 1
        seen[1][_within(box, size)] = 1
    return seen, people, len(missed)


@undisturbed
def find_people(images: Tensor) -> Tensor:
    """Photos (B,3,H,W) in [0,1] -> masks (B,1,H,W): 0 a person, 1 may be repainted; all 1 if nobody is found.

    See auto_mask.
    """
    masks = [auto_mask(image)[0] for image in images]
    return torch.cat([torch.ones(1, 1, *images.shape[-2:]) if mask is None else mask for mask in masks]).to(
        images.device
    )


def detected(image: Tensor) -> list[Box]:
    """Where dlib sees faces in a picture (3,H,W), in [0,1] or uint8; nowhere if the extra `faces` is not installed."""
    try:
        return face_boxes(image)
    except UserError:
        return []


def at_size(cleaned: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities of a person (B,1,h,w) -> the masks (B,1,H,W) of photos of `size` (H, W), MARGIN around people."""
    grown = functional.max_pool2d(cleaned, 2 * MARGIN + 1, 1, MARGIN)
    return (functional.interpolate(grown, size, mode="bilinear") <= 0.5).float()


@undisturbed
def auto_mask(image: Tensor) -> tuple[Tensor | None, str]:
    """The mask of a photo that keeps the people who are found in it.

    If the extra `faces` is installed, dlib's face detector is asked as well: its faces make the network's regions sure,
    and around those that the network has missed, head and shoulders are kept.

    Args:
        image: (3, H, W), in [0, 1] or uint8.

    Returns:
        The mask (1, 1, H, W), 1 = may be repainted, None where nobody was found and the whole photo is to be protected;
        and a sentence on who was found.
    """
    seen, people, missed = with_faces(probabilities(image[None])[0], boxes := detected(image))
    cleaned, _ = regions(seen, boxes)
    if not people and not missed:
        return None, "nobody found: the whole photo is protected"
    mask = at_size(cleaned[None, None], (image.shape[-2], image.shape[-1]))
    found = [_count(people, "person", "people")] if people else []
    found += [f"{_count(missed, 'face', 'faces')} by the face detector only"] if missed else []
    kept = ", head and shoulders are kept" if missed else ""
    return mask, f"{' and '.join(found)} found{kept}; the rest ({mask.mean().item():.0%} of the photo) may be repainted"


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def head_and_shoulders(box: Box, size: tuple[int, int]) -> Tensor:
    """Where head and shoulders around a face's box may be in a picture of `size`: (H, W) bool.

    A round shape for the head with its hair, and below the chin a shape that widens like shoulders.
    """
    (left, top, right, bottom), (height, width) = box, size
    rows = (torch.arange(height)[:, None] + 0.5) / height
    columns = (torch.arange(width)[None] + 0.5) / width
    across = (columns - (left + right) / 2) / (right - left)  # in widths of the face, from its middle
    down = (rows - (top + bottom) / 2) / (bottom - top)
    head = (across / HEAD[0]).abs() ** 3 + ((down + HEAD[2]) / HEAD[1]).abs() ** 3 <= 1
    below = down - NECK
    wide = SHOULDERS[0] * (below / SHOULDERS[1]).clamp(0, 1).sqrt()
    return head | ((below >= 0) & (down <= 0.5 + SHOULDERS[2]) & (across.abs() <= wide))


def _within(box: Box, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a face."""
    left, top, right, bottom = box
    first, second = (
        slice(max(0, floor(low * length)), max(1, ceil(high * length)))
        for (low, high), length in zip(((top, bottom), (left, right)), size, strict=True)
    )
    return first, second
