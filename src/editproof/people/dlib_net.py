"""dlib's face recognition network (King 2017, dlib.net; weights CC0) in PyTorch, so that it has a gradient.

A ResNet with 29 convolutions, which gives 128 numbers for a face chip of 150x150 pixels. The weights are read from the
file of the package face-recognition-models (extra `faces`); they are not shipped here.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editproof.errors import UserError
from editproof.people.faces import NETWORK, model_file

MEAN = (122.782, 117.001, 104.298)  # of a chip's channels, in 0..255
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # of the blocks
FIRST_TENSOR = 300  # bytes: tensors before are of the loss


class Affine(nn.Module):
    """A gain and an offset for each channel: what batch normalisation has become."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class Block(nn.Module):
    """relu(input + two convolutions of it). `down`: at half the size, where the input is averaged over 2x2 pixels.

    Where sizes or channels differ the smaller of both is padded with zeros, as dlib's add_prev does.
    """

    def __init__(self, channels: int, width: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(channels, width, 3, 2 if down else 1, 0 if down else 1)
        self.affine1 = Affine(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.affine2 = Affine(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.affine2(self.conv2(F.relu(self.affine1(self.conv1(x)))))
        if self.down:
            x = F.avg_pool2d(x, 2, 2)
        sides = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_padded(x, sides) + _padded(y, sides))


class FaceNet(nn.Module):
    """Face chips (B, 3, 150, 150) in [0, 1] -> (B, 128): what `compute_face_descriptor` gives."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.conv, self.affine = nn.Conv2d(3, WIDTHS[0], 7, 2), Affine(WIDTHS[0])
        before = (WIDTHS[0], *WIDTHS[:-1])
        downs = [a != b for a, b in zip(before, WIDTHS, strict=True)]
        downs[-1] = True  # the last block halves the size, not the channels
        self.blocks = nn.Sequential(*(Block(*sizes) for sizes in zip(before, WIDTHS, downs, strict=True)))
        self.fc = nn.Linear(WIDTHS[-1], 128, bias=False)

    def forward(self, chips: Tensor) -> Tensor:
        x = (chips * 255 - self.mean) / 256
        x = F.max_pool2d(F.relu(self.affine(self.conv(x))), 3, 2)
        return self.fc(self.blocks(x).mean((2, 3)))


@cache
def face_net(device: torch.device | str = "cpu") -> FaceNet:
    """The network with dlib's weights, which require no gradient. Raises UserError."""
    return read_weights(model_file(NETWORK)).to(device)


def read_weights(path: Path) -> FaceNet:
    """The network in a file of dlib's. Raises UserError.

    A layer's parameters are one tensor: a convolution's filters and biases, an affine layer's gains and offsets. The
    first layer stands first. Between them are settings, which are passed over.
    """
    net, data, at = FaceNet().eval().requires_grad_(False), path.read_bytes(), FIRST_TENSOR
    for name, module in net.named_modules():
        parts = list(module.parameters(recurse=False))
        if parts:
            size = sum(part.numel() for part in parts)
            head = _header(*((256, 128) if isinstance(module, nn.Linear) else (size, 1)))
            at = data.find(head, at) + len(head)
            if at < len(head) or at + 4 * size > len(data):
                raise UserError(f"{path} is not dlib's face recognition network: {name} ({size} numbers) is not in it")
            values = torch.from_numpy(np.frombuffer(data, "<f4", size, at).astype(np.float32))
            at += 4 * size
            if isinstance(module, nn.Linear):  # dlib's is (inputs, outputs)
                values = values.view(256, 128).T
            for part, value in zip(parts, values.flatten().split([part.numel() for part in parts]), strict=True):
                part.copy_(value.view_as(part))
    return net


def _header(samples: int, channels: int) -> bytes:
    """How a tensor of samples x channels x 1 x 1 begins: version 2 and its sizes, each after its number of bytes."""
    numbers = [n.to_bytes((n.bit_length() + 7) // 8, "little") for n in (2, samples, channels, 1, 1)]
    return b"".join(bytes([len(number)]) + number for number in numbers)


def _padded(x: Tensor, sides: list[int]) -> Tensor:
    """Zeros after the last channel, row and column, up to `sides`."""
    channels, rows, columns = (side - have for side, have in zip(sides, x.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels))
