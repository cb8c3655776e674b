"""How long things take, how much memory, and how much time is left."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch

Kind = tuple[str, ...]  # ("protect", method, editor), ("edit", editor), ("counter", counter), ("metrics",)
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Clock:
    """Times each piece of work, tells `write` of it, and says from the means so far what remains."""

    def __init__(self, write: Callable[..., None], earlier: list[dict[str, Any]]) -> None:
        self._write, self._lock = write, threading.Lock()
        self._seconds: Counter[Kind] = Counter()
        self._photos: Counter[Kind] = Counter()
        self._calls: dict[Kind, float] = {}
        self._todo: Counter[Kind] = Counter()  # photos still to be worked on
        for line in earlier:
            if "kind" in line:
                self._add(tuple(line["kind"]), line["seconds_per_photo"] * line["photos"], line["photos"])

    def _add(self, kind: Kind, seconds: float, photos: int) -> None:
        with self._lock:
            self._seconds[kind] += seconds  # type: ignore[assignment]
            self._photos[kind] += photos

    def expect(self, kind: Kind, photos: int, calls: float = 0.0) -> None:
        """Count photos that are still to be worked on; below 0 those that need not be.

        calls: about how often a network is called for each of them, for as long as this kind has not been timed.
        """
        with self._lock:
            self._todo[kind] += photos
            if calls:
                self._calls[kind] = calls

    @contextmanager
    def measure(self, kind: Kind, photos: int, device: torch.device, **more: Any) -> Iterator[None]:
        """Time what is done inside for `photos` photos, and note its peak memory."""
        restart_peak(device)
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self._add(kind, seconds, photos)
        self.expect(kind, -photos)
        self._write(
            kind=kind, photos=photos, seconds_per_photo=round(seconds / photos, 6), peak_memory_bytes=peak(device),
            device=str(device), **more,
        )  # fmt: skip

    def left(self) -> float | None:
        """Seconds of work until everything is done; None as long as too little is known."""
        total = 0.0
        with self._lock:
            timed = [kind for kind in self._calls if self._photos[kind]]
            calls = sum(self._photos[kind] * self._calls[kind] for kind in timed)
            for kind, photos in self._todo.items():
                if photos <= 0:
                    continue
                if self._photos[kind]:
                    each = self._seconds[kind] / self._photos[kind]
                elif kind not in self._calls:
                    continue  # counter-attacks and metrics, which take little
                elif not timed:
                    return None
                else:
                    each = self._calls[kind] * sum(self._seconds[k] for k in timed) / calls
                total += photos * each
        return total


def restart_peak(device: torch.device) -> None:
    """Forget the peak so far. Of a CPU's memory only Linux can; elsewhere the peak is that of the whole run."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            RESET.write_text("5")


def peak(device: torch.device) -> int:
    """The largest memory since restart_peak, in bytes: allocated by PyTorch on a GPU, else resident of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_words(seconds: float | None) -> str:
    """A time left as people say it."""
    if seconds is None:
        return "time left not known yet"
    minutes = seconds / 60
    if minutes < 1.5:
        return "about a minute left" if seconds > 30 else "less than a minute left"
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
