"""What memory and the device allow: whether a backward pass finds everything kept, and how many rows go together."""

from collections.abc import Callable

import psutil
import torch

from editproof.editors.speed.graphs import Graphs, held

SPARE = 0.2  # the share of free memory that is left alone
ENOUGH = 10 * 512 * 512  # pixels of all the rows of a denoiser's call that keep a large GPU busy


def on_cuda(device: torch.device) -> bool:
    """Whether it is a GPU of NVIDIA's, where several draws together are faster than one by one."""
    return device.type == "cuda"


def room(device: torch.device, own: object = None) -> float:
    """Bytes that may be used on a device beside what is there, within PyTorch's limit for this process.

    own: if these are Graphs, what their recordings keep counts as free, as they are used again or given up.
    """
    if device.type != "cuda":
        return (1 - SPARE) * psutil.virtual_memory().available
    unused = max(0, torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) - held())
    ours = own.held() if isinstance(own, Graphs) else 0
    free, total = torch.cuda.mem_get_info(device)
    allowed = torch.cuda.get_per_process_memory_fraction(device) * total - torch.cuda.memory_reserved(device)
    return (1 - SPARE) * (min(free, allowed) + unused + ours)


def roomy(device: torch.device, size: float, own: object = None) -> bool:
    """Whether `size` bytes fit on the device beside what is there; `own` as in `room`."""
    return size <= room(device, own)


def together(draws: int, pixels: int, fits: Callable[[int], bool] = lambda n: True) -> int:
    """How many of `draws` go through a denoiser at once: a divisor of `draws`, enough to keep a GPU busy, no more.

    pixels: of the rows that one draw takes, all images and both of guidance. fits: whether so many fit the memory.
    """
    divisors = (n for n in range(draws, 1, -1) if draws % n == 0)
    return next((n for n in divisors if n * pixels <= ENOUGH and fits(n)), 1)
