"""Weights that wait in CPU memory: each layer's are on the device while it computes, and again in the backward pass.

Layers are copied on a CUDA stream of their own, from pinned memory, so that the next ones arrive while one computes.
Nothing has to know their order: the CPU is ahead of the GPU, by AHEAD bytes of weights at most.
"""

from collections import deque
from functools import cache, partial
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from editproof.editors.speed.memory import roomy

AHEAD = 2**30  # bytes of weights that are on the GPU at once, apart from those of a block in its backward pass
KEPT = 64  # of a VAE's largest residual block's input, for the backward pass of the whole VAE
CHUNK = 2**29  # bytes of pinned memory that are taken at once: PyTorch rounds up to a power of two


def stream(part: nn.Module, device: torch.device) -> None:
    """Take a model's weights off the device and bring each layer's there when it is called."""
    copies, homes = Copies(device), _homes(part, device)
    for module in part.modules():
        if weights := {name: homes[id(p)] for name, p in module._parameters.items() if p is not None}:
            stream_layer(module, weights, copies)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    add_hook_to_module(part, Computes(device))


def stream_layer(layer: nn.Module, weights: dict[str, Tensor], copies: "Copies") -> None:
    """Give a layer its own parameters while it computes; in between they have a shape and no values."""
    absent = {name: _parameter(weight.to("meta")) for name, weight in weights.items()}
    forward: Any = layer.forward

    def call(*inputs: Any, **named: Any) -> Any:
        layer._parameters.update(copies.fetch(weights))
        try:
            return forward(*inputs, **named)
        finally:  # gradient checkpointing ends a forward with an exception
            layer._parameters.update(absent)
            copies.used(weights)

    layer._parameters.update(absent)
    layer.forward = call


class Computes(ModelHook):
    """Tells diffusers where a model computes whose weights are elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.execution_device = device


def recompute_resnets(vae: nn.Module, always: bool) -> None:
    """Keep only the inputs of a VAE's residual blocks for the backward pass, where each is computed anew: `always`
    (with weights that are streamed, which would be kept too) or where all that they keep does not fit the device."""

    @cache
    def fits(device: torch.device, size: int) -> bool:
        return not always and roomy(device, KEPT * size)

    def recomputed(forward: Any, *inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled() or fits(inputs[0].device, inputs[0].nbytes):
            return forward(*inputs, **named)
        return checkpoint(forward, *inputs, **named, use_reentrant=False, preserve_rng_state=False)

    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            module.forward = partial(recomputed, module.forward)


class Copies:
    """Copies of weights on a device, where they are used once and dropped."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.in_use: deque[tuple[torch.cuda.Event, int]] = deque()
        self.bytes = 0

    def fetch(self, weights: dict[str, Tensor]) -> dict[str, nn.Parameter]:
        """Parameters on the device; computations that are launched from now on wait for them."""
        if self.stream is None:
            return {name: _parameter(weight.to(self.device)) for name, weight in weights.items()}
        while self.bytes > AHEAD:
            event, size = self.in_use.popleft()
            event.synchronize()
            self.bytes -= size
        with torch.cuda.stream(self.stream):
            there = {name: weight.to(self.device, non_blocking=True) for name, weight in weights.items()}
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        for tensor in there.values():
            tensor.record_stream(computing)
        return {name: _parameter(tensor) for name, tensor in there.items()}

    def used(self, weights: dict[str, Tensor]) -> None:
        """All computations with a layer's weights have been launched."""
        if self.stream is not None:
            size = sum(weight.nbytes for weight in weights.values())
            self.in_use.append((torch.cuda.current_stream(self.device).record_event(), size))
            self.bytes += size


def _homes(part: nn.Module, device: torch.device) -> dict[int, Tensor]:
    """The weights in CPU memory by their parameter's id; for a GPU in pinned memory, where there is enough of it."""
    homes: dict[int, Tensor] = {}
    room, used = torch.empty(0, dtype=torch.uint8), 0
    for parameter in part.parameters():
        if device.type == "cuda":
            size = -(-parameter.nbytes // 512) * 512
            if used + size > len(room):
                room, used = _pinned(max(size, CHUNK)), 0
            home = room[used : used + parameter.nbytes].view(parameter.dtype).view(parameter.shape)
            parameter.data = home.copy_(parameter.data)
            used += size
        homes[id(parameter)] = parameter.data.cpu()
    return homes


def _pinned(size: int) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError:  # more than this machine lets a process pin
        return torch.empty(size, dtype=torch.uint8)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
