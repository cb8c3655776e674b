"""Kernels of a network, forward and backward, recorded once as CUDA graphs and replayed: Python launches two graphs
where it launched thousands of kernels, for which a GPU waits.

A recording holds what its forward keeps for its backward pass, so it is busy from one to the other; a second call in
between gets a recording of its own. Calls without a gradient are not recorded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock, RLock
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend
from torch.utils._pytree import tree_flatten, tree_unflatten

_one_at_a_time = RLock()  # as CUDA captures
_switching, _switched_off = Lock(), list[bool]()  # cuDNN's attention, as each of those inside found it
_recordings: "WeakSet[Recording]" = WeakSet()
WARM_UP = 2  # calls before a recording, in which kernels are chosen and compiled


class Graphs:
    """A function of tensors on a GPU, recorded for the inputs' shapes that it was called with last.

    cudnn: prefer its attention, which on an H100 broke down within FLUX's blocks (illegal memory access).
    choose: given the arguments, further ones by name that depend on how much memory is free. A recording is made with
    what was chosen before there was any, so that it is used again although it now fills that memory itself.
    Tensors are found in nested arguments; all that is no tensor is part of what is recorded. Outputs are copies. Where
    recording fails (an operation that cannot be recorded, too little memory) the function is called as ever.
    """

    def __init__(
        self, function: Callable[..., Any], cudnn: bool = False, choose: Callable[..., dict[str, Any]] | None = None
    ) -> None:
        self.function, self.cudnn, self.choose = function, cudnn, choose or (lambda *arguments, **named: {})
        self.key: Any = None
        self.choice: dict[str, Any] = {}
        self.made: WeakSet[Recording] = WeakSet()
        self.idle, self.fails = list[Recording](), list[Any]()  # of these keys no recording could be made

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        leaves, spec = tree_flatten((arguments, named))
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        if not _recordable(tensors):
            return self.function(*arguments, **named, **self.choose(*arguments, **named))
        state = torch.are_deterministic_algorithms_enabled(), torch.is_autocast_enabled("cuda")
        key: Any = [spec, state, *map(_known_by, leaves)]
        if key != self.key:
            self.forget()
            self.key, self.choice = key, self.choose(*arguments, **named)
        lease = None if key in self.fails else self._lease(key, leaves, spec)
        if lease is None:
            return self.function(*arguments, **named, **self.choose(*arguments, **named))
        return tree_unflatten(list(_Replay.apply(lease, *tensors)), lease.recording.spec)

    def _lease(self, key: Any, leaves: list[Any], spec: Any) -> "Lease | None":
        """An idle recording or a new one; None if it cannot be made."""
        idle = self.idle
        try:
            return Lease(idle.pop(), idle)
        except IndexError:
            pass
        stream, pool = torch.cuda.current_stream(), torch.cuda.graph_pool_handle()
        try:
            with _one_at_a_time, _attention(self.cudnn):
                recording = Recording(partial(self.function, **self.choice), leaves, spec, pool)
            self.made.add(recording)
            return Lease(recording, idle)
        except Exception:  # whatever cannot be recorded can be computed
            self.fails.append(key)
            self.forget()
            torch.cuda.set_stream(stream)  # PyTorch leaves the capture's stream and pool in use
            with suppress(Exception):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
            for draw in torch.cuda.default_generators:  # which would think that they are still recorded
                draw.graphsafe_set_state(draw.clone_state())
        torch.cuda.empty_cache()  # what the failed recording's pool still holds is of no use to anybody else
        return None

    def forget(self) -> None:
        """Give up the recordings that nobody uses, and their memory."""
        self.key, self.idle = None, []

    def held(self) -> int:
        """Bytes of GPU memory that its recordings keep, between their uses, too."""
        return sum(recording.held for recording in self.made)


class Recording:
    """Two graphs and the tensors that they read and write."""

    def __init__(self, function: Callable[..., Any], leaves: list[Any], spec: Any, pool: Any) -> None:
        held = [x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in leaves]
        arguments, named = tree_unflatten(held, spec)
        self.inputs = [x for x in held if isinstance(x, Tensor)]
        moving = [x for x in self.inputs if x.requires_grad]

        def forward() -> list[Tensor]:
            outputs, self.spec = tree_flatten(function(*arguments, **named))
            return outputs

        side = torch.cuda.Stream(self.inputs[0].device)
        side.wait_stream(torch.cuda.current_stream())
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                outputs = forward()
                torch.autograd.grad(outputs, moving, [torch.zeros_like(x) for x in outputs])
            del outputs
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        with torch.cuda.graph(self.forward, pool=pool, capture_error_mode="thread_local"):
            outputs = forward()
        self.tangents = [torch.zeros_like(x) for x in outputs]
        with torch.cuda.graph(self.backward, pool=pool, capture_error_mode="thread_local"):
            found = iter(torch.autograd.grad(outputs, moving, self.tangents))
        self.held = max(0, torch.cuda.memory_reserved() - before)  # bytes that nothing else can use
        _recordings.add(self)
        self.outputs = [x.detach() for x in outputs]
        self.gradients = [next(found) if x.requires_grad else None for x in self.inputs]


class Lease:
    """A recording in use, put among the idle ones after the backward pass, or when nobody can ask for that."""

    def __init__(self, recording: Recording, idle: list[Recording]) -> None:
        self.recording, self.idle, self.ended = recording, idle, False

    def end(self) -> None:
        """Give the recording back."""
        if not self.ended:
            self.ended = True
            self.idle.append(self.recording)

    __del__ = end


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lease: Lease, *tensors: Tensor) -> tuple[Tensor, ...]:
        recording, ctx.lease = lease.recording, lease
        torch._foreach_copy_([x.detach() for x in recording.inputs], list(tensors))
        recording.forward.replay()
        return tuple(x.clone() for x in recording.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        lease = ctx.lease
        if lease.ended:
            raise RuntimeError("a recorded network has one backward pass for each forward")
        torch._foreach_copy_(lease.recording.tangents, list(tangents))
        lease.recording.backward.replay()
        gradients = [None if x is None else x.clone() for x in lease.recording.gradients]
        lease.end()
        return None, *gradients


def without_cudnn(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function while cuDNN's attention is off: within FLUX's blocks it ended in an illegal access on an H100."""
    with _switching:
        _switched_off.append(torch.backends.cuda.cudnn_sdp_enabled())
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        return function(*arguments, **named)
    finally:
        with _switching:
            before = _switched_off.pop()
            if not _switched_off:  # the last one of those that are inside puts back what the first one found
                torch.backends.cuda.enable_cudnn_sdp(before)


def held() -> int:
    """Bytes of GPU memory that all recordings keep."""
    return sum(recording.held for recording in _recordings)


def record(module: nn.Module, cudnn: bool = False) -> None:
    """Record a module's calls; `cudnn` as in Graphs."""
    module.forward = Graphs(module.forward, cudnn)


def _recordable(tensors: list[Tensor]) -> bool:
    return (
        torch.is_grad_enabled()
        and any(x.requires_grad for x in tensors)
        and all(x.is_cuda for x in tensors)
        and not torch.cuda.is_current_stream_capturing()
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None  # not within gradient checkpointing
    )


@contextmanager
def _attention(cudnn: bool) -> Iterator[None]:
    """cuDNN's attention where it can be used, unless the same bits are wanted: on an H100 twice as quick as flash."""
    if not cudnn or torch.are_deterministic_algorithms_enabled():
        yield
        return
    # PyTorch's own sdpa_kernel does not restore what it found: with cuDNN switched off its second use fails (2.11)
    order, enabled = torch._C._get_sdp_priority_order(), torch.backends.cuda.cudnn_sdp_enabled()
    first = int(SDPBackend.CUDNN_ATTENTION)  # type: ignore[call-overload]
    torch._C._set_sdp_priority_order([first, *(kind for kind in order if kind != first)])
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch._C._set_sdp_priority_order(order)
        torch.backends.cuda.enable_cudnn_sdp(enabled)


def _known_by(leaf: Any) -> Any:
    """What a recording depends on of an argument."""
    return (leaf.shape, leaf.dtype, leaf.device, leaf.requires_grad) if isinstance(leaf, Tensor) else leaf
