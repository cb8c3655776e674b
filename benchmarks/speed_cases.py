"""What benchmarks/speed.py measures: cases by part, the models they need, and variants to compare the default with."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from real_sizes import flux_kontext, sd_inpaint
from torch import nn

from editproof.editors import attention, load_editor, pipeline
from editproof.editors.speed import placement as plans
from editproof.editors.speed.graphs import Graphs
from editproof.immunizer.network import NestedUNet, load_immunizer


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    model: str  # a name in MODELS
    method: str  # a name in METHODS, "pass" for a network's forward
    batch: int = 1
    side: int = 512  # pixels
    settings: dict[str, Any] = field(default_factory=dict)
    variant: str = "default"
    profile: bool = False  # on a GPU, also list the kernels that take most of a step

    def described(self) -> dict[str, Any]:
        """The row's first columns."""
        return {
            "model": self.model, "method": self.method, "batch": self.batch, "side": self.side,
            "settings": self.settings, "variant": self.variant,
        }  # fmt: skip


def _undone(editor: Any, name: str, value: Any) -> Callable[[], None]:
    before = getattr(editor, name)
    setattr(editor, name, value)
    return lambda: setattr(editor, name, before)


def _eager(model: Any) -> Callable[[], None]:
    """Nothing recorded, nothing compiled."""
    recorded = [(place, name, graphs) for place, name, graphs in _graphs(model)]
    for place, name, graphs in recorded:
        graphs.forget()
        setattr(place, name, graphs.function)

    def undo() -> None:
        for place, name, graphs in recorded:
            setattr(place, name, graphs)

    return undo


def _compiled(editor: Any) -> Callable[[], None]:
    """FLUX's blocks by torch.compile, which takes a minute at first."""
    method = sys.modules["editproof.methods.decontext"]
    return _undone(method, "context_mass", partial(attention.context_mass, compiled=True))


def _graphs(model: Any) -> Iterator[tuple[Any, str, Graphs]]:
    parts = [model] if isinstance(model, NestedUNet) else [p for p in model.pipe.components.values() if p is not None]
    for module in (module for part in parts if isinstance(part, nn.Module) for module in part.modules()):
        yield from ((module, name, found) for name, found in vars(module).items() if isinstance(found, Graphs))


VARIANTS: dict[str, Callable[[Any], Callable[[], None]]] = {
    "default": lambda model: lambda: None,
    "eager": _eager,
    "compiled": _compiled,
    "recompute": lambda editor: _undone(editor, "recompute", True),
    "12 GiB": lambda editor: _undone(pipeline, "roomy", lambda device, size, own=None: size <= 11 * 2**30),
}


def change(variant: str, model: Any) -> Callable[[], None]:
    """Make a variant of a model; returns what undoes it."""
    return VARIANTS[variant](model)


def _network(half: bool, batch_norm: str) -> Callable[[torch.device, bool], NestedUNet]:
    def make(device: torch.device, tiny: bool) -> NestedUNet:
        network = NestedUNet(depths=(4, 8, 16, 32, 64) if tiny else (32, 64, 128, 256, 512), batch_norm=batch_norm)
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
    "unet++": _network(True, "photo"),
    "unet++ stored": _network(True, "stored"),
    "unet++ float32": _network(False, "photo"),
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
    "immunizer": (
        Case("unet++", "pass", profile=True),
        Case("unet++", "pass", 16, profile=True),
        Case("unet++", "pass", 64),
        Case("unet++", "pass", 1, 1024),
        *(Case("unet++ stored", "pass", batch) for batch in (1, 16)),
        *(Case("unet++ float32", "pass", batch) for batch in (1, 16)),
        *(Case("unet++ embedded", "pass", batch, 256) for batch in (1, 64)),
    ),
    "sd": (
        Case("sd-inpaint", ENCODER, profile=True),
        Case("sd-inpaint", GUARD, settings=FOUR, profile=True),
        Case("sd-inpaint", DIFFUSION, settings=DRAWS, profile=True),
        Case("sd-inpaint", DIFFUSION, settings=DRAWS, variant="12 GiB"),
        Case("sd-inpaint", "autoencoder"),
        Case("sd-inpaint", ENCODER, 16),
        Case("sd-inpaint", GUARD, 4, settings=FOUR),
        Case("sd-inpaint", DIFFUSION, 2, settings=DRAWS),
        Case("sd-inpaint", ENCODER, 1, 1024),
        Case("sd-inpaint", GUARD, 1, 1024, FOUR),
    ),
    "plain": (
        *(Case("sd-inpaint unfused", method, settings=settings, variant="eager")
          for method, settings in ((ENCODER, {}), (GUARD, FOUR), (DIFFUSION, DRAWS))),
    ),
    "flux": (
        Case("flux-kontext", "decontext", profile=True),
        Case("flux-kontext", "veto"),
    ),
    "flux-compiled": (
        Case("flux-kontext", "decontext", variant="compiled", profile=True),
    ),
    "flux-16gb": (
        Case("flux-kontext first-block", "veto"),
        Case("flux-kontext stream", "decontext"),
    ),
    "flux-more": (
        Case("flux-kontext", ENCODER),
        Case("flux-kontext", "decontext", 1, 1024),
        Case("flux-kontext", "decontext", 4),
    ),
    "eager": (
        Case("sd-inpaint", ENCODER, variant="eager"),
        Case("sd-inpaint", GUARD, settings=FOUR, variant="eager"),
        Case("sd-inpaint", DIFFUSION, settings=DRAWS, variant="recompute"),
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
