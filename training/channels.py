"""Which channels of an autoencoder's layers the layers after them can do without (narrow.py).

The second-order rule of Optimal Brain Surgeon (Hassibi and Stork 1992) for whole channels: what a layer's output loses
where a channel goes and the other channels' weights make up for it as well as they can, by its input's Gram matrix.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

TAPS = 9  # of a convolution of 3x3


def patches(x: Tensor, conv: nn.Conv2d, places: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(N, C * 9): what the convolution sees of x (B,C,H,W) at N places (picture, row, column of its output)."""
    padded, step = F.pad(x, (1, 1, 1, 1)), conv.stride[0]
    picture, row, column = places[0], places[1] * step, places[2] * step
    seen = [padded[picture, :, row + i, column + j] for i in range(3) for j in range(3)]
    return torch.stack(seen, -1).flatten(1)


def places_in(x: Tensor, stride: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random places of the output of a convolution with this stride on x (B,C,H,W)."""
    count, height, width = len(x), x.shape[-2] // stride, x.shape[-1] // stride
    chosen = torch.randperm(count * height * width)[:most]
    return chosen // (height * width), chosen // width % height, chosen % width


@dataclass
class Reader:
    """A convolution that reads channels of which some shall go: weights, and the inverse of its input's Gram matrix."""

    weight: Tensor
    inverse: Tensor
    size: Tensor

    @classmethod
    def of(cls, conv: nn.Conv2d, x: Tensor, most: int) -> "Reader":
        seen = patches(x, conv, places_in(x, conv.stride[0], most)).double()
        seen = seen - seen.mean(0)
        gram = seen.T @ seen / len(seen)
        gram = gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weight = conv.weight.double().flatten(1)
        return cls(weight.clone(), torch.linalg.inv(gram), ((weight @ gram) * weight).sum())

    def cost(self, channel: int) -> float:
        """The share of its output's power that is lost if this channel goes and the others make up for it."""
        taps = slice(channel * TAPS, (channel + 1) * TAPS)
        column = self.weight[:, taps]
        return float((column @ torch.linalg.inv(self.inverse[taps, taps]) * column).sum() / self.size)

    def remove(self, channel: int) -> None:
        taps = slice(channel * TAPS, (channel + 1) * TAPS)
        solved = torch.linalg.inv(self.inverse[taps, taps]) @ self.inverse[taps]
        self.weight -= self.weight[:, taps] @ solved
        self.inverse -= self.inverse[:, taps].clone() @ solved
        self.inverse[taps], self.inverse[:, taps] = 0.0, 0.0
        self.inverse[taps, taps] = torch.eye(TAPS, dtype=self.inverse.dtype)
        self.weight[:, taps] = 0.0


def channels_to_keep(readers: list[Reader], channels: int, width: int) -> list[int]:
    """The channels that are left when those whose loss the readers mind least went one by one."""
    left = list(range(channels))
    while len(left) > width:
        cheapest = min(left, key=lambda channel: sum(reader.cost(channel) for reader in readers))
        left.remove(cheapest)
        for reader in readers:
            reader.remove(cheapest)
    return left


def segments(layers: nn.Sequential) -> list[int]:
    """For each layer, the index of the convolution outside of blocks whose channels it gives on."""
    owner, owners = -1, []
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            owner = index
        owners.append(owner)
    return owners


def choose(layers: nn.Sequential, x: Tensor, width: int, most: int) -> dict[str, list[int]]:
    """The channels to keep of every convolution of the teacher's half, by its place ("3", "4.0", "4.2")."""
    owners, readers, kept = segments(layers), {}, {}
    for index, layer in enumerate(layers):
        owner = owners[index - 1] if index else -1
        if isinstance(layer, AutoencoderTinyBlock):
            readers.setdefault(owner, []).append(Reader.of(layer.conv[0], x, most))
            inner = x
            for place in (0, 2):
                inner = layer.conv[place + 1](layer.conv[place](inner))
                reader = Reader.of(layer.conv[place + 2], inner, most)
                kept[f"{index}.{place}"] = channels_to_keep([reader], inner.shape[1], width)
        elif isinstance(layer, nn.Conv2d) and index:
            readers.setdefault(owner, []).append(Reader.of(layer, x, most))
        x = layer(x)
    for owner, group in readers.items():
        kept[str(owner)] = channels_to_keep(group, layers[owner].out_channels, width)
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    kept[str(last)] = list(range(layers[last].out_channels))
    return kept
