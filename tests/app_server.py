"""`editproof app` in a process of its own, with quick edits: tests start it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STEPS = 3  # of an edit
HURRY = "EDITPROOF_TEST_HURRY"  # a file; while it is there, what visitors without a page have left goes at once


@dataclass(frozen=True)
class Served:
    """The running app: its address, its process, what it has said."""

    url: str
    process: psutil.Process
    log: Path

    @property
    def root(self) -> Path:
        """Where it keeps visitors' files."""
        (root,) = Path(tempfile.gettempdir()).glob(f"editproof-app-{self.process.pid}-*/")
        return Path(root)

    def files(self) -> set[Path]:
        """Everything of visitors that is there; Gradio leaves files without content about."""
        found = set()
        for place, _, names in os.walk(self.root):
            for path in (Path(place, name) for name in names):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found |= {path} if path.stat().st_size else set()
        return found

    def copies(self, content: bytes) -> list[Path]:
        """The files of visitors that have this content."""
        found = []
        for path in self.files():
            with suppress(FileNotFoundError):
                found += [path] if path.read_bytes() == content else []
        return found

    def our_errors(self) -> list[str]:
        """Lines of tracebacks that went through this project's code: Gradio has its own when somebody leaves midway."""
        return re.findall(r'^ *File "[^"]*/editproof/[^"]*", line .*$', self.log.read_text(), flags=re.MULTILINE)

    def computations(self, how: str) -> int:
        """How many computations have "begun", were "done", "stopped" or "failed"."""
        return self.log.read_text().count(f"computation {how}\n")

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Meanwhile, what visitors without a page have left goes at once, not after ten minutes."""
        self.log.with_name("hurry").touch()
        yield
        self.log.with_name("hurry").unlink()

    def wait_until(self, true: Callable[[], Any]) -> None:
        """Wait until something is true; for what the page does not show."""
        deadline = time.monotonic() + 600
        while not true():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[Served]:
    """The app on a free port; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    environment[HURRY] = str(log.with_name("hurry"))
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, __file__, "--port", str(port), *arguments], env=environment,
                                   stdout=output, stderr=output)  # fmt: skip
    try:
        deadline = time.monotonic() + 600  # of a machine with much else to do
        while "editproof is at" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Served(f"http://127.0.0.1:{port}/", psutil.Process(process.pid), log)
    finally:
        process.terminate()
        process.wait(600)
        assert not list(Path(tempfile.gettempdir()).glob(f"editproof-app-{process.pid}-*"))


def prepare() -> None:
    """Quick edits; files of nobody go soon; the log says how computations ended."""
    from editproof.app import visits, work
    from editproof.editors import pipeline

    pipeline.Editor.steps = STEPS
    visits.STRAY, visits.ALONE, visits.SWEEP = 600, 2, 1
    sweep = visits.sweep

    def swept(root: Path) -> None:
        visits.AWAY = 0 if Path(os.environ[HURRY]).exists() else 600
        sweep(root)

    visits.sweep = swept
    run = work.Running._run

    def told(running: work.Running) -> None:
        print("computation begun", flush=True)
        run(running)
        error = getattr(running._outcome[0], "error", None)
        how = "done" if error is None else "stopped" if isinstance(error, work.Stopped) else "failed"
        print(f"computation {how}", flush=True)

    work.Running._run = told


if __name__ == "__main__":
    from editproof.cli.main import main

    prepare()
    sys.exit(main(["app", *sys.argv[1:]]))
