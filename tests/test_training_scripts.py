"""The scripts in training/, with toy models on synthetic pictures: every stage runs, resumes, and its editor edits."""

import importlib
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file

from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.editors.spaces import load_spaces
from editproof.methods import METHODS

TRAINING = Path(__file__).parents[1] / "training"
SIZE = 64  # of the pictures, instead of 256
COMMON = ["--tiny", "--device", "cpu", "--no-half", "--batch", "2"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packs of three pictures each and random weights for the teachers."""
    folder, draw = tmp_path_factory.mktemp("work"), np.random.default_rng(0)
    (folder / "packs").mkdir()
    (folder / "weights").mkdir()
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 4] = 255
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    face = np.stack([32 + 15 * np.cos(angles), 30 + 18 * np.sin(angles)], 1).tolist()
    for split in ("train", "val"):
        for kind in ("portraits", "scenes"):
            notes, files = [], {}
            for number in range(3):
                small = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                files[f"images/{number}.png"] = Image.fromarray(small).resize((SIZE, SIZE))
                files[f"masks/{number}.png"] = Image.fromarray(mask)
                notes.append({
                    "file_name": f"images/{number}.png", "mask": f"masks/{number}.png", "landmarks68": face,
                    "background": {"name": "blue"}, "clothing": {"name": "red"}, "caption": "a photo of a field",
                })  # fmt: skip
            with tarfile.open(folder / "packs" / f"{kind}-{split}.tar", "w") as tar:
                texts = {"metadata.jsonl": "\n".join(map(json.dumps, notes)).encode()}
                for name, picture in files.items():
                    buffer = io.BytesIO()
                    picture.save(buffer, "PNG")
                    texts[name] = buffer.getvalue()
                for name, data in texts.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    torch.manual_seed(0)
    for name, channels in {"taesd": 4, "taef1": 16}.items():
        save_file(AutoencoderTiny(latent_channels=channels).state_dict(), folder / "weights" / f"{name}.safetensors")
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., list[dict]]:
    """Runs a script's main with arguments and returns the JSON lines that it printed."""
    monkeypatch.syspath_prepend(str(TRAINING))
    for file in TRAINING.glob("*.py"):  # the scripts are to read another size of pictures
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
    monkeypatch.setattr(importlib.import_module("photos"), "SIZE", SIZE)

    def run(name: str, *arguments: object) -> list[dict]:
        module: ModuleType = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        module.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]

    return run


def pictures(script: Callable, work: Path) -> None:
    if not (work / "pictures" / "captions.json").exists():
        script("make_pictures", "--packs", work / "packs", "--out", work / "pictures", "--count", 3, "--workers", 1)


def student(script: Callable, work: Path, space: str) -> Path:
    out = work / space
    if not out.exists():
        script("students", "--space", space, "--weights", work / "weights", "--packs", work / "packs", "--max-steps", 1,
               "--out", out, "--side", 32, "--composed", 0, "--unseen", 1, "--attack-steps", 1, *COMMON)  # fmt: skip
    return out


def test_a_student_resumes_and_is_checked_against_its_teacher(script: Callable, work: Path, tmp_path: Path) -> None:
    first = student(script, work, "sd1")
    shared = ["--weights", work / "weights", "--packs", work / "packs", "--space", "sd1"]
    lines = script("students", *shared, "--out", tmp_path / "on", "--resume", first, "--max-steps", 2, "--side", 32,
                   "--composed", 0, "--unseen", 1, "--cool", 0.5, "--attacked", 0.5, *COMMON)  # fmt: skip
    assert lines[0]["before"] == 1 and lines[-1]["steps"] == 3
    before, after = (AutoencoderTiny.from_pretrained(f / "model").state_dict() for f in (first, tmp_path / "on"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with Image.open(tmp_path / "on" / "samples.png") as grid:
        assert grid.size == (SIZE, 3 * SIZE)
    rows = script("check_students", *shared, "--student", tmp_path / "on" / "model", "--count", 1, "--steps", 1,
                  "--device", "cpu")  # fmt: skip
    assert 0.5 < rows[0]["latent_error"] < 2  # a toy after three steps knows nothing
    matrix = {row["attacked_on"]: row for row in rows[1:5]}
    assert set(matrix) == {"untouched", "random signs", "student", "sd1"}
    assert matrix["sd1"]["sd1"] < matrix["untouched"]["sd1"]


def test_a_narrower_student_is_fitted_layer_by_layer_and_trained_on(
    script: Callable, work: Path, tmp_path: Path
) -> None:
    shared = ["--weights", work / "weights", "--packs", work / "packs", "--space", "sd1", "--unseen", 1]
    lines = script("narrow", *shared, "--out", tmp_path / "narrow", "--width", 60, "--side", 32, "--batch", 6,
                   "--places", 3000, "--steps", 3)  # fmt: skip
    blocks = [line for line in lines if "fitted" in line]
    assert len(blocks) == 20 and all(line["solved"] < 0.1 for line in blocks)  # a random teacher is an easy one
    assert next(line for line in lines if "latent_error" in line)["latent_error"] < 0.3
    on = script("students", *shared, "--out", tmp_path / "on", "--resume", tmp_path / "narrow", "--max-steps", 1,
                "--side", 32, "--composed", 0, *COMMON)  # fmt: skip
    assert on[-1]["latent_error"] < 0.5
    model = AutoencoderTiny.from_pretrained(tmp_path / "on" / "model")
    assert model.encoder.layers[0].out_channels == model.decoder.layers[0].out_channels == 60


def test_an_editor_in_the_students_latents_edits_and_is_attacked(script: Callable, work: Path, tmp_path: Path) -> None:
    pictures(script, work)
    shared = ["--pictures", work / "pictures", "--vae", student(script, work, "sd1") / "model", "--sample-steps", 1]
    script("tiny_inpaint", *shared, "--out", tmp_path / "one", "--max-steps", 1, *COMMON)
    (tmp_path / "one" / "state.pt").unlink()  # what comes back from another machine has none
    lines = script("tiny_inpaint", *shared, "--out", tmp_path / "two", "--resume", tmp_path / "one", "--max-steps", 1,
                   "--cool", 0.5, *COMMON)  # fmt: skip
    assert lines[0]["before"] == 0
    editor = load_editor(tmp_path / "two" / "model", "cpu", torch.float32)
    photo, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    edited = editor.edit(photo, "plain red background", mask=mask, steps=2)
    assert edited.shape == photo.shape and editor.size == SIZE
    packed, again = tmp_path / "packed", tmp_path / "again"
    script("pack", tmp_path / "two" / "model", packed)
    script("pack", packed, again, "--back")
    for folder in (packed, again):
        same = load_editor(folder, "cpu", torch.float32).edit(photo, "plain red background", mask=mask, steps=2)
        assert 0 < float((same - edited).abs().mean()) < 0.02
    assert load_spaces(str(packed), torch.device("cpu"))[0].config.latent_channels == 4
    protected = METHODS["autoencoder"](editor, photo, mask=mask, budget=Linf(8 / 255), steps=2)
    assert 0 < float((protected - photo).abs().max()) < 8.6 / 255
    assert torch.equal(protected[..., 32:], (photo[..., 32:] * 255).round() / 255)


def test_an_in_context_editor_starts_without_a_context(script: Callable, work: Path, tmp_path: Path) -> None:
    pictures(script, work)
    script("make_pairs", "--packs", work / "packs", "--out", work / "pairs", "--count", 2, "--edits-each", 2,
           "--workers", 1)  # fmt: skip
    shared = ["--pictures", work / "pictures", "--pairs", work / "pairs", "--vae",
              student(script, work, "flux1") / "model", "--sample-steps", 1]  # fmt: skip
    first = script("tiny_kontext", *shared, "--out", tmp_path / "text", "--stage", "text", "--max-steps", 1, *COMMON)
    assert set(first[-1]) == {"stage", "steps", "text"}
    lines = script("tiny_kontext", *shared, "--out", tmp_path / "context", "--resume", tmp_path / "text", "--stage",
                   "context", "--max-steps", 4, "--drop", 0.3, "--full", 0, *COMMON)  # fmt: skip
    assert {"context"} < set(lines[-1]) - {"stage", "steps"} and lines[-1]["steps"] == 5  # with and without
    editor = load_editor(tmp_path / "context" / "model", "cpu", torch.float32)
    photo = torch.rand(1, 3, 32, 32)
    assert editor.size == SIZE and editor.edit(photo, "zoom in", steps=1).shape == photo.shape


def test_the_immunizer_learns_from_round_trips_and_editors(script: Callable, work: Path, tmp_path: Path) -> None:
    pictures(script, work)
    shared = ["--packs", work / "packs", "--weights", work / "weights", "--sides", 64, "--unseen", 1, "--left-out"]
    script("immunizer", *shared, "--spaces", "sd1", "--out", tmp_path / "one", "--max-steps", 1, "--told", 1, *COMMON)
    script("tiny_inpaint", "--pictures", work / "pictures", "--vae", student(script, work, "sd1") / "model",
           "--sample-steps", 1, "--out", tmp_path / "editor", "--max-steps", 1, *COMMON)  # fmt: skip
    lines = script("immunizer", *shared, "--spaces", "sd1", "--out", tmp_path / "two", "--resume", tmp_path / "one",
                   "--max-steps", 1, "--editors", tmp_path / "editor" / "model", "--edit-share", 1,
                   *COMMON[:-1], "1")  # fmt: skip
    assert lines[1]["on"].endswith("model")
    photo = torch.rand(1, 3, 40, 40)
    protected = METHODS["immunizer"](None, photo, budget=Linf(8 / 255), weights=str(tmp_path / "two" / "model"))
    assert 0 < float((protected - photo).abs().max()) < 8.6 / 255


def test_diffvax_learns_through_an_editor(script: Callable, work: Path, tmp_path: Path) -> None:
    pictures(script, work)
    script("tiny_inpaint", "--pictures", work / "pictures", "--vae", student(script, work, "sd1") / "model",
           "--sample-steps", 1, "--out", tmp_path / "editor", "--max-steps", 1, *COMMON)  # fmt: skip
    shared = ["--packs", work / "packs", "--editor", tmp_path / "editor" / "model", "--unseen", 1, "--check-steps", 1,
              "--denoising-steps", 2]  # fmt: skip
    first = script("diffvax", *shared, "--out", tmp_path / "one", "--max-steps", 2, *COMMON)
    assert [line["alpha"] for line in first if "alpha" in line] == [0, 4] and first[1]["perturbation"] == 0
    lines = script("diffvax", *shared, "--out", tmp_path / "two", "--resume", tmp_path / "one", "--max-steps", 1,
                   "--ease", 0, *COMMON)  # fmt: skip
    assert lines[0]["before"] == 2 and lines[-1]["steps"] == 3 and lines[1]["perturbation"] > 0
    checked = {line["check"]: line for line in lines if "check" in line}
    assert set(checked) == {"photo", "signs", "protected"}
    assert abs(checked["signs"]["psnr"] - checked["protected"]["psnr"]) < 1
    with Image.open(tmp_path / "two" / "samples.png") as grid:
        assert grid.size == (SIZE, 5 * SIZE)
    rows = script("check_one_pass", "--packs", work / "packs", "--out", tmp_path / "check", "--count", 1, "--steps", 1,
                  "--editor", tmp_path / "editor" / "model", "--device", "cpu",
                  "--diffvax", tmp_path / "two" / "model")  # fmt: skip
    psnrs = {row["method"]: row["psnr"] for row in rows}
    assert 25 < psnrs["noise, told"] < psnrs["diffvax, told"] < psnrs["untouched"]
    photo, mask = torch.rand(1, 3, 40, 40), torch.zeros(1, 1, 40, 40)
    mask[..., 20:] = 1
    protected = METHODS["diffvax"](None, photo, mask=mask, budget=None, weights=str(tmp_path / "two" / "model"))
    assert 0 < float((protected - photo)[..., :20].abs().max()) < 8.6 / 255


def test_what_shows_on_smooth_parts_counts_more(script: Callable) -> None:
    visible = importlib.import_module("visibility")
    smooth = torch.full((1, 3, 64, 64), 0.5)
    rough = (smooth + 0.2 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))).clamp(0.1, 0.9)
    tint, signs = torch.full_like(smooth, 6 / 255), 6 / 255 * torch.ones_like(smooth)
    signs[..., ::2] *= -1

    def seen(photo: torch.Tensor, delta: torch.Tensor) -> float:
        return float(visible.visibility(photo, photo + delta, 8 / 255)[0])

    assert seen(smooth, tint) > seen(rough, tint) > 0
    assert seen(smooth, tint) > seen(smooth, signs) > seen(rough, signs)
