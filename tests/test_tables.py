"""The tables in README and docs are those of the committed rows; the script that makes them, on made-up rows."""

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from test_report import made_up_rows

from editproof.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_tables_are_those_of_the_rows(tables: ModuleType) -> None:
    for path in tables.documents():
        text = path.read_text(encoding="utf-8")
        assert text.count("<!-- table:") == text.count("<!-- /table -->") == len(tables.BLOCK.findall(text)), path
        assert tables.with_tables(text, ROOT / "benchmarks" / "results") == text, f"{path}: python benchmarks/tables.py"


def test_tables_of_made_up_rows(tables: ModuleType, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in made_up_rows())
    (tmp_path / "own.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    head = "<!-- table: robustness rows=own editor=tiny-inpaint budget=16/255 counters=none,jpeg:75 -->\n"
    text = f"before\n{head}| what | was |\n<!-- /table -->\nbetween\n"
    text += (
        "<!-- table: summary rows=own editor=tiny-inpaint budgets=4/255 metrics=psnr,ssim -->\n<!-- /table -->\nafter\n"
    )
    made = tables.with_tables(text, tmp_path)
    assert tables.with_tables(made, tmp_path) == made  # a second time changes nothing
    assert (
        made.startswith("before\n<!-- table: ") and made.endswith("<!-- /table -->\nafter\n") and "| what" not in made
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines() if line.startswith("|")]
    assert rows[0] == ["method", "none", "jpeg:75"]
    assert [row[0] for row in rows[2:6]] == ["none", "noise", "photoguard-encoder", "diffvax:mask=told"]
    assert rows[5][1].startswith("**1.8") and rows[5][2].startswith("**0.")  # best
    assert float(rows[5][2].strip("*").split()[0]) == pytest.approx(0.9, abs=0.02)
    assert float(rows[4][2].split()[0]) == pytest.approx(0.4, abs=0.02) and "[" in rows[4][2]
    assert rows[6] == ["method", "budget", "disruption", "disruption, worst counter", "psnr", "ssim"]
    assert len(rows) == 8 + 3 and rows[10][3].endswith("resize:0.5+jpeg:75**")


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("robustness rows=nothing editor=e budget=b", "no nothing.jsonl"),
        ("nothing rows=own", "'nothing' is unknown"),
        ("robustness rows=own editor=e budget=b", "no rows of editor e"),
        ("robustness rows=own editor=tiny-inpaint budget=4/255 counters=flip", "no rows with counter flip"),
        ("robustness rows=own editor=tiny-inpaint budget=4/255 colour=red", "colour"),
    ],
)
def test_markers_that_cannot_be_followed(tables: ModuleType, marker: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_up_rows()))
    with pytest.raises(UserError, match=said):
        tables.with_tables(f"<!-- table: {marker} -->\n<!-- /table -->\n", tmp_path)
