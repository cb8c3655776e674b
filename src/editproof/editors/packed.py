"""Weights in 8 bits a number, as the embedded editors can be stored: half of float16, under a hundredth off."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FILE = "weights-int8.safetensors"  # beside a part's config.json
SCALE = ".scale"  # appended to a name: what each row of the whole numbers is multiplied by
SMALL = 1024  # tensors of fewer numbers stay in float16, as do those with one dimension


def pack(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8, each row (output channel) scaled by a float32; everything else in float16."""
    packed = {}
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            packed[name] = tensor.clone()
        elif tensor.ndim < 2 or tensor.numel() < SMALL:
            packed[name] = tensor.half().clone()
        else:
            rows = tensor.float().flatten(1)
            scale = (rows.abs().amax(1) / 127).clamp_min(1e-12)
            packed[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            packed[name + SCALE] = scale
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` was given, in float32, to the precision that it keeps."""
    weights = {}
    for name, tensor in packed.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in packed:
            continue
        scale = packed.get(name + SCALE)
        if scale is not None:
            weights[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        else:
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def save_packed(module: nn.Module, folder: Path) -> None:
    """Write a part's weights into `folder`, where its config.json is, in the place of those in other formats."""
    save_file(pack({name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}), folder / FILE)
    for file in (*folder.glob("*model*.safetensors"), *folder.glob("*.safetensors.index.json")):
        file.unlink()


def load_packed(folder: Path, library: str, class_name: str) -> nn.Module:
    """A part of a pipeline, float32, from its config.json and packed weights.

    Raises OSError, RuntimeError or ValueError for a file that is not such.
    """
    part_class = getattr(import_module(library), class_name)
    if library == "transformers":
        module = part_class(part_class.config_class.from_pretrained(folder))
    else:
        module = part_class.from_config(part_class.load_config(folder))
    module.load_state_dict(unpack(load_file(folder / FILE)))
    return module.eval()


def packed_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The parts of a pipeline's folder whose weights are packed, by name; {} for a folder of any other kind."""
    index = json.loads((folder / "model_index.json").read_text())
    return {
        name: nn.Module.to(load_packed(folder / name, *kind), dtype)  # diffusers' own `to` remarks on nothing
        for name, kind in index.items()
        if isinstance(kind, list) and (folder / name / FILE).is_file()
    }
