"""What benchmarks/speed.py measures: cases by part, the models they need, and variants to compare the default with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from real_sizes import flux_kontext, sd_inpaint
from torch import nn

from editproof.editors import load_editor
from editproof.editors.speed import compiling
from editproof.editors.speed import placement as plans
from editproof.editors.speed.graphs import Graphs
from editproof.immunizer.network import NestedUNet, load_immunizer

NEVER = 10**9  # gradients


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    model: str  # a name in MODELS
    method: str  # a name in METHODS, "pass" for a network's forward
    batch: int = 1
    side: int = 512  # pixels
    settings: dict[str, Any] = field(default_factory=dict)
    variant: str = "default"
    limit: float | None = None  # GiB of GPU memory that PyTorch may take
    profile: bool = False  # on a GPU, also list the kernels that take most of a step

    def described(self) -> dict[str, Any]:
        """The row's first columns."""
        return {
            "model": self.model, "method": self.method, "batch": self.batch, "side": self.side,
            "settings": self.settings, "variant": self.variant, "limit_gib": self.limit,
        }  # fmt: skip


def _eager(model: Any) -> None:
    """Nothing recorded, nothing compiled."""
    compiling.MANY = NEVER
    for place, name, graphs in list(_graphs(model)):
        graphs.forget()
        setattr(place, name, partial(_chosen, graphs))


def _chosen(graphs: Graphs, *arguments: Any, **named: Any) -> Any:
    return graphs.function(*arguments, **named, **graphs.choose(*arguments, **named))


def _not_compiled(model: Any) -> None:
    compiling.MANY = NEVER


def _graphs(model: Any) -> Iterator[tuple[Any, str, Graphs]]:
    parts = [model] if isinstance(model, NestedUNet) else [p for p in model.pipe.components.values() if p is not None]
    for module in (module for part in parts if isinstance(part, nn.Module) for module in part.modules()):
        yield from ((module, name, found) for name, found in vars(module).items() if isinstance(found, Graphs))


VARIANTS: dict[str, Callable[[Any], None]] = {
    "default": lambda model: None,
    "eager": _eager,
    "not compiled": _not_compiled,
}


def change(variant: str, model: Any) -> None:
    """Make a variant of a model, for the rest of this process."""
    VARIANTS[variant](model)


def _network(half: bool) -> Callable[[torch.device, bool], NestedUNet]:
    def make(device: torch.device, tiny: bool) -> NestedUNet:
        network = NestedUNet(depths=(4, 8, 16, 32, 64) if tiny else (32, 64, 128, 256, 512), batch_norm="photo")
        network.eval().requires_grad_(False)
        return network.on(device) if half else network.to(device)

    return make


def _flux(plan: str) -> Callable[[torch.device, bool], Any]:
    return lambda device, tiny: flux_kontext(device, _dtype(device), tiny, plan)


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _unfused(device: torch.device, tiny: bool) -> Any:
    """With PyTorch's own norms, for comparison."""
    there = plans.works
    try:
        plans.works = lambda device: False
        return sd_inpaint(device, _dtype(device), tiny)
    finally:
        plans.works = there


MODELS: dict[str, Callable[[torch.device, bool], Any]] = {
    "unet++": _network(True),
    "unet++ float32": _network(False),
    "unet++ embedded": lambda device, tiny: load_immunizer().requires_grad_(False).on(device),
    "sd-inpaint": lambda device, tiny: sd_inpaint(device, _dtype(device), tiny),
    "sd-inpaint unfused": _unfused,
    "flux-kontext": _flux("whole"),
    "flux-kontext stream": _flux("stream"),
    "flux-kontext first-block": _flux("first-block"),
    "tiny-inpaint": lambda device, tiny: load_editor("tiny-inpaint", device),
    "tiny-kontext": lambda device, tiny: load_editor("tiny-kontext", device),
}


def build(model: str, device: torch.device, tiny: bool) -> Any:
    """A model by its name in MODELS."""
    torch.manual_seed(0)
    return MODELS[model](device, tiny)


ENCODER, DIFFUSION, GUARD = "photoguard-encoder", "photoguard-diffusion", "diffusionguard"
FOUR, DRAWS = {"samples": 4}, {"samples": 10, "denoising_steps": 4}

PARTS: dict[str, tuple[Case, ...]] = {
    "flux": (
        Case("flux-kontext", "decontext", profile=True),
        Case("flux-kontext", "decontext", 1, 1024, limit=80, profile=True),
        Case("flux-kontext", "decontext", variant="not compiled"),
        Case("flux-kontext", "decontext", 1, 1024, variant="not compiled", limit=80),
        Case("flux-kontext", "decontext", 1, 1024, limit=45),
        Case("flux-kontext stream", "decontext", 1, 1024, limit=24),
        Case("flux-kontext stream", "decontext", 1, 1024, limit=16),
        Case("flux-kontext", "decontext", 4, limit=80),
        Case("flux-kontext", "veto"),
        Case("flux-kontext first-block", "veto", limit=16),
        Case("flux-kontext", ENCODER),
    ),
    "sd": (
        Case("sd-inpaint", ENCODER, profile=True),
        Case("sd-inpaint", GUARD, settings=FOUR, profile=True),
        Case("sd-inpaint", DIFFUSION, settings=DRAWS, limit=80, profile=True),
        Case("sd-inpaint", DIFFUSION, settings=DRAWS, limit=24),
        Case("sd-inpaint", "autoencoder"),
        Case("sd-inpaint", ENCODER, 1, 1024),
        Case("sd-inpaint", GUARD, 1, 1024, FOUR),
    ),
    "immunizer": (
        Case("unet++", "pass", profile=True),
        Case("unet++", "pass", 16, profile=True),
        Case("unet++", "pass", 1, 1024),
        Case("unet++ float32", "pass"),
        Case("unet++ embedded", "pass"),
        Case("unet++ embedded", "pass", 16),
    ),
    "parts": (  # what recording and our norms buy
        *(Case(model, method, settings=settings, variant="eager") for model in ("sd-inpaint", "sd-inpaint unfused")
          for method, settings in ((ENCODER, {}), (GUARD, FOUR))),
    ),
    "cpu": (
        Case("unet++ embedded", "pass", 1, 256),
        Case("unet++ embedded", "pass", 1, 512),
        Case("unet++", "pass"),
        *(Case("tiny-inpaint", method, 1, 256) for method in (ENCODER, GUARD)),
        Case("tiny-inpaint", DIFFUSION, 1, 256, {"samples": 1}),
        *(Case("tiny-kontext", method, 1, 256) for method in ("decontext", "veto")),
        Case("tiny-kontext", "facelock", 1, 256),
    ),
}  # fmt: skip
