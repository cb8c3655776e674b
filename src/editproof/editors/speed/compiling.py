"""Whether torch.compile pays: it takes half a minute at first, and makes each step of a large transformer shorter."""

from functools import cache

import torch
from torch import Tensor

MANY = 50  # gradients from which on it pays


def _tried(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x) * 2


@cache
def works(device: torch.device) -> bool:
    """Tried once a process: False off CUDA, and where there is no C compiler or no Triton."""
    if device.type != "cuda":
        return False
    try:
        x = torch.ones(64, device=device)
        return torch.allclose(torch.compile(_tried)(x), _tried(x))
    except Exception:  # whatever a compiler can lack
        return False


def pays(device: torch.device, gradients: int, whole: bool = True) -> bool:
    """Whether to compile for so many gradients of photos of one size; whole: the weights stay on the device."""
    return whole and gradients > MANY and works(device)
