"""PyTorch as it is by default while editproof computes, whatever the program around it has set.

A default dtype of float64, a default device, autocast or inference mode would break what is computed, or change it
without a word: the same photo would become another file.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LOCK = threading.Lock()
_inside = 0  # calls that are running, of all threads
_before = None  # the default dtype that was found when the first of them began


def undisturbed(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator of what programs call: the function runs with PyTorch's defaults."""

    @functools.wraps(function)
    def inside(*given: Arguments.args, **named: Arguments.kwargs) -> Result:
        with defaults():
            return function(*given, **named)

    return inside


@contextmanager
def defaults() -> Iterator[None]:
    """PyTorch's defaults: float32, the CPU, no autocast, no inference mode; afterwards what was set before.

    The dtype is the process's, so other threads see float32, too, until the last call ends; the rest is this thread's.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(_float32())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield


@contextmanager
def _float32() -> Iterator[None]:
    global _inside, _before
    import torch

    with _LOCK:
        if _inside == 0:
            _before = torch.get_default_dtype()
            if _before != torch.float32:
                torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0 and _before not in (None, torch.float32):
                torch.set_default_dtype(_before)
