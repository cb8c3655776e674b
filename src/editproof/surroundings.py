"""PyTorch as it is by default while editproof computes, whatever the program around it has set.

A default dtype of float64, a default device, autocast, inference mode or oneDNN turned off would break what is
computed, or change it without a word: the same photo would become another file. Deterministic algorithms stay as the
program wants them: they change nothing on a CPU.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LOCK = threading.Lock()
_inside = 0  # calls that are running, of all threads
_before: "tuple[torch.dtype, bool] | None" = (
    None  # the default dtype, and whether oneDNN was on, that were found when the first of them began
)


def undisturbed(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator of what programs call: the function runs with PyTorch's defaults."""

    @functools.wraps(function)
    def inside(*given: Arguments.args, **named: Arguments.kwargs) -> Result:
        with defaults():
            return function(*given, **named)

    return inside


@contextmanager
def defaults() -> Iterator[None]:
    """PyTorch's defaults: float32, oneDNN, the CPU, no autocast, no inference mode; afterwards what was set before.

    The dtype and oneDNN are the process's, so other threads see them, too, until the last call ends; the rest is this
    thread's.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(_of_the_process())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield


@contextmanager
def _of_the_process() -> Iterator[None]:
    global _inside, _before
    import torch

    with _LOCK:
        if _inside == 0:
            _before = torch.get_default_dtype(), torch._C._get_mkldnn_enabled()
            _set(torch.float32, onednn=True)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0 and _before is not None:
                _set(_before[0], onednn=_before[1])


def _set(dtype: "torch.dtype", *, onednn: bool) -> None:
    import torch

    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)
    if torch._C._get_mkldnn_enabled() != onednn:
        torch._C._set_mkldnn_enabled(onednn)  # torch.backends.mkldnn.set_flags warns of Intel's GPUs
