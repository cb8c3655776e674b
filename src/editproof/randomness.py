"""Random numbers as arguments: every photo owns a seeded CPU generator, so what is drawn depends neither on its batch
nor on the device. Results of networks then agree up to float32 rounding, which differs with the batch's size."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Generators = Sequence[torch.Generator]


def generators(seed: int, n: int, device: torch.device | str = "cpu") -> list[torch.Generator]:
    """`n` generators, all seeded with `seed`: the n photos of a batch draw what each would draw alone."""
    return [torch.Generator(device).manual_seed(seed) for _ in range(n)]


def children(generators: Generators, n: int) -> list[torch.Generator]:
    """`n` new generators for each of `generators`, which seeds them: one for each image, then a second one for each ...

    So what one of them draws does not depend on how many draw together.
    """
    seeds = [torch.randint(2**62, (n,), generator=g).tolist() for g in generators]
    return [torch.Generator().manual_seed(own[draw]) for draw in range(n) for own in seeds]


def randn(shape: Sequence[int], generators: Generators, device: torch.device | str = "cpu") -> Tensor:
    """Normal noise of `shape` (one image's shape) for each generator: float32 `(len(generators), *shape)`."""
    return sent(torch.stack([torch.randn(*shape, generator=g, device=g.device) for g in generators]), device)


def rand(shape: Sequence[int], generators: Generators, device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [0,1) of `shape` (one image's shape) for each generator: `(len(generators), *shape)`."""
    return sent(torch.stack([torch.rand(*shape, generator=g, device=g.device) for g in generators]), device)


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """x on a device, without waiting for what a GPU still computes, as `x.to` would."""
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def random_masks(images: Tensor, generators: Generators) -> Tensor:
    """A random mask per image `(B,1,H,W)`, 1 = repaint, for attacks on a mask that nobody knows yet.

    A third each: everything but an ellipse around the centre (a face that is kept), one half of the picture, a box of
    a quarter to nine tenths of each side.
    """
    height, width = images.shape[-2:]
    rows = torch.linspace(0, 1, height).view(-1, 1)
    columns = torch.linspace(0, 1, width).view(1, -1)
    masks = []
    for kind, a, b, c, d in rand((5,), generators).tolist():
        if kind < 1 / 3:
            radius_y, radius_x = 0.2 + 0.2 * a, 0.15 + 0.2 * b
            centre_y, centre_x = 0.4 + 0.2 * c, 0.4 + 0.2 * d
            mask = ((rows - centre_y) / radius_y) ** 2 + ((columns - centre_x) / radius_x) ** 2 > 1
        elif kind < 2 / 3:
            angle = 2 * math.pi * a
            mask = (rows - 0.5) * math.sin(angle) + (columns - 0.5) * math.cos(angle) > 0
        else:
            box_height, box_width = 0.25 + 0.65 * a, 0.25 + 0.65 * b
            top, left = (1 - box_height) * c, (1 - box_width) * d
            mask = (rows >= top) & (rows < top + box_height) & (columns >= left) & (columns < left + box_width)
        masks.append(mask.expand(height, width)[None].float())
    return sent(torch.stack(masks), images.device)


@contextmanager
def same_bits(device: torch.device) -> Iterator[None]:
    """On CUDA, kernels that give the same bits every time, where PyTorch has them."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
