"""What speed_case.py measures with: the driver's memory, the size of weights, the rates of a device."""

import statistics
import threading
import time
from typing import Any

import torch
from torch import nn

from editproof.immunizer.network import NestedUNet


class Driver:
    """The most memory of a GPU that its driver has given out, in GiB, this process's context included."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.most, self.ended = device, 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        if device.type == "cuda":
            self.thread.start()

    def look(self) -> None:
        """Until it is ended, fifty times a second."""
        while not self.ended.wait(0.02):
            free, total = torch.cuda.mem_get_info(self.device)
            self.most = max(self.most, total - free)

    def end(self) -> float:
        """The most until now."""
        self.ended.set()
        return round(self.most / 2**30, 2)


def weights(model: Any) -> float:
    """GiB of weights on the device."""
    parts = [model] if isinstance(model, NestedUNet) else [p for p in model.pipe.components.values() if p is not None]
    tensors = [p for part in parts if isinstance(part, nn.Module) for p in part.parameters() if not p.is_meta]
    return round(sum(p.nbytes for p in tensors) / 2**30, 2)


def ceiling(device: torch.device, side: int) -> dict[str, Any]:
    """The rate of a bf16 matrix product and of a copy."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(4 * side * side, device=device)
    rates = {}
    for name, work, amount in (("tflop_per_s", lambda: a @ b, 2 * side**3 / 1e12),
                               ("tb_per_s", lambda: big.clone(), 2 * big.nbytes / 1e12)):  # fmt: skip
        times = []
        for _ in range(13):
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        rates[name] = float(f"{amount / statistics.median(times[3:]):.3g}")
    return {"part": "ceiling", **rates}
