"""The embedded network alone, a process for each GPU at the same time: photos a second by size of batch, a line each.

PYTHONPATH=src python3 benchmarks/network_rate.py --gpus 2
"""

import argparse
import json
import os
import time
from typing import Any

import torch
from torch import multiprocessing

from editproof.immunizer.network import embedded, load_immunizer, perturb


def passes(number: int, side: int, batches: list[int], seconds: float, cpu: bool, barrier: Any) -> None:
    """Passes over one batch for some seconds, then over the next size, together with the other processes."""
    device = torch.device("cpu") if cpu else torch.device("cuda", number)
    torch.set_num_threads(1)
    net = load_immunizer(embedded("immunizer")).on(device)
    for batch in batches:
        images = torch.rand(batch, 3, side, side, device=device)
        with torch.no_grad():
            for _ in range(3):
                perturb(net, images, None, 8 / 255).sum().item()
            barrier.wait()
            began, done = time.time(), 0
            while time.time() - began < seconds:
                perturb(net, images, None, 8 / 255).sum().item()  # which waits for it
                done += batch
        ended = time.time()
        told = {"batch": batch, "rate": round(done / (ended - began), 2), "began": began, "ended": ended}
        os.write(1, (json.dumps(told) + "\n").encode())  # whole lines, also where two processes write


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=2, help="for each size of batch")
    parser.add_argument("--cpu", action="store_true")
    asked = parser.parse_args()
    barrier = multiprocessing.get_context("spawn").Barrier(asked.gpus)
    arguments = (asked.side, asked.batches, asked.seconds, asked.cpu, barrier)
    multiprocessing.spawn(passes, arguments, asked.gpus)
