"""The one-pass immunizer: a UNet++ (arXiv 1807.10165) from photo to perturbation, as in DiffVax (arXiv 2411.17957)."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from editproof.building import ONE_AT_A_TIME
from editproof.editors.packed import pack, unpack
from editproof.editors.speed.fused import works
from editproof.errors import UserError
from editproof.files import atomic
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.immunizer.eight_bits import EightBits

DEPTHS = (32, 64, 128, 256, 512)
WIDE = 5_000_000  # parameters of a network that takes more than a second for 512x512 pixels on two cores in float32
ASSETS = Path(__file__).parents[1] / "assets"
EMBEDDED = ASSETS / "immunizer"


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for it, so that it is twice as quick as float32 rather than slower."""
    try:
        has = torch.cpu.get_capabilities()
    except AttributeError:
        return False
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class PhotoNorm(nn.BatchNorm2d):
    """BatchNorm; with `per_photo` each photo gets what BatchNorm in training mode gives it alone: nothing is stored."""

    per_photo = False

    def relu(self, x: Tensor) -> Tensor:
        """The norm and a ReLU."""
        if self.per_photo and len(x) > 1 and _fusable(x):
            from editproof.editors.speed.norms import group_norm

            return group_norm(x, x.shape[1], self.weight, self.bias, self.eps, "relu")
        return functional.relu(self(x), inplace=True)

    def behind(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """A convolution that the norm follows: without its bias where the norm takes that away again."""
        return conv._conv_forward(x, conv.weight, None if self.per_photo and _fusable(x) else conv.bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.per_photo and input.dtype == torch.float16:
            return _half_norm(input, self.weight, self.bias, self.eps)
        if self.per_photo:
            return functional.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(input)


def _fusable(x: Tensor) -> bool:
    """Whether norms.py's kernels can take x: float16 on a GPU, and no gradient, which they have not for weights."""
    return x.dtype == torch.float16 and not torch.is_grad_enabled() and works(x.device)


def _doubled(x: Tensor) -> Tensor:
    if _fusable(x):
        from editproof.editors.speed.norms import doubled

        return doubled(x)
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _half_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """instance_norm of float16 that leaves values in their order (channels last); float32 weights and statistics."""
    if len(x) == 1:
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    mean = x.mean((2, 3), keepdim=True, dtype=torch.float32)
    square = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=torch.float32).square() / x[0, 0].numel()
    scale = weight.view(1, -1, 1, 1) * (square - mean.square() + eps).rsqrt()
    return torch.addcmul((bias.view(1, -1, 1, 1) - mean * scale).to(x.dtype), x, scale.to(x.dtype))


def _mixed(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The last convolution (1x1), whatever the number of threads: on a CPU, how PyTorch shares it out changes rounding.

    So there, where no gradient is asked for, it is done channel by channel: each product and sum is rounded by itself.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
        return conv(x)
    assert conv.bias is not None
    weights = conv.weight[:, :, 0, 0, None, None]  # (outputs, inputs, 1, 1)
    mixed = conv.bias[:, None, None].expand(len(x), -1, *x.shape[2:]).clone()
    for channel in range(x.shape[1]):
        mixed += weights[:, channel] * x[:, channel : channel + 1]
    return mixed


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by a norm and a ReLU: `(B,inputs,H,W)` -> `(B,outputs,H,W)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = PhotoNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = PhotoNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2.relu(self.bn2.behind(self.conv2, self.bn1.relu(self.bn1.behind(self.conv1, x))))


class NestedUNet(nn.Module):
    """UNet++: the block (level, column) reads every earlier block of its level and the upsampled one below it.

    `(B,in_channels,H,W)` in [-1,1] -> `(B,out_channels,H,W)`, H and W multiples of `2 ** (len(depths) - 1)`. Without
    arguments it is DiffVax's network: 9,163,395 parameters and the keys of its checkpoint. `batch_norm` is "stored"
    (PyTorch's BatchNorm) or "photo" (each photo's own statistics, in training too). `trained_eps` is the bound it was
    trained with, None for none; `size` the side of the photos it was trained on, in pixels.
    """

    trained_eps: float | None = None
    size: int = 512  # DiffVax's

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, depths: Sequence[int] = DEPTHS, batch_norm: str = "stored"
    ) -> None:
        super().__init__()
        self.in_channels, self.depths = in_channels, tuple(depths)
        for level, depth in enumerate(self.depths):
            above = self.depths[level - 1] if level else in_channels
            self.add_module(f"conv{level}_0", ConvBlock(above, depth))
            for column in range(1, len(self.depths) - level):
                self.add_module(f"conv{level}_{column}", ConvBlock(column * depth + self.depths[level + 1], depth))
        self.final = nn.Conv2d(self.depths[0], out_channels, 1)
        self.use_batch_norm(batch_norm)

    def use_batch_norm(self, batch_norm: str) -> "NestedUNet":
        """Switches all norms to "stored" or "photo" (see the class) and returns self; UserError for another word."""
        if batch_norm not in ("photo", "stored"):
            raise UserError(f"batch_norm {batch_norm!r}: allowed are 'photo' and 'stored'")
        self.batch_norm = batch_norm
        for module in self.modules():
            if isinstance(module, PhotoNorm):
                module.per_photo = batch_norm == "photo"
        return self

    def on(self, device: torch.device) -> "NestedUNet":
        """For use without gradients on a device, norms in float32; returns self.

        On CUDA it is float16, channels last. On a CPU float32, or bfloat16 for a network of more than WIDE parameters
        where the CPU computes in that. (Channels last would take a third less time there, but its norms depend on the
        number of threads, and so would results.)
        """
        self.to(device)
        if device.type == "cuda":
            self.to(torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif device.type == "cpu" and sum(p.numel() for p in self.parameters()) > WIDE and has_bfloat16():
            self.to(torch.bfloat16)
        for module in self.modules():
            if isinstance(module, PhotoNorm):
                module.float()
        return self

    def forward(self, images: Tensor) -> Tensor:
        rows: list[list[Tensor]] = []
        for level in range(len(self.depths)):
            x = functional.max_pool2d(rows[level - 1][0], 2) if level else images
            rows.append([getattr(self, f"conv{level}_0")(x)])
            for column in range(1, level + 1):
                row = rows[level - column]
                below = rows[level - column + 1][-1]
                up = _doubled(below)
                row.append(getattr(self, f"conv{level - column}_{column}")(torch.cat([*row, up], 1)))
        return _mixed(self.final, rows[0][-1])


def perturb(
    network: "NestedUNet | EightBits", images: Tensor, mask: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """The perturbation `(B,3,H,W)` of `images`, in [0,1] units and differentiable, 0 where `mask` is 1.

    With `eps` it is `eps * tanh(output)`, and a photo without colours stays grey; without a bound it is half the output
    (DiffVax adds it to images in [-1,1]). The sum with `images` is not clamped. A 4-channel network sees the photo and
    a channel that is 0 without a mask, otherwise +1 on kept and -1 on repaintable pixels; a 3-channel one sees the
    photo with the edit region at mid-grey, as DiffVax's does. Any size: edges are replicated up to the multiple that
    the network needs; UserError where that leaves a single value in its lowest level, which has no statistics.
    """
    x = images * 2 - 1
    if network.in_channels == 4:
        told = torch.zeros_like(x[:, :1]) if mask is None else 1 - 2 * mask.to(x)
        x = torch.cat([x, told.expand(len(x), -1, -1, -1)], 1)
    elif mask is not None:
        x = x * (1 - mask)
    height, width = x.shape[-2:]
    multiple = 2 ** (len(network.depths) - 1)
    if network.batch_norm == "photo" and max(height, width) <= multiple:
        raise UserError(f"{width} x {height} pixels; allowed: more than {multiple} along one side for this network")
    if height % multiple or width % multiple:
        x = functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    output = network(x.to(network.final.weight.dtype))[..., :height, :width].float()
    delta = output / 2 if eps is None else keep_grey(images, eps * torch.tanh(output))
    return delta if mask is None else delta * (1 - mask)


def keep_grey(images: Tensor, delta: Tensor) -> Tensor:
    """The perturbation `delta` (B,3,H,W), alike in all channels for those of the images that have no colour."""
    spread = images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
    grey = spread.amax((1, 2, 3), keepdim=True) < 0.5 / 255
    return torch.where(grey, delta.mean(1, keepdim=True), delta)


def save_immunizer(network: NestedUNet, folder: str | Path, bits: int = 32, **notes: Any) -> None:
    """Write a network as `load_immunizer` reads it.

    Args:
        network: What is saved.
        folder: Gets `model.safetensors`, and `config.json` with the settings and `notes`.
        bits: Of a weight: 32, 16 (float16), or 8 (whole numbers and a scale for each output channel, see
            `editors.packed.pack`; norms and small kernels stay in float16).
        notes: What else `config.json` tells.

    Raises:
        UserError: For another number of bits.
    """
    if bits not in (8, 16, 32):
        raise UserError(f"bits is {bits!r}; allowed: 8, 16 or 32")
    folder = Path(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if bits == 8:
        tensors = pack(tensors)
    elif bits == 16:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    config = {
        "in_channels": network.in_channels,
        "depths": list(network.depths),
        "batch_norm": network.batch_norm,
        "eps": network.trained_eps,
        "size": network.size,
        **notes,
    }
    with atomic(folder / "config.json") as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())
    with atomic(folder / "model.safetensors") as file:
        file.write(save(tensors))


@undisturbed
def load_immunizer(path: str | Path | None = None) -> NestedUNet:
    """A one-pass network: UNet++ (Zhou et al. 2018) as DiffVax (arXiv 2411.17957) has it.

    Args:
        path: A folder of save_immunizer, its .safetensors, or a state dict (.pth or .safetensors) without a config.json
            beside it, such as DiffVax's `diffvax_trained.pth`: trained at 512 without a bound, norms on the photo's own
            statistics. None: the embedded one.

    Returns:
        The network in eval mode, float32 on the CPU.

    Raises:
        UserError: When the file is missing or holds something else.
    """
    file = weights_file(path)
    config = _read_config(file)
    try:
        safe = file.suffix == ".safetensors"
        tensors = unpack(load_file(file)) if safe else torch.load(file, map_location="cpu", weights_only=True)
        levels = sum(f"conv{level}_0.conv1.weight" in tensors for level in range(len(tensors)))
        with ONE_AT_A_TIME:
            network = NestedUNet(
                in_channels=tensors["conv0_0.conv1.weight"].shape[1],
                depths=[len(tensors[f"conv{level}_0.conv1.weight"]) for level in range(levels)],
                batch_norm=config["batch_norm"],
            )
            network.load_state_dict(tensors)
    except MemoryError:
        raise
    except Exception as error:  # torch.load and safetensors raise many kinds, with long advice, for a damaged file
        raise UserError(f"weights {str(file)!r}: not a NestedUNet state dict") from error
    network.trained_eps, network.size = config["eps"], config["size"]
    return network.eval()


def ready_immunizer(
    path: str | Path | None, batch_norm: str | None, device: torch.device, bits: int = 32
) -> "NestedUNet | EightBits":
    """load_immunizer's network on a device, its norms switched to `batch_norm` (None: as it was trained).

    The last two are kept while their files stay what they are, and shared: change nothing in them. With `bits` 8 it is
    an EightBits. Raises UserError, also for other `bits`.
    """
    if bits not in (8, 32):
        raise UserError(f"bits is {bits!r}; allowed: 8 or 32")
    file = weights_file(path)
    files = [file, file.with_name("config.json")]
    stamps = tuple((f, f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.is_file())
    return _ready(file, batch_norm, device, bits, stamps)


@lru_cache(maxsize=2)
def _ready(
    file: Path, batch_norm: str | None, device: torch.device, bits: int, stamps: object
) -> "NestedUNet | EightBits":
    network = load_immunizer(file)
    if batch_norm is not None:
        network.use_batch_norm(batch_norm)
    if bits == 8:
        from editproof.immunizer.eight_bits import EightBits

        return EightBits(network.to(device))
    return network.on(device)


def embedded(method: str) -> Path:
    """The folder of the network that is embedded for a one-pass method, which need not be there."""
    return ASSETS / method


def trained_size(path: str | Path | None = None) -> int:
    """The `size` of the network at `path` (see load_immunizer), which is not loaded for it. Raises UserError."""
    return _read_config(weights_file(path))["size"]


def weights_file(path: str | Path | None) -> Path:
    """The file of a network, None: the embedded one; of a folder the one in it. Raises UserError if there is none."""
    file = EMBEDDED if path is None else Path(path)
    file = file / "model.safetensors" if file.is_dir() or path is None else file
    if not file.is_file():
        raise UserError(
            f"weights {str(file)!r}: no such file; allowed are a .safetensors, a .pth or a training's folder"
        )
    return file


def _read_config(weights: Path) -> dict[str, Any]:
    """batch_norm, eps and size from the config.json beside a .safetensors; a bare state dict's are DiffVax's."""
    file = weights.with_name("config.json")
    if weights.suffix != ".safetensors" or not file.is_file():
        return {"batch_norm": "photo", "eps": None, "size": NestedUNet.size}
    try:
        config = json.loads(file.read_text())
        eps, size = config["eps"], config.get("size", NestedUNet.size)
        if config["batch_norm"] in ("photo", "stored") and (eps is None or 0 < eps <= 1) and 16 <= size <= 8192:
            return {"batch_norm": config["batch_norm"], "eps": eps, "size": int(size)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"weights {str(weights)!r}: '{file}' is not one that `editproof train` writes")
