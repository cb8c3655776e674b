"""What makes a command quick that is called for one photo: Python does not search what is imported to stay."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For the imports that bring PyTorch: nothing is searched for rubbish inside, nor what is there then ever after.

    PyTorch makes some hundred thousand objects. Searching them while they come, and again when Python ends, takes a
    quarter of the time of protecting one photo. Where it is there already, nothing is done. What modules hold at
    Python's end may go without its `__del__`, as Python allows; `atexit` and `weakref.finalize` are as ever.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
