"""The one-pass network in 8 bits on a CPU: a third of the time, nearly the same perturbation.

Weights and what passes between the layers are whole numbers of 8 bits; sums are exact, so the number of threads changes
nothing. Norms (of each photo alone) are float32. Needs a CPU that multiplies such numbers: without those instructions
it would be slow, and sums could overflow.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, PhotoNorm

INSTRUCTIONS = ("avx512_vnni", "avx_vnni")
GREY = 127  # the level that stands for 0 in what the network is given: 0 to 255 for -1 to 1
REACH = 8.0  # standard deviations behind a norm that 8 bits hold; what is further is cut
STRIP = 600_000  # numbers that are worked on at a time, so that they stay in the processor's cache
ALL_ROWS = 128  # of a picture of more, every second row is enough for the mean and spread of a layer
ONES = [1, 1]


def can_eight_bits(device: torch.device) -> bool:
    """Whether a device is a CPU with the instructions."""
    return device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in INSTRUCTIONS)


class EightBits:
    """A network in 8 bits, called as the network is: `(B,in_channels,H,W)` in [-1,1] -> `(B,out_channels,H,W)`.

    Args:
        network: with the statistics of each photo, in float32 on a CPU that `can_eight_bits`. Raises UserError.
    """

    def __init__(self, network: NestedUNet) -> None:
        if not can_eight_bits(network.final.weight.device):
            raise UserError("bits is 8; allowed: only on a CPU with instructions for it (AVX-512 VNNI, AVX-VNNI)")
        if network.batch_norm != "photo":
            raise UserError("bits is 8; allowed: for networks whose norms are of each photo (batch_norm 'photo')")
        self.in_channels, self.depths, self.batch_norm = network.in_channels, network.depths, network.batch_norm
        self.trained_eps, self.size, self.final = network.trained_eps, network.size, network.final
        self._blocks: dict[tuple[int, int], tuple[_Layer, _Layer]] = {}
        given = torch.full((network.in_channels,), 2.0, dtype=torch.float64)
        tops: dict[tuple[int, int], Tensor] = {}  # of what each block gives: the number that 255 stands for, by channel
        for level, column in _order(len(self.depths)):
            block = getattr(network, f"conv{level}_{column}")
            below = [tops[level - 1, 0]] if level else [given]
            inputs = [*(tops[level, k] for k in range(column)), tops[level + 1, column - 1]] if column else below
            first = _Layer(block.conv1, torch.cat(inputs), block.bn1, GREY if (level, column) == (0, 0) else 0)
            second = _Layer(block.conv2, first.top, block.bn2)
            self._blocks[level, column], tops[level, column] = (first, second), second.top
        self._last = _Layer(network.final, tops[0, len(self.depths) - 1])

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([self._one(image[None]) for image in images])

    def _one(self, image: Tensor) -> Tensor:
        told = image.mul(127.5).add_(127.25).round_().clamp_(0, 255)  # photos have whole levels; 0, no mask, is GREY
        given = told.to(torch.uint8, memory_format=torch.channels_last)
        rows: dict[tuple[int, int], Tensor] = {}
        exact: dict[int, Tensor] = {}  # of each level the latest, not rounded yet
        for level, column in _order(len(self.depths)):
            if column:
                up = functional.interpolate(exact[level + 1], scale_factor=2, mode="bilinear", align_corners=True)
                inputs = _beside([*(rows[level, k] for k in range(column)), up])
            else:
                inputs = _halved(rows[level - 1, 0]) if level else given
            first, second = self._blocks[level, column]
            exact[level] = second.normed(first.normed(inputs).to(torch.uint8))
            rows[level, column] = exact[level].to(torch.uint8)
        assert self.final.bias is not None
        last = self._last.sums(rows[0, len(self.depths) - 1])
        return last * self._last.scale.float().view(1, -1, 1, 1) + self.final.bias.view(1, -1, 1, 1)


def _order(levels: int) -> list[tuple[int, int]]:
    """The blocks (level, column) of a UNet++, each after those that it reads."""
    return [(total - column, column) for total in range(levels) for column in range(total + 1)]


class _Layer:
    """A convolution of numbers of 8 bits, and the norm and ReLU behind it.

    `tops`: what 255 stands for in each channel of its input; `zero`: the number that stands for 0.
    """

    def __init__(self, conv: nn.Conv2d, tops: Tensor, norm: PhotoNorm | None = None, zero: int = 0) -> None:
        weight = conv.weight.detach().double() * (tops / 255).view(1, -1, 1, 1)
        self.scale = (weight.abs().amax((1, 2, 3)) / 127).clamp_min(1e-30)
        whole = (weight / self.scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        self._zero, self._pad = zero, [conv.padding[0]] * 2
        self._scales, self._zeros = torch.ones(len(whole)), torch.zeros(len(whole), dtype=torch.int32)
        pack = torch.ops.onednn.qconv_prepack
        self._weight = pack(whole, self._scales, 1.0, zero, ONES, self._pad, ONES, 1, None)
        if norm is not None:
            self._gain, self._shift = norm.weight.detach().double(), norm.bias.detach().double()
            self._eps = norm.eps / self.scale.square()  # the sums are not scaled
            self.top = (self._shift.abs() + REACH * self._gain.abs()).clamp_min(1e-3)

    def sums(self, x: Tensor) -> Tensor:
        """The convolution of (1, C, H, W) uint8, channels last: whole numbers, as float32."""
        return torch.ops.onednn.qconv2d_pointwise(
            x, 1.0, self._zero, self._weight, self._scales, self._zeros, None, ONES, self._pad, ONES, 1, 1.0, 0,
            torch.float32, "none", [], "",
        )  # fmt: skip

    def normed(self, x: Tensor) -> Tensor:
        """The convolution, norm and ReLU; 255 is `top`. Half a level is added: cutting the fraction off rounds it."""
        y = self.sums(x)
        rows = y.permute(0, 2, 3, 1)[0]  # (H, W, C)
        height, width, _ = rows.shape
        some = rows[::2] if height > ALL_ROWS else rows
        count = some.shape[0] * width
        mean = some.sum(1).double().sum(0) / count
        square = torch.bmm(some.transpose(1, 2), some).diagonal(dim1=1, dim2=2).double().sum(0) / count
        gain = self._gain / (square - mean.square() + self._eps).sqrt() * (255 / self.top)
        shift = self._shift * (255 / self.top) - mean * gain + 0.5
        for strip in rows.split(max(1, STRIP // rows[0].numel())):
            torch.addcmul(shift.float(), strip, gain.float(), out=strip).clamp_(0, 255.5)
        return y


def _beside(pictures: list[Tensor]) -> Tensor:
    """Pictures (1, C, H, W) of one size beside each other, channels last, uint8."""
    _, _, height, width = pictures[0].shape
    out = torch.empty(height, width, sum(x.shape[1] for x in pictures), dtype=torch.uint8)
    for part, x in zip(out.split([x.shape[1] for x in pictures], -1), pictures, strict=True):
        part.copy_(x[0].permute(1, 2, 0))
    return out.permute(2, 0, 1)[None]


def _halved(x: Tensor) -> Tensor:
    """The largest of 2x2 pixels each, of (1, C, H, W) uint8, channels last, which max_pool2d cannot do."""
    _, channels, height, width = x.shape
    above, below = x.permute(0, 2, 3, 1).reshape(height // 2, 2, width * channels).unbind(1)
    left, right = torch.maximum(above, below).view(height // 2, width // 2, 2, channels).unbind(2)
    return torch.maximum(left, right).permute(2, 0, 1)[None]
