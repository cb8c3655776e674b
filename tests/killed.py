"""A process that is killed at a place, not at a time: it stops itself at a chosen call and waits there to be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

STOP = """
import importlib, sys, threading
place, number = sys.argv[1].split(":"), int(sys.argv[2])
*path, name = place[1].split(".")
owner = importlib.import_module(place[0])
for part in path:
    owner = getattr(owner, part)
function, calls, counting = getattr(owner, name), [], threading.Lock()

def called(*arguments, **named):
    with counting:
        calls.append(1)
        now = len(calls) == number
    if now:
        print("here", flush=True)
        threading.Event().wait()
    return function(*arguments, **named)

setattr(owner, name, called)
del sys.argv[1:3]
"""


def killed_at(place: str, number: int, code: str, arguments: Sequence[str], folder: Path) -> None:
    """Run Python code with these arguments in a folder, until `place` (`module:function` or `module:class.method`) is
    called for the `number`th time; then it is killed with -9, before that call does anything."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STOP + code, place, str(number), *arguments]
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            reached = "here\n" in iter(process.stdout.readline, "")  # type: ignore[union-attr]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert reached, f"{place} was not called {number} times"
    assert process.returncode == -signal.SIGKILL
