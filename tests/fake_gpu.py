"""A GPU's streams and graphs on a CPU: what the order of kernels would be, and a fault where nobody saw to it.

Kernels run at once, in the order in which they are launched; but each stream knows what it has waited for, and a kernel
that reads what another stream has written, or overwrites what another one reads, without having waited is a Race.
A graph keeps its kernels and their tensors; a replay runs them again into the same tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class Race(AssertionError):
    """Two streams use a tensor, and nothing says which comes first."""


class Stream:
    """`launched`: how many kernels it was given; `seen`: of every stream, how many are over before its next kernel."""

    def __init__(self, *device: object) -> None:
        self.launched = 0
        self.seen: dict[Stream, int] = {}

    def state(self) -> dict["Stream", int]:
        return {**self.seen, self: self.launched}

    def wait_for(self, state: dict["Stream", int]) -> None:
        for stream, launched in state.items():
            self.seen[stream] = max(self.seen.get(stream, 0), launched)

    def wait_stream(self, other: "Stream") -> None:
        self.wait_for(other.state())

    def record_event(self) -> "Event":
        return Event(self.state())


class Event:
    """What was launched when it was recorded; `host` sees it once it has waited for it."""

    def __init__(self, state: dict[Stream, int]) -> None:
        self.state = state

    def synchronize(self) -> None:
        Gpu.host.wait_for(self.state)


class Graph:
    """The kernels that were launched while it was captured."""

    def __init__(self) -> None:
        self.kernels: list[tuple[Any, tuple, dict, Any]] = []
        self.given: set[int] = set()  # memory that none of them made
        self.made: set[int] = set()

    def replay(self) -> None:
        """Run them again; what they return goes where it went at first."""
        with torch.no_grad():
            for function, arguments, named, outputs in self.kernels:
                again = function(*arguments, **named)
                for old, new in zip(tensors(outputs), tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.data.copy_(new)  # of which autograd does not know


class Gpu(TorchDispatchMode):
    """Within it, all kernels are checked; `host` is the CPU that reads results."""

    host: Stream

    def __init__(self) -> None:
        super().__init__()
        Gpu.host = Stream()
        self.default = self.current = Stream()
        self.capturing: Graph | None = None
        self.written: dict[int, tuple[Stream, int]] = {}
        self.read: dict[int, dict[Stream, int]] = {}
        self.alive: list[Tensor] = []  # so that no memory is used a second time

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), kwargs: Any = None) -> Any:
        named, stream = kwargs or {}, self.current
        stream.launched += 1
        changed = [value for given, value in zip(function._schema.arguments, arguments, strict=False)
                   if given.alias_info is not None and given.alias_info.is_write]  # fmt: skip
        for place in places((arguments, named)):
            self._after(stream, self.written.get(place))
        outputs = function(*arguments, **named)
        inputs = set(places((arguments, named)))
        for place in inputs:
            self.read.setdefault(place, {})[stream] = stream.launched
        for place in places(changed) | (places(outputs) - inputs):
            for item in (*self.read.get(place, {}).items(), self.written.get(place)):
                self._after(stream, item)
            self.written[place] = stream, stream.launched
        self.alive += tensors((arguments, named, outputs))
        if self.capturing is not None:
            detached = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, outputs)
            self.capturing.given |= inputs - self.capturing.made
            self.capturing.made |= places(outputs) - inputs
            self.capturing.kernels.append((function, arguments, named, detached))
        return outputs

    def _after(self, stream: Stream, other: tuple[Stream, int] | None) -> None:
        if other is not None and other[0] is not stream and stream.seen.get(other[0], 0) < other[1]:
            raise Race(f"kernel {stream.launched} does not wait for kernel {other[1]} of another stream")

    def known(self, x: Tensor) -> None:
        """Race unless the host has waited for what was written to x."""
        for place in places(x):
            self._after(Gpu.host, self.written.get(place))

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def capture(self, graph: Graph, **settings: object) -> Iterator[None]:
        """As PyTorch does, on a stream of its own that waits for the current one; nothing is computed yet."""
        side = Stream()
        side.wait_stream(self.current)
        self.capturing = graph
        try:
            with self.on(side):
                yield
        finally:
            self.capturing = None
        self.current.wait_stream(side)
        with torch.no_grad():
            for *_, outputs in graph.kernels:
                for x in tensors(outputs):
                    if x.is_floating_point() and not places(x) & graph.given:
                        x.data.fill_(torch.nan)


def tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_flatten(values)[0] if isinstance(x, Tensor)]


def places(values: Any) -> set[int]:
    """The memory of all tensors."""
    return {x.untyped_storage().data_ptr() for x in tensors(values)} - {0}


@contextmanager
def gpu(patch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """PyTorch's streams, events and graphs are these."""
    mode = Gpu()
    for name, value in {
        "Stream": Stream, "CUDAGraph": Graph, "graph": mode.capture, "stream": mode.on, "set_stream": mode.on,
        "current_stream": lambda *device: mode.current, "graph_pool_handle": lambda: None,
        "memory_reserved": lambda *device: 0, "empty_cache": lambda: None,
    }.items():  # fmt: skip
        patch.setattr(torch.cuda, name, value)
    patch.setattr(Tensor, "record_stream", lambda x, stream: stream.wait_for({}))
    with mode:
        yield mode
