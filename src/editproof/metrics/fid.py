"""The Frechet inception distance of two sets of pictures (Heusel et al., arXiv 1706.08500), by torchmetrics.

It is of sets, not of a photo, so it stands beside the metrics that `editproof bench` takes: `editproof fid`.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editproof.building import ONE_AT_A_TIME
from editproof.errors import UserError
from editproof.resolution import resize
from editproof.surroundings import undisturbed

SIDE = 299  # pixels: Inception's, for ONNX files that do not say theirs
ALLOWED = (
    "allowed: Inception's weights as torch-fidelity has them (pt_inception-2015-12-05-6726825d.pth), or an .onnx file "
    "from pixels (N, 3, H, W) in 0..255 to features (N, D)"
)


@undisturbed
def fid(first: Iterable[Tensor], second: Iterable[Tensor], network: str | Path) -> float:
    """The Frechet distance of the features of two sets of pictures; 0 where the sets are alike.

    Args:
        first: Pictures (3, H, W) in [0, 1], at least two; sizes may differ.
        second: The same.
        network: A file with Inception's weights, or an ONNX file of another network of features.

    Returns:
        The distance. With fewer pictures than features (2048 of Inception's) it is too high, and a comparison holds for
        equal numbers only.

    Raises:
        UserError: Without torchmetrics, torch-fidelity or onnxruntime, for other files, for fewer than two pictures.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError:
        raise UserError("FID cannot be taken without torchmetrics: pip install 'editproof[fid]'") from None
    distance = FrechetInceptionDistance(feature=load_features(str(network)), normalize=False)
    for pictures, real in ((first, False), (second, True)):
        number = 0
        for picture in pictures:
            distance.update((picture[None].clamp(0, 1) * 255).round().byte().cpu(), real=real)
            number += 1
        if number < 2:
            raise UserError(f"FID of {number} pictures; allowed: at least two in each set")
    return float(distance.compute())


@lru_cache(maxsize=1)
def load_features(network: str) -> nn.Module:
    """A network of features: uint8 pictures (N, 3, H, W) -> (N, D). Raises UserError."""
    path = Path(network)
    if not path.is_file():
        raise UserError(f"FID: there is no file '{network}'; {ALLOWED}")
    made = OnnxFeatures(path) if path.suffix == ".onnx" else InceptionFeatures(path)
    with torch.no_grad():
        made.num_features = made(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)).shape[1]
    return made


class InceptionFeatures(nn.Module):
    """Inception as FID knows it, with the 2048 features of its last pooling, by torch-fidelity."""

    num_features: int

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise UserError("FID by Inception needs torch-fidelity: pip install 'editproof[fid]'") from None
        try:
            with ONE_AT_A_TIME:
                self.network = FeatureExtractorInceptionV3(
                    "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
                ).eval()
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"FID: '{path}' cannot be loaded as Inception ({said}); {ALLOWED}") from None

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (N, 2048) of uint8 pictures; the network scales them by itself."""
        found: Tensor = self.network(pictures)[0]
        return found


class OnnxFeatures(nn.Module):
    """The first output of an ONNX file, of pictures scaled to its side."""

    num_features: int

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise UserError("an .onnx file needs onnxruntime: pip install 'editproof[onnx]'") from None
        try:
            self.session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            self.given = self.session.get_inputs()[0]
            high, wide = (side if isinstance(side, int) else SIDE for side in self.given.shape[-2:])
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"FID: '{path}' cannot be loaded by onnxruntime ({said}); {ALLOWED}") from None
        self.size = high, wide

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (N, D) of uint8 pictures."""
        shown = resize(pictures.float(), self.size).round().clamp(0, 255)
        return torch.from_numpy(self.session.run(None, {self.given.name: shown.numpy()})[0]).flatten(1)
