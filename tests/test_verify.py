"""`editproof verify`, offline: a tiny random editor, a folder of photos, and the row that is handed in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from editproof.bench import chunk
from editproof.bench.verify import leaderboard, prepare, probe
from editproof.cli.main import main
from editproof.methods.prompts import HELD_OUT, HELD_OUT_SCENES, POOL
from editproof.photo.reading import save_png

ROOT = Path(__file__).parents[1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, photo in enumerate(tiny.pictures(3, 48, 56)):
        save_png(tmp_path / "data" / f"p{number}.png", photo)
    return tmp_path / "data"


def test_a_row_is_measured_written_and_gone_on_with(
    data: Path, tmp_path: Path, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    editor = str(tiny_folder("instruct-pix2pix"))
    command = [
        "verify", "--editor", editor, "--data", str(data), "--out", str(tmp_path / "out"), "--photos", "2",
        "--prompts", "2", "--seeds", "1", "--methods", "none,noise,pca", "--edit-steps", "1", "--device", "cpu",
    ]  # fmt: skip
    assert main([*command, "--estimate"]) == 0
    said = capsys.readouterr().out
    assert "sees the first photo at 56x48" in said
    assert "4 protections and 48 edits of 2 photos" in said
    assert "GiB" in said
    assert not (tmp_path / "out" / "results.jsonl").exists()
    assert main(command) == 0
    row = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert (row["editor"], row["photos"], row["attacker_size"], row["embedded"]) == (
        "instruct-pix2pix",
        2,
        [56, 48],
        False,
    )
    assert {"editproof", "torch", "device"} <= set(row["environment"])
    assert {entry["method"] for entry in row["entries"]} == {"none", "noise", "pca"}
    assert {entry["counter"] for entry in row["entries"]} == {"none", "jpeg:75", "resize:0.5"}
    assert str(tmp_path) not in json.dumps(row)
    assert not set(row["prompts"]) & set(POOL)
    assert (tmp_path / "out" / "report.html").is_file()
    table = leaderboard([tmp_path / "out" / "leaderboard.json"])
    assert len(table.splitlines()) == 2 + 3
    assert "| `instruct-pix2pix` | 56x48 | 2 | `pca` |" in table

    def no_more(*given: object, **more: object) -> None:
        raise AssertionError("a run that is done computes nothing")

    monkeypatch.setattr(chunk, "protect_with", no_more)
    assert main(command) == 0
    assert json.loads((tmp_path / "out" / "leaderboard.json").read_text())["entries"] == row["entries"]


def test_without_photos_or_methods_it_takes_the_astronaut_and_the_usual_ones(
    tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    settings = {
        "data": None, "photos": 5, "prompts": 2, "seeds": 2, "methods": None, "budget": "8/255", "preset": "fast",
        "edit_steps": None, "size": 32, "device": "cpu",
    }  # fmt: skip
    config, editor = prepare(str(tiny_folder("sd-inpaint")), tmp_path, **settings)  # type: ignore[arg-type]
    assert config.methods == (
        "none",
        "noise",
        "autoencoder",
        "immunizer:mask=told",
        "photoguard-encoder",
        "diffusionguard",
    )
    assert set(config.prompts or ()) <= set(HELD_OUT_SCENES)
    assert config.edit_steps == editor.steps
    cost = probe(config, editor)
    assert (cost.photos, cost.protections, cost.size) == (1, 5, (32, 32))
    assert cost.seconds > 0 and cost.memory > 0
    config, _ = prepare(str(tiny_folder("flux-kontext")), tmp_path, **settings)  # type: ignore[arg-type]
    assert {"decontext", "noise"} <= set(config.methods)
    assert "diffusionguard" not in config.methods
    assert set(config.prompts or ()) <= {prompt for group in HELD_OUT.values() for prompt in group}


def test_the_leaderboard_is_made_of_the_rows_beside_it() -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text()
    made = leaderboard((ROOT / "benchmarks" / "leaderboard").glob("*.json"))
    assert f"<!-- leaderboard -->\n{made}\n<!-- /leaderboard -->" in text
