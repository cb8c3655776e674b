"""What the training scripts share: a schedule over wall-clock time, averaged weights, JSON lines, grids."""

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn


def log(**row: object) -> None:
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def join_ranks() -> tuple[int, int]:
    """(rank, number of ranks): one process a GPU under `torchrun`, otherwise (0, 1)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    return rank, world


def share_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over all ranks."""
    if dist.is_initialized():
        flat = torch.cat([p.grad.flatten() for p in parameters])
        dist.all_reduce(flat, dist.ReduceOp.AVG)
        parts = flat.split([p.numel() for p in parameters])
        torch._foreach_copy_(
            [p.grad for p in parameters], [f.view_as(p) for f, p in zip(parts, parameters, strict=True)]
        )


def timed_steps(seconds: float, max_steps: int | None = None) -> Iterator[tuple[int, float]]:
    """Yield (step, share of the schedule that is done) until `seconds` are over; all ranks take the same steps.

    The clock starts at the third step, so that compiling is not counted, and is read every 25 steps.
    """
    start, step, done = time.perf_counter(), 0, 0.0
    while True:
        if step == 3:
            start = time.perf_counter()
        if step >= 3 and step % 25 == 0:
            done = min((time.perf_counter() - start) / seconds, 1.0)
            if dist.is_initialized():
                shared = torch.tensor(done, device="cuda")
                dist.broadcast(shared, 0)
                done = shared.item()
        if max_steps is not None:
            done = max(done, step / max_steps)
        if done >= 1:
            return
        yield step, done
        step += 1


def cosine(step: int, done: float, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up over steps, then a cosine over the share of the schedule that is done."""
    return min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * done))


class Average:
    """Exponential moving average of a module's parameters, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.module = module
        self.mean = [p.detach().float().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.mean, [p.detach().float() for p in self.module.parameters()], 1 - decay)

    @torch.no_grad()
    def store(self) -> None:
        """Put the averaged weights into the module."""
        for p, mean in zip(self.module.parameters(), self.mean, strict=True):
            p.copy_(mean)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,C,H,W) in [0,1] -> (B,) in dB."""
    return -10 * (a - b).square().flatten(1).mean(1).clamp_min(1e-12).log10()


def save_grid(rows: list[Tensor], path: Path) -> None:
    """One row of pictures for each (B,3,H,W) tensor in [0,1]."""
    strips = [torch.cat(list(row.float().clamp(0, 1).cpu()), dim=2) for row in rows]
    picture = (torch.cat(strips, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=90)
