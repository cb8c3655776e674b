"""The one-pass network for other runtimes: ONNX Runtime, OpenVINO, a phone's."""

import io
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editproof.errors import UserError
from editproof.files import atomic
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb
from editproof.surroundings import undisturbed

OPSET = 17


class Perturbation(nn.Module):
    """`images` (B,3,H,W) in [0,1], `mask` (B,1,H,W; 1 = may be repainted), `eps` (a number) -> `delta` (B,3,H,W).

    That is immunizer.network.perturb: for a network that was trained without a bound, `eps` has no effect.
    """

    def __init__(self, network: NestedUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, mask: Tensor, eps: Tensor) -> Tensor:
        bounded = self.network.trained_eps is not None
        none = mask.amax((1, 2, 3), keepdim=True) == 0
        if self.network.in_channels == 4:
            mask = torch.where(none, 0.5, mask)  # its channel says 1 - 2 * mask: 0, nothing is known
        delta = perturb(self.network, images, mask, eps if bounded else None)  # type: ignore[arg-type]
        if self.network.in_channels == 4:
            delta = torch.where(none, 2 * delta, delta)  # perturb has multiplied it by 1 - mask
        return delta if bounded else delta + 0 * eps


@undisturbed
def export_onnx(file: str | Path, weights: str | Path | None = None) -> dict[str, Any]:
    """Write the network of `weights` (None: the embedded one) as an ONNX file; returns what its metadata says.

    Sides must be multiples of `multiple`; a mask of zeros is none. Raises UserError.
    """
    content, said = onnx_of(weights)
    with atomic(file) as written:
        written.write(content)
    return said


def onnx_of(weights: str | Path | None = None) -> tuple[bytes, dict[str, Any]]:
    """What export_onnx writes, and what its metadata says. Raises UserError."""
    if find_spec("onnx") is None:
        raise UserError("an export needs onnx, which is not installed; allowed: pip install 'editproof[onnx]'")
    import onnx

    network = load_immunizer(weights)
    multiple = 2 ** (len(network.depths) - 1)
    side = max(64, 4 * multiple)
    example = (
        torch.zeros(1, 3, side, side + multiple),
        torch.zeros(1, 1, side, side + multiple),
        torch.tensor(8 / 255),
    )
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in ("images", "mask", "delta")}
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one
        torch.onnx.export(
            Perturbation(network), example, content, dynamo=False, opset_version=OPSET, dynamic_axes=axes,  # type: ignore[arg-type]
            input_names=["images", "mask", "eps"], output_names=["delta"],
        )  # fmt: skip
    model = onnx.load_from_string(content.getvalue())
    said = {
        "multiple": multiple, "size": network.size, "trained_eps": network.trained_eps,
        "sees_mask": network.in_channels == 4,
    }  # fmt: skip
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in said.items()})
    return model.SerializeToString(), said
