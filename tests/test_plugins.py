"""Methods, editors, metrics and counters of other packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = '''"""Grey wash (no paper): an example of another package."""

from editproof.budgets import on_grid
from editproof.counters import CounterInfo
from editproof.editors import EditorInfo
from editproof.methods.method import method
from editproof.metrics import Metric


@method("grey-wash", needs="none")
def grey_wash(given, *, share: float = 0.5):
    """Towards grey."""
    return on_grid(given.images + share * (0.5 - given.images), given.images, given.budget, given.kept)


warmth = Metric(lambda trial, source: trial.edit[:, 0].mean((1, 2)), "nothing", "edit", 0, 1, "higher", None)
dim = CounterInfo(lambda strength, editor: lambda images, seed=0: images * strength, 0.5, 0, 1, "share of the light")
house = EditorInfo("house", "inpaint", "somebody/house", "MIT", 512, True, "another's")
'''
POINTS = """[editproof.methods]
grey-wash = washed:grey_wash
broken = washed:nothing
diffvax = washed:grey_wash
number = washed:__doc__
[editproof.metrics]
warmth = washed:warmth
[editproof.counters]
dim = washed:dim
[editproof.editors]
house = washed:house
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which such a package is installed."""
    (tmp_path / "washed.py").write_text(CODE)
    (tmp_path / "washed-1.dist-info").mkdir()
    (tmp_path / "washed-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: washed\nVersion: 1\n")
    (tmp_path / "washed-1.dist-info" / "entry_points.txt").write_text(POINTS)
    return os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path}", "COLUMNS": "200"}


def run(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "editproof", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_every_kind_is_listed_and_what_is_wrong_is_left_out(installed: dict[str, str]) -> None:
    methods = run(installed, "list", "methods")
    assert methods.returncode == 0
    assert "grey-wash" in methods.stdout and "Grey wash (no paper): an example of another package" in methods.stdout, (
        methods.stderr
    )
    for said in ("'broken' of package 'washed' is left out", "'diffvax' of package", "'number' of package"):
        assert said in methods.stderr
    assert "house" in run(installed, "list", "editors").stdout
    assert "dim" in run(installed, "list", "counters").stdout
    code = "from editproof.metrics import METRICS; print(METRICS['warmth'].compares)"
    found = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "nothing"


def test_it_protects_a_photo_within_the_budget(installed: dict[str, str], tmp_path: Path) -> None:
    import torch

    from editproof.photo.reading import open_photo, save_png

    save_png(tmp_path / "photo.png", torch.full((3, 40, 40), 200 / 255))
    done = run(
        installed, "protect", "photo.png", "--out", "out", "--method", "grey-wash", "--set", "share=0.9",
        "--eps", "4/255", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (open_photo(tmp_path / "out" / "photo-protected.png").levels == 196).all()
    refused = run(
        installed, "protect", "photo.png", "--out", "out2", "--method", "grey-wash", "--set", "depth=1", cwd=tmp_path
    )
    assert refused.returncode == 2 and "has no setting 'depth'" in refused.stderr
