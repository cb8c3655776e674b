"""The demonstration: its pictures, its table, and the photograph it takes when none is given."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from editproof.bench import demo
from editproof.bench.demo import INSTRUCTION, PROMPT, astronaut, panels, run_demo
from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.editors.pipeline import Editor
from editproof.immunizer.network import NestedUNet
from editproof.methods import METHODS
from editproof.metrics import edit_change, psnr
from editproof.metrics.contrast import contrast_structure
from editproof.photo.reading import open_photo, save_png

FIVE = ("original", "immunized", "edited_original", "edited_immunized", "comparison")


def test_the_photograph_and_its_mask() -> None:
    picture, mask = astronaut(256)
    assert picture.shape == (1, 3, 256, 256)
    assert mask.shape == (1, 1, 256, 256)
    rows = torch.nonzero((mask[0, 0] == 0).any(1)).flatten()
    assert 0.55 < len(rows) / 256 < 0.68  # the face fills about 60 % of the height
    red, green, blue = (picture[0, :, mask[0, 0] == 0]).mean(1)
    assert red > green > blue  # skin is kept
    assert red - blue > 0.15
    around = picture[0, :, :, :20]
    assert (around.mean((1, 2)).amax() - around.mean((1, 2)).amin()) < 0.1  # the grey backdrop is not


def test_pictures_and_rows_agree(tmp_path: Path, tiny_folder: object) -> None:
    editor = str(tiny_folder("sd-inpaint"))  # type: ignore[operator]
    rows, paths = run_demo(
        tmp_path, methods=("noise", "diffusionguard", "immunizer"), editor=editor, budget=Linf(16 / 255), preset="fast"
    )
    assert [path.name for path in paths] == [f"astronaut_{kind}.png" for kind in (*FIVE, "methods")]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    assert [row.method for row in rows] == ["noise", "diffusionguard", "immunizer"]
    saved = {path.stem.split("_", 1)[1]: open_photo(path).pixels[None] for path in paths}
    _, mask = astronaut(tiny.SIZE)
    shown = rows[2]
    assert psnr(saved["immunized"], saved["original"]).item() == pytest.approx(shown.psnr, abs=0.1)
    assert ((saved["immunized"] - saved["original"]).abs().max() * 255).round() == shown.linf <= 16
    change = edit_change(saved["edited_immunized"], saved["edited_original"], mask).item()
    assert change == pytest.approx(shown.change, abs=2e-3)  # the edits were rounded when saved
    assert all(row.seconds > 0 and row.disruption >= 0 for row in rows)


def test_own_picture_by_the_command_line(
    tmp_path: Path, tiny_folder: object, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    mask = Image.new("L", (90, 60), 255)
    mask.paste(0, (0, 0, 45, 60))
    mask.save(tmp_path / "mask.png")
    editor = str(tiny_folder("sd-inpaint"))  # type: ignore[operator]
    arguments = [
        "demo",
        "--image",
        str(tmp_path / "wall.png"),
        "--mask",
        str(tmp_path / "mask.png"),
        "--editor",
        editor,
    ]
    for _ in range(2):  # a second run replaces the first one's pictures
        assert main([*arguments, "--prompt", "a [red] wall", "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"wall_{kind}.png" for kind in FIVE}
    said = " ".join(capsys.readouterr().out.split())
    for words in ("a [red] wall", "immunizer", "PSNR", "seconds", "unknown until measured"):
        assert words in said
    assert open_photo(tmp_path / "out" / "wall_original.png").size == (32, 32)


def test_an_in_context_editor_is_shown_decontext_and_every_method_that_works_on_it(
    tmp_path: Path, tiny_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = str(tiny_folder("flux-kontext"))  # type: ignore[operator]
    for knobs in [method.fast for method in METHODS.values() if method.paper]:
        monkeypatch.setitem(knobs, "steps", 1)
    rows, paths = run_demo(tmp_path / "one", editor=editor, size=32, budget=Linf(16 / 255))
    assert [row.method for row in rows] == ["decontext"]
    assert [path.name for path in paths] == [f"astronaut_{kind}.png" for kind in FIVE]
    names = ("noise", "photoguard-encoder", "diffusionguard", "decontext", "veto")
    rows, paths = run_demo(tmp_path / "all", methods=names, editor=editor, size=32, budget=Linf(16 / 255))
    assert [row.method for row in rows] == ["noise", "photoguard-encoder", "decontext", "veto"]
    assert {row.prompt for row in rows} == {INSTRUCTION}
    saved = {path.stem.split("_", 1)[1]: open_photo(path).pixels[None] for path in paths[:4]}
    assert psnr(saved["immunized"], saved["original"]).item() == pytest.approx(rows[2].psnr, abs=0.1)


@pytest.mark.parametrize(("options", "prompt"), [([], None), (["--prompt", ""], ""), (["--prompt", "a"], "a")])
def test_an_empty_prompt_is_one(
    options: list[str], prompt: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []

    def run(out: Path, **settings: object) -> tuple[list[demo.Row], list[Path]]:
        told.append((settings["prompt"], settings["budget"]))
        return [demo.Row("immunizer", 30, 8, 0.1, 0.5, 1, prompt or "")], [out / "a.png"]

    monkeypatch.setattr(demo, "run_demo", run)
    assert main(["demo", *options]) == 0
    assert told == [(prompt, Linf(8 / 255))]
    assert capsys.readouterr().out.splitlines()[0].rstrip() == f"prompt: {prompt or ''}".rstrip()


def test_panels_are_labelled_and_hold_the_pictures() -> None:
    red, blue = torch.zeros(1, 3, 32, 64), torch.zeros(1, 3, 32, 64)
    red[:, 0], blue[:, 2] = 1, 1
    sheet = np.asarray(panels({"Red": red, "Blue": blue, "Red again": red}, columns=2))
    assert (sheet == (255, 0, 0)).all(-1).sum() == 2 * 320 * 160
    assert (sheet == (0, 0, 255)).all(-1).sum() == 320 * 160
    assert (sheet == (0, 0, 0)).all(-1).sum() > 100  # the labels


@pytest.mark.slow
def test_the_embedded_demo_shows_what_it_promises(tmp_path: Path) -> None:
    """What the edit keeps of the face is broken when the autoencoder was attacked, and less so by one pass."""
    rows, paths = run_demo(tmp_path, budget=Linf(8 / 255), steps={"autoencoder": 12}, baselines=True)
    assert [row.method for row in rows] == ["immunizer", "autoencoder"]
    assert all(row.linf <= 8 and row.prompt == PROMPT for row in rows)
    sheet = open_photo(tmp_path / "astronaut_comparison.png").size  # height, width: three columns of two
    assert sheet == (2 * (320 + 30 + 12) + 12, 3 * (320 + 12) + 12)
    picture, mask = astronaut(256)
    edits = {name: tmp_path / f"astronaut_edited_{name}.png" for name in ("original", "immunizer", "autoencoder")}
    assert set(edits.values()) < set(paths)
    kept = {n: contrast_structure(open_photo(p).pixels[None], picture, 1 - mask).item() for n, p in edits.items()}
    assert kept["immunizer"] < kept["original"] - 0.02 and kept["autoencoder"] < kept["original"] - 0.15


def test_diffvax_s_options(
    tmp_path: Path, tiny_folder: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo by its number, baselines with their own pictures, steps, weights; nothing is displayed."""
    folder = tmp_path / "data" / "validation"
    for number, photo in enumerate(tiny.pictures(2)):
        save_png(folder / "images" / f"image_{number}.png", photo)
        save_png(folder / "masks" / f"mask_image_{number}.png", tiny.hole(1)[0].expand(3, -1, -1))
    (folder / "metadata.jsonl").write_text("".join(f'{{"file_name": "images/image_{n}.png"}}\n' for n in range(2)))
    editor = str(tiny_folder("sd-inpaint"))  # type: ignore[operator]
    monkeypatch.setattr(Editor, "steps", 1)
    command = ["demo", "--data-dir", str(tmp_path / "data"), "--image-index", "1", "--no-display", "--editor", editor]
    options = ["--run-baselines", "--pg-steps", "2", "--dg-steps", "1", "--edit-prompt", "a hat", "--size", "32"]
    assert main([*command, *options, "--save-dir", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"image_1_{kind}.png" for kind in FIVE} <= names
    for method in ("photoguard-encoder", "diffusionguard", "immunizer"):
        assert {f"image_1_immunized_{method}.png", f"image_1_edited_{method}.png"} <= names
    assert "image_1_baseline_comparison.png" in names
    assert "a hat" in capsys.readouterr().out
    torch.save(NestedUNet(depths=(4, 8, 16)).state_dict(), tmp_path / "diffvax_trained.pth")
    weights = ["--checkpoint", str(tmp_path / "diffvax_trained.pth"), "--size", "32"]
    assert main([*command, *weights, "--save-dir", str(tmp_path / "theirs")]) == 0
    said = capsys.readouterr().out
    assert "diffvax" in said.split() and "immunizer" not in said.split()
    for wrong, said in ((["--image-index", "7"], "allowed: 0 to 1"), (["--checkpoint", "no.pth"], "no.pth"),
                        (["--data-dir", str(folder / "metadata.jsonl")], "is not a folder")):  # fmt: skip
        assert main([*command, *wrong, "--out", str(tmp_path / "not")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "not").exists()
    missing = ["--data-dir", str(tmp_path / "none")]
    assert main([*command, *missing, "--size", "32", "--out", str(tmp_path / "fallback")]) == 0  # there is no network
    told = " ".join(capsys.readouterr().err.split())
    assert "none' does not exist: fetching DiffVax's dataset" in told
    assert "the hub cannot be reached; allowed: a network connection, or another folder. Shown instead: scikit" in told
    assert (tmp_path / "fallback" / "astronaut_comparison.png").exists() and not (tmp_path / "none").exists()
