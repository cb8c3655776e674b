"""Learned perceptual image patch similarity: how far apart two pictures are in the features of a classifier."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editproof.building import ONE_AT_A_TIME
from editproof.errors import UserError
from editproof.metrics.models import model_folder
from editproof.metrics.psnr import region_mean
from editproof.metrics.trial import check_pair

SOURCE = "timm/vgg16.tv_in1k"  # torchvision's VGG16 as safetensors
LEAST = 32  # pixels: below, nothing is left for the deepest layer
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, for pictures in [-1, 1]
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # the activations compared, by index in `features`


def lpips(images: Tensor, reference: Tensor, mask: Tensor | None = None, source: str | None = None) -> Tensor:
    """LPIPS 0.1 of Zhang et al. (arXiv 1801.03924): (B,), 0 where both are equal, around 1 where nothing is alike.

    (B, 3, H, W) twice, in [0, 1], sides of at least 32 pixels. With a mask (B, 1, H, W) each layer is averaged over its
    part of the region, though what a layer sees reaches beyond. source: a hub id or folder, see load_lpips. Raises
    UserError.
    """
    check_pair(images, reference, mask)
    if images.shape[1] != 3 or min(images.shape[-2:]) < LEAST:
        raise UserError(
            f"LPIPS cannot be taken of pictures of {tuple(images.shape)}; allowed: 3 channels, sides from {LEAST}"
        )
    network = load_lpips(source or SOURCE).to(images.device)
    with torch.no_grad():
        return network(images.float(), reference.float(), mask)


class Lpips(nn.Module):
    """A classifier's first layers, named as torchvision names them, and the weight of each of their channels."""

    def __init__(self, kind: str, weights: list[Tensor]) -> None:
        super().__init__()
        self.features, self.taps = _alex() if kind == "alex" else _vgg(), TAPS[kind]
        self.weights = nn.ParameterList(weight.view(1, -1, 1, 1) for weight in weights)

    def forward(self, images: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance (B,) of pictures (B, 3, H, W) in [0, 1]."""
        total = torch.zeros(len(images), device=images.device)
        for a, b, weight in zip(self._activations(images), self._activations(reference), self.weights, strict=True):
            difference = ((a - b).square() * weight).sum(1, keepdim=True)
            part = None if mask is None else F.adaptive_avg_pool2d(mask.to(a), difference.shape[-2:])
            total = total + region_mean(difference, part)
        return total

    def _activations(self, images: Tensor) -> list[Tensor]:
        """Of the layers compared, each pixel's channels scaled to length 1."""
        shift, scale = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x, found = (2 * images - 1 - shift) / scale, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found


def _alex() -> nn.Sequential:
    def block(inputs: int, outputs: int, side: int, stride: int = 1, padding: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU()]

    return nn.Sequential(
        *block(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2), *block(64, 192, 5, padding=2), nn.MaxPool2d(3, 2),
        *block(192, 384, 3), *block(384, 256, 3), *block(256, 256, 3),
    )  # fmt: skip


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for depth, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])


@lru_cache(maxsize=1)
def load_lpips(source: str) -> Lpips:
    """The network from all .safetensors, else .pth files of a folder or hub id, AlexNet or VGG16 by what they hold.

    They hold the classifier under torchvision's names (`features.0.weight`), and may hold LPIPS's own weights under the
    names of its 0.1 release (`lin0.model.1.weight`); otherwise those that torchmetrics ships are taken. Raises
    UserError.
    """
    folder = model_folder(source, "LPIPS", ["*.safetensors"])
    state = _read(folder)
    first = state.get("features.0.weight", torch.empty(0))
    kind = {"(64, 3, 11, 11)": "alex", "(64, 3, 3, 3)": "vgg"}.get(str(tuple(first.shape)))
    if kind is None:
        raise UserError(
            f"LPIPS model '{source}' holds neither AlexNet nor VGG16; allowed: .safetensors or .pth files with the "
            "features of one of them under torchvision's names"
        )
    if "lin0.model.1.weight" not in state:
        state |= _heads(kind)
    try:
        with ONE_AT_A_TIME:
            network = Lpips(kind, [state[f"lin{i}.model.1.weight"] for i in range(len(TAPS[kind]))])
        features = network.features.state_dict()
        network.features.load_state_dict({name: state[f"features.{name}"] for name in features})
    except (KeyError, RuntimeError) as error:
        raise UserError(f"LPIPS model '{source}' does not fit: {' '.join(str(error).split())}") from error
    return network.requires_grad_(False).eval()


def _read(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's files that LPIPS uses."""
    from safetensors import safe_open

    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            state |= {name: file.get_tensor(name).float() for name in file.keys() if _used(name)}  # noqa: SIM118
    for path in [] if state else sorted(folder.glob("*.pth")):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        state |= {name: tensor.float() for name, tensor in loaded.items() if _used(name)}
    return state


def _used(name: str) -> bool:
    return name.startswith(("features.", "lin"))


def _heads(kind: str) -> dict[str, Tensor]:
    """LPIPS's own weights, as torchmetrics ships them; importing it is not needed."""
    package = find_spec("torchmetrics")
    if package is None or not package.submodule_search_locations:
        raise UserError("LPIPS cannot be taken without its weights: pip install 'editproof[lpips]'")
    path = Path(package.submodule_search_locations[0], "functional", "image", "lpips_models", f"{kind}.pth")
    return torch.load(path, map_location="cpu", weights_only=True)
