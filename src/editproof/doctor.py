"""What this machine has and what fits on it."""

import inspect
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from editproof import __version__
from editproof.editors import EDITORS, EditorInfo

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors", "numpy", "pillow")
# Millions of parameters, text encoders and VAE included, safety checkers not.
PARAMETERS = {
    "tiny-inpaint": 9,
    "sd-inpaint": 1067,
    "sd2-inpaint": 1290,
    "sdxl-inpaint": 3469,
    "instruct-pix2pix": 1067,
    "flux-kontext": 16870,
    "step1x-edit": 20830,
}
EDITING = 1.3  # what an edit of one photo takes, relative to the weights: a rule of thumb


@dataclass(frozen=True)
class Device:
    """A place to compute: its name for --device, what it is, its memory in bytes, and bytes per weight there."""

    name: str
    what: str
    total: int
    free: int
    bytes_per_weight: int


def package_versions() -> dict[str, str]:
    """Versions of everything a result may depend on; "missing" for what is not installed."""
    found = {"editproof": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def devices() -> list[Device]:
    """The devices of this machine, the one that is taken by default first."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), total, free, 2))
    memory = psutil.virtual_memory()
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU (shares the memory)", memory.total, memory.available, 4))
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    found.append(Device("cpu", f"{cores} cores, {platform.machine()}", memory.total, memory.available, 4))
    return found


def on_disk(info: EditorInfo) -> bool:
    """Whether an editor can be loaded without network: its files ship with the package or lie in the hub's cache."""
    if info.embedded:
        return (Path(__file__).parent / "assets" / info.source / "model_index.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    weights = ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
               "transformer/diffusion_pytorch_model.safetensors.index.json")  # fmt: skip
    found = [try_to_load_from_cache(info.source, "model_index.json")]
    found += [next(filter(None, (try_to_load_from_cache(info.source, file) for file in weights)), None)]
    return all(isinstance(path, str) for path in found)


def needed(name: str, device: Device) -> int:
    """Bytes that one edit needs on a device: weights and some room. Gradients need several times as much."""
    return int(PARAMETERS[name] * 1e6 * device.bytes_per_weight * EDITING)


def methods_table() -> list[dict[str, Any]]:
    """The methods: name, whether it needs an editor, its own settings (--set), and what it does with its paper."""
    from editproof.methods import METHODS
    from editproof.protection import WITHOUT_EDITOR, own_knobs

    return [
        {
            "method": name,
            "needs_editor": name not in WITHOUT_EDITOR,
            "settings": list(own_knobs(name)),
            "description": (inspect.getdoc(inspect.getmodule(function)) or "").splitlines()[0],
        }
        for name, function in METHODS.items()
    ]


def counters_table() -> list[dict[str, Any]]:
    """The counter-attacks: name, default, range and meaning of the strength, gradient, whether it needs an editor."""
    from editproof.counters import COUNTERS

    return [
        {
            "counter": name,
            "default": "" if info.low == info.high else f"{info.default:g}",
            "range": "" if info.low == info.high else f"{info.low:g} to {info.high:g}",
            "strength": info.note,
            "gradient": info.differentiable,
            "needs_editor": info.needs_editor,
        }
        for name, info in COUNTERS.items()
    ]


def editors_table() -> list[dict[str, Any]]:
    """The editors: name, side in pixels, whether it takes a mask and can be loaded offline, licence, source."""
    return [
        {
            "editor": name,
            "side": info.size,
            "mask": info.masked,
            "on_disk": on_disk(info),
            "licence": info.licence,
            "source": "embedded" if info.embedded else info.source,
        }
        for name, info in EDITORS.items()
    ]
