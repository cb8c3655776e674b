"""What the training scripts share: a schedule over wall-clock time, averaged weights, JSON lines, grids."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn


def log(**row: object) -> None:
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def timed_steps(seconds: float, max_steps: int | None = None, warmup: int = 100) -> Iterator[tuple[int, float]]:
    """Yield (step, learning-rate factor) until `seconds` are over: linear warm-up, then a cosine over the time left.

    The clock starts at the third step, so that compiling is not counted.
    """
    start = time.perf_counter()
    step = 0
    while True:
        if step == 3:
            start = time.perf_counter()
        done = min((time.perf_counter() - start) / seconds, 1.0) if step >= 3 else 0.0
        if max_steps is not None:
            done = max(done, step / max_steps)
        if done >= 1:
            return
        yield step, min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * done))
        step += 1


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
