"""Networks are built one at a time: while diffusers and transformers load one, they change how every other is made.

They turn a switch of torch.nn for the whole process, so that a network that another thread makes meanwhile comes out
without memory (meta tensors), and where two load at once it may stay so for good.
"""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Settings = ParamSpec("Settings")
Built = TypeVar("Built")
_alone = threading.RLock()


def one_at_a_time(build: Callable[Settings, Built]) -> Callable[Settings, Built]:
    """A function that builds or loads networks, made to wait until no other one does."""

    @functools.wraps(build)
    def waiting(*arguments: Settings.args, **settings: Settings.kwargs) -> Built:
        with _alone:
            return build(*arguments, **settings)

    return waiting
