"""Training in several processes, one a GPU, as `torchrun --nproc-per-node N -m editproof train ...` starts them.

All processes draw the same numbers and go through the same batches; each reads and edits its share of the photos, and
gradients are summed, so that a step is that of one process but for float32 rounding. The first writes and tells.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from editproof.errors import UserError

Item = TypeVar("Item")
PATIENCE = timedelta(hours=2)  # how long processes wait for the first, which may fetch data or validate


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Of items that all processes have, those that are this one's."""
        return list(items[self.rank :: self.world])

    def summed(self, network: nn.Module, numbers: Tensor) -> Tensor:
        """Sum the gradients of a network over all processes, in place, and return the sum of `numbers`."""
        if self.world == 1:
            return numbers
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.grad is None:  # no photo of this batch was here
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        together = torch.cat([numbers.to(gradients[0]), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(together)
        numbers, *sums = together.split([len(numbers), *(gradient.numel() for gradient in gradients)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return numbers

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: str | None) -> Iterator[tuple[Ranks, str | None]]:
    """Which process this is, and the device it works on: of CUDA its own GPU.

    Without torchrun's variables in the environment it is the only one. Raises UserError for fewer GPUs than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(), device
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    cuda = torch.cuda.is_available() if device is None else device.startswith("cuda")
    if cuda and local >= torch.cuda.device_count():
        raise UserError(
            f"{local + 1} or more processes, but {torch.cuda.device_count()} GPUs; allowed: one process a GPU"
        )
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank, world), f"cuda:{local}" if cuda else device
    finally:
        dist.destroy_process_group()
