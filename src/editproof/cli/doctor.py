"""What this machine has and what fits on it."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from editproof import __version__
from editproof.editors import EDITORS, FIRST_BLOCK, EditorInfo, on_disk

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors", "numpy", "pillow")
PER_PIXEL = 2048  # activations of an edit for each pixel, in numbers of a weight's size: a rule of thumb


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


def needed(info: EditorInfo, device: Device) -> dict[str, int]:
    """Bytes that an editor takes on a device, by plan, to edit (or with "first-block", to protect) one photo."""
    from editproof.editors.speed.streaming import AHEAD

    weight, activations = device.bytes_per_weight, device.bytes_per_weight * PER_PIXEL * info.size**2
    found = {"whole": info.weights * 10**6 * weight + activations}
    if device.name != "cpu":
        found["stream"] = AHEAD + 2 * info.largest * 10**6 * weight + activations
    if info.first_block:
        found["first-block"] = info.first_block * 10**6 * weight + activations
    return found


def fitting(info: EditorInfo, device: Device, memory: int) -> str:
    """The first plan of an editor that fits a device of a machine with `memory` bytes, in words."""
    from editproof.editors.speed.placement import ROOM

    plans = needed(info, device)
    weights = info.weights * 10**6 * device.bytes_per_weight
    usable = {
        "whole": weights <= ROOM * device.total or device.name == "cpu",
        "stream": weights <= memory,
        "first-block": True,
    }
    for plan, size in plans.items():
        if usable[plan] and size <= device.total:
            return f"{plan}, {size / 2**30:.1f} GiB" + (" (veto only)" if plan == FIRST_BLOCK else "")
    return f"no, {min(plans.values()) / 2**30:.1f} GiB"


def methods_table() -> list[dict[str, Any]]:
    """The methods: name, whether it needs an editor, its own settings (--set), and what it does with its paper."""
    from editproof.methods import METHODS

    return [
        {
            "method": name,
            "needs_editor": method.needs != "none",
            "settings": list(method.settings),
            "description": method.title + "".join(f" (needs {name})" for name in method.required),
        }
        for name, method in METHODS.items()
    ]


def counters_table() -> list[dict[str, Any]]:
    """The counter-attacks: name, default, range and meaning of the strength, gradient, whether it needs an editor.

    Named chains last.
    """
    from editproof.counters import CHAINS, COUNTERS, differentiable, needs_editor

    chains = [
        {
            "counter": name,
            "default": "",
            "range": "",
            "strength": chain,
            "gradient": differentiable(chain),
            "needs_editor": needs_editor(chain),
        }
        for name, chain in CHAINS.items()
    ]
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
    ] + chains


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
