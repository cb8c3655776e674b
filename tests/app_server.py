"""`editproof app` in a process of its own, with quick edits: tests start it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

STEPS = 3  # of an edit


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

    def our_errors(self) -> list[str]:
        """Lines of tracebacks that went through this project's code: Gradio has its own when somebody leaves midway."""
        return re.findall(r'^ *File "[^"]*/editproof/[^"]*", line .*$', self.log.read_text(), flags=re.MULTILINE)

    def cpu(self, seconds: float) -> float:
        """The share of a core that it uses over some seconds."""
        self.process.cpu_percent()
        time.sleep(seconds)
        return self.process.cpu_percent() / 100


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[Served]:
    """The app on a free port; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
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
        process.wait(20)
        assert not list(Path(tempfile.gettempdir()).glob(f"editproof-app-{process.pid}-*"))


def prepare() -> None:
    """Quick edits; files of nobody go soon."""
    from editproof.app import visits
    from editproof.editors import pipeline

    pipeline.Editor.steps = STEPS
    visits.STRAY, visits.ALONE, visits.SWEEP, visits.AWAY = 600, 2, 1, 8


if __name__ == "__main__":
    from editproof.cli.main import main

    prepare()
    sys.exit(main(["app", *sys.argv[1:]]))
