"""Stand-ins for the service's workers: what they do is written in the photo. Imports nothing heavy."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from editproof.serve.wishes import Comparison, Failed, Made, Wish


def start(folder: str, number: int) -> Callable[[list[Any]], list[Any]]:
    """A handler that protects by turning bytes round; `wait NAME` waits for a file, `die` ends the worker."""

    def one(wish: Wish | Comparison) -> Made | Failed | dict[str, str]:
        if isinstance(wish, Comparison):
            return {"sentences": (wish.original + wish.protected + wish.downloaded).decode()}
        what, _, more = wish.data.decode(errors="replace").partition(" ")
        while what == "wait" and not Path(folder, more).exists():
            time.sleep(0.005)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        failures = {
            "bad": Failed("photo 'photo' is not a picture", True),
            "memory": Failed("not enough memory", False, trace="MemoryError"),
            "bug": Failed("ZeroDivisionError: division", False, trace="Traceback: somewhere"),
            "marked": Failed("photo 'photo' is protected already", True, "protected_already"),
        }
        if what in failures:
            return failures[what]
        report = {"size": [4, 3], "seconds": 0.5, "protected": 'a"\u00e9.png', "eps": wish.eps, "mask": wish.mask}
        return Made(wish.data[::-1] + (wish.mask_data or b""), report, "image/png")

    return lambda wishes: [one(wish) for wish in wishes]
