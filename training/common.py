"""What the training scripts share: stages that stop by the clock and resume, averaged weights, JSON lines, grids."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

LOGS: list[Path] = []  # files that get every line of the log, too


def log(**row: object) -> None:
    """One JSON line, printed and added to the files in LOGS."""
    line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
    print(line, flush=True)
    for path in LOGS:
        with path.open("a") as file:
            file.write(line + "\n")


def stage_parser(description: str | None, seconds: float, batch: int, lr: float) -> argparse.ArgumentParser:
    """The options that every resumable stage has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="gets log.jsonl, samples.png, the model and state.pt")
    parser.add_argument("--resume", type=Path, help="an --out to go on from; without its state.pt, from its weights")
    parser.add_argument("--seconds", type=float, default=seconds, help="stop after so long; loading is not counted")
    parser.add_argument("--max-steps", type=int, help="of this call")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--cool", type=float, default=0.0, help="the share of the stage in which the rate falls to 0")
    parser.add_argument("--tiny", action="store_true", help="a model of toy size, to try the script on a CPU")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available(),
                        help="bfloat16 autocast")  # fmt: skip
    return parser


def begin(args: argparse.Namespace) -> torch.device:
    """Make the folder of a stage, start its log, set what speed needs; returns the device."""
    args.out.mkdir(parents=True, exist_ok=True)
    LOGS[:] = [args.out / "log.jsonl"]
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.benchmark = True
    return torch.device(args.device)


class Stage:
    """A model with its optimizers and averaged weights over several calls: steps(), step() in each, save()."""

    def __init__(
        self, args: argparse.Namespace, model: nn.Module, optimizers: list[torch.optim.Optimizer], decay: float
    ) -> None:
        self.args, self.model, self.optimizers = args, model, optimizers
        self.average = Average(model, decay)
        self.rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        self.taken, self.before = 0, 0  # steps of this call, and of the calls it goes on from
        file = args.resume and args.resume / "state.pt"
        if file and file.is_file():
            state = torch.load(file, map_location=args.device, weights_only=True)
            model.load_state_dict(state["model"])
            self.average.mean, self.average.steps = state["average"], state["average_steps"]
            for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.before = state["steps"]
        log(
            stage="start", script=Path(sys.argv[0]).stem, before=self.before, seconds=args.seconds, batch=args.batch,
            lr=args.lr, cool=args.cool, parameters=sum(p.numel() for p in model.parameters()), device=args.device,
        )  # fmt: skip

    def steps(self) -> Iterator[tuple[int, float]]:
        """(step of this call, share of it that is done), with the learning rate set."""
        for step, done in timed_steps(self.args.seconds, self.args.max_steps):
            factor = min(1.0, (step + 1) / (50 if self.before else 200))
            if self.args.cool and done > 1 - self.args.cool:
                factor *= (1 - done) / self.args.cool
            for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
                set_lr(optimizer, rate * factor)
            yield step, done

    def step(self, loss: Tensor, clip: float = 1.0) -> None:
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()
        self.taken += 1

    def save(self) -> int:
        """Write state.pt, then put the averaged weights into the model for export; returns the steps of all calls."""
        steps = self.before + self.taken
        state = {
            "model": self.model.state_dict(), "average": self.average.mean, "average_steps": self.average.steps,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "steps": steps,
        }  # fmt: skip
        part = self.args.out / "state.part"
        torch.save(state, part)
        part.replace(self.args.out / "state.pt")
        self.average.store()
        return steps


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

    The clock starts at the third step, so that compiling is not counted, and is read every 25 steps (on a CPU: each).
    """
    start, step, done = time.perf_counter(), 0, 0.0
    every = 25 if torch.cuda.is_available() else 1
    while True:
        if step == 3:
            start = time.perf_counter()
        if step >= 3 and step % every == 0:
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
    Image.fromarray(picture).save(path, **({} if path.suffix == ".png" else {"quality": 90}))
