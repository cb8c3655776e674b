"""Memory that a process keeps: pages are not asked for again, and what the environment says holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from editproof.serve import allocation

SRC = Path(__file__).parents[1] / "src"
CODE = """
import resource, sys
from editproof.serve.allocation import keep_pages
if sys.argv[1] == "keep" and not keep_pages():
    print("cannot")
    sys.exit()
for i in range(22):
    if i == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(100 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> str:
    """How often a process that frees and asks for 100 MB twenty times was given a page, or "cannot"."""
    named = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", CODE, how]
    return subprocess.run(
        command, env={**named, "PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_pages_are_kept() -> None:
    kept = faults("keep")
    if kept == "cannot":
        pytest.skip("no glibc here")
    assert int(kept) * 5 < int(faults("not"))


def test_what_the_environment_says_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not allocation.keep_pages()
