"""The command line as a user meets it: results, refusals in one line, nothing half-written."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_photo
import tiny
import torch
from PIL import Image

import editproof
from editproof import pgd
from editproof.budgets import Budget
from editproof.cli.display import percent
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet
from editproof.methods import METHODS
from editproof.methods.method import Given
from editproof.parsing import parse_number, parse_settings
from editproof.photo.reading import open_photo
from editproof.protection import pair
from editproof.protection.apply import method_settings, own_knobs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos, masks, and files that are neither."""
    monkeypatch.chdir(tmp_path)
    for name, (content, _) in test_photo.BAD_FILES.items():
        Path(name).write_bytes(content)
    picture = Image.fromarray(np.tile(test_photo.gradient(), (3, 2, 1)))  # 80 x 72
    for name in ("photo.png", "second.jpg", "photo.bmp", "new-protected.png", "new.png"):
        picture.save(name)
    Path("other").mkdir()
    picture.save("other/PHOTO.png")
    Path("file").write_text("a file")
    Image.new("L", picture.size, 255).save("white.png")
    Image.new("L", picture.size, 0).save("black.png")
    Image.new("L", (50, 50), 0).save("square.png")
    picture.save("new.jpg")
    picture.resize((800, 720)).save("large.png")
    speck = Image.new("L", (800, 720), 255)
    speck.putpixel((400, 360), 0)
    speck.save("dot.png")  # keeps one pixel
    Path("taken/new-protected.json").mkdir(parents=True)
    Path("folder.png").mkdir()
    left = Image.new("L", picture.size, 255)
    left.paste(0, (0, 0, 20, 72))
    left.save("quarter.png")  # keeps the left quarter
    return tmp_path


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


PROTECT, EDIT = "protect photo.png --out out", "edit photo.png --mask quarter.png --prompt hat --out out.png"
DIFFUSION = f"{PROTECT} --mask quarter.png --method photoguard-diffusion"
REFUSED = {  # arguments -> what the one line must say
    **{f"protect {name} --out out": name for name in test_photo.BAD_FILES if name != "animated.gif"},  # a clip
    "protect missing.png --out out": "missing.png",
    "protect other --out out": "'other' is a folder",
    "protect photo.png cut.jpg --out out": "cut.jpg",
    "protect photo.png": "out",
    "protect --out out": "photos",
    "protect photo.png --out file": "'file'",
    "protect photo.png --out file/below": "'file",
    "protect photo.png ./photo.png --out out": "is named twice",
    "protect photo.png photo.png --out out": "photo.png",
    "protect new.png new-protected.png --out . --overwrite": "new-protected.png",
    "protect new.png --out .": "--overwrite",
    f"{PROTECT} --mask white.png": "nothing to protect",
    f"{PROTECT} --mask black.png --invert-mask": "nothing to protect",
    f"{PROTECT} --mask square.png": "50 x 50",
    f"{PROTECT} --mask missing.png": "missing.png",
    f"{PROTECT} --mask text.jpg": "text.jpg",
    f"{PROTECT} --eps 8/0": "'8/0'",
    f"{PROTECT} --eps 8": "'8'",
    f"{PROTECT} --eps 0": "'0'",
    f"{PROTECT} --eps nan": "'nan'",
    f"{PROTECT} --eps 0.0039": "'0.0039' is less than one level",
    "demo --eps 0.5/255 --out out": "'0.5/255' is less than one level",
    f"{PROTECT} --l2 0.5": "'photo.png' came out unchanged",
    f"{PROTECT} --mask quarter.png --method diffusionguard --steps 1 --set step_size=0": "came out unchanged",
    f"{PROTECT} --scheduler ddim": "scheduler 'ddim' would change nothing",
    "protect large.png --out out --mask dot.png": "nothing to protect once",
    "edit large.png --prompt hat --out out.png --mask dot.png --invert-mask": "nothing to edit once",
    "demo --image large.png --mask dot.png --out out": "nothing to protect once",
    "demo --image large.png --mask dot.png --invert-mask --out out": "nothing to edit once",
    "protect new.jpg --out taken --overwrite": "new-protected.json' is a folder",
    "edit photo.png --prompt hat --out folder.png --overwrite": "'folder.png' is a folder",
    f"{PROTECT} --eps 1e-2": "'1e-2'",
    f"{PROTECT} --eps=-0.1": "'-0.1'",
    f"{PROTECT} --l2 x": "'x'",
    f"{PROTECT} --l2 8 --eps 8/255": "exclude each other",
    f"{PROTECT} --format gif": "png, webp, tiff, avif, jpeg",
    f"{PROTECT} --quality 90": "'png' is lossless",
    f"{PROTECT} --format jpeg --quality 0": "'0'; allowed: a whole number from 1 to 100",
    f"{PROTECT} --credentials missing.pem": "missing.pem",
    "protect second.jpg --out taken --recursive --mask missing.png": "missing.png",
    f"{PROTECT} --method magic": "noise, immunizer, photoguard-encoder",
    f"{PROTECT} --preset slow": "paper, paper-512, fast",
    f"{PROTECT} --steps 0": "'0'; allowed: a whole number of at least 1",
    f"{PROTECT} --seed -1": "'-1'",
    f"{PROTECT} --seed x": "'x'",
    f"{EDIT} --guidance -1": "'-1'; allowed: a number",
    f"{PROTECT} --device warp": "'warp'",
    f"{PROTECT} --method noise --set samples=4": "no setting 'samples'",
    f"{PROTECT} --seed {2**63}": "from 0 to 9223372036854775807",
    f"{EDIT} --seed 99999999999999999999999": "from 0 to 9223372036854775807",
    f"{EDIT} --steps 1001": "1001 steps; allowed: a whole number from 1 to 1000",
    f"{DIFFUSION} --set denoising_steps=1001": "1001 steps; allowed: a whole number from 1 to 1000",
    f"{DIFFUSION} --set denoising_steps=0": "denoising_steps=0",
    f"{DIFFUSION} --set samples=0": "samples=0",
    f"{DIFFUSION} --set samples=1.5": "samples=1.5 of 'photoguard-diffusion' cannot be used; allowed: a whole number",
    f"{DIFFUSION} --set samples=True": "samples=True",
    f"{DIFFUSION} --set samples=None": "samples=None",
    f"{DIFFUSION} --set guidance=abc": "guidance='abc'",
    f"{DIFFUSION} --set guidance=-1": "guidance=-1",
    f"{DIFFUSION} --set guidance=1{'0' * 400}": "guidance=1",
    f"{DIFFUSION} --set momentum=abc": "momentum='abc'",
    f"{DIFFUSION} --set momentum=nan": "momentum='nan'",
    f"{DIFFUSION} --set step_size=abc": "step_size='abc' of 'photoguard-diffusion' cannot be used; allowed: a number",
    f"{DIFFUSION} --set step_size={'(' * 5000}": "step_size='((",
    f"{PROTECT} --set weights=5": "weights=5 of 'immunizer' cannot be used; allowed: text",
    f"{PROTECT} --set weights": "NAME=VALUE",
    f"{PROTECT} --set weights=missing.pth": "missing.pth",
    f"{PROTECT} --editor sd-inpaint": "'sd-inpaint' would change nothing",
    f"{PROTECT} --method diffusionguard --editor nothing": "'nothing'",
    f"{PROTECT} --method diffusionguard --editor sd-inpaint": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    f"{PROTECT} --method diffusionguard --scheduler best": "ddim",
    f"{EDIT} --mask black.png": "nothing to edit",
    f"{EDIT} --mask white.png --invert-mask": "nothing to edit",
    f"{EDIT} --mask square.png": "50 x 50",
    f"{EDIT} --editor nothing": "'nothing'",
    "edit photo.png --prompt hat --out out.jpg": ".png",
    "edit photo.png --prompt hat --out photo.png": "another name",
    "edit photo.png --prompt hat --out file/a.png": "'file'",
    "edit bomb.png --prompt hat --out out.png": "bomb.png",
    "demo --image missing.png --out out": "missing.png",
    "demo --image photo.png --out out": "--mask",
    "demo --image photo.png --mask white.png --out out": "nothing to protect",
    "demo --image photo.png --mask black.png --out out": "nothing to edit",
    "demo --eps 8/0 --out out": "'8/0'",
    "demo --preset slow --out out": "paper, paper-512, fast",
    "demo --out file": "'file'",
    "list everything": "methods, editors, counters",
    "unknown": "unknown",
    "protect photo.png --out out --unknown": "--unknown",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refusals(arguments: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    assert main(arguments.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert len(said.err.strip().splitlines()) == 1
    assert REFUSED[arguments] in said.err
    assert files(folder) == before


def test_protect_writes_photo_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PROTECT.split(), "--mask", "quarter.png", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    report = json.loads((folder / "out/photo-protected.json").read_text())
    original, protected = open_photo("photo.png").pixels, open_photo("out/photo-protected.png").pixels
    change = (protected - original).abs()
    assert protected.shape == original.shape
    assert {path.name for path in (folder / "out").iterdir()} == {"photo-protected.png", "photo-protected.json"}
    assert change[..., 20:].max() == 0
    assert 0 < report["linf_levels"] == round(change.max().item() * 255) <= 8
    assert report["linf"] == pytest.approx(change.max().item(), abs=1e-6)
    assert report["psnr_db"] == pytest.approx(-10 * np.log10(change.square().mean().item()), abs=0.01)
    assert report["protected_share"] == 0.25
    assert "25% of the picture" in said
    assert (report["method"], report["seed"], report["size"]) == ("immunizer", 3, [80, 72])
    assert report["budget"] == {"norm": "Linf", "eps": 8 / 255}
    assert report["mask"] == {"file": "quarter.png", "inverted": False}
    assert report["measured_against"] == ["tiny-inpaint"]
    assert report["versions"]["torch"] == torch.__version__
    for words in ("embedded editor tiny-inpaint only", "unknown until measured", "never makes it impossible"):
        assert words in " ".join(said.split())
        assert words in report["claim"]


def test_existing_output_is_replaced_only_on_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*PROTECT.split(), "--method", "noise"]
    assert main(arguments) == 0
    first = (folder / "out/photo-protected.png").read_bytes()
    assert main([*arguments, "--seed", "1"]) == 2
    assert (folder / "out/photo-protected.png").read_bytes() == first
    assert main([*arguments, "--seed", "1", "--overwrite"]) == 0
    assert (folder / "out/photo-protected.png").read_bytes() != first
    assert main([*arguments, "--overwrite"]) == 0
    assert (folder / "out/photo-protected.png").read_bytes() == first
    capsys.readouterr()
    (folder / "out/photo-protected.png").unlink()
    assert main([*arguments, "--seed", "1"]) == 2  # the report alone is there
    assert "photo-protected.json" in capsys.readouterr().err
    assert main(arguments) == 0  # as after a kill: see tests/test_kills.py
    assert (folder / "out/photo-protected.png").read_bytes() == first


def test_photos_of_one_size_go_through_the_method_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    immunizer = METHODS["immunizer"]

    @functools.wraps(immunizer.function)
    def counted(given: Given, **settings: object) -> torch.Tensor:
        sizes.append(len(given.images))
        return immunizer.function(given, **settings)

    monkeypatch.setitem(METHODS, "immunizer", replace(immunizer, function=counted))
    for i in range(10):
        Image.open("photo.png").save(f"copy{i}.png")
    Image.open("photo.png").resize((100, 50)).save("wide.png")
    names = [f"copy{i}.png" for i in range(10)]
    assert main(["protect", *names[:5], "wide.png", *names[5:], "--out", "out"]) == 0
    assert sorted(sizes) == [1, 2, 8]
    alone = folder / "alone"
    assert main(["protect", "copy9.png", "--out", str(alone)]) == 0
    pairs = [open_photo(f / "copy9-protected.png").pixels for f in (alone, folder / "out")]
    assert (pairs[0] - pairs[1]).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_its_name(method: str, folder: Path, tiny_folder: object) -> None:
    name = "flux-kontext" if method in ("decontext", "veto") else "sd-inpaint"
    editor = [] if method in ("noise", "immunizer", "diffvax") else ["--editor", str(tiny_folder(name)), "--size", "32"]  # type: ignore[operator]
    arguments = [*PROTECT.split(), "--method", method, "--steps", "1", "--eps", "0.02", "--mask", "quarter.png"]
    own = ["--set", "samples=2"] if method == "photoguard-diffusion" else []
    if method == "diffvax":
        torch.save(NestedUNet(depths=(4, 8, 16)).state_dict(), "diffvax_trained.pth")
        own = ["--set", "weights=diffvax_trained.pth"]
    kept = 20
    if method == "facelock":  # needs a face, here in the left part
        kept = 64
        photo, mask = Image.open("photo.png").convert("RGB"), Image.open("white.png")
        face = (tiny.people(1, kept, kept)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        photo.paste(Image.fromarray(face))
        mask.paste(0, (0, 0, kept, 72))
        photo.save("photo.png")
        mask.save("quarter.png")
    assert main([*arguments, *editor, *own]) == 0
    report = json.loads((folder / "out/photo-protected.json").read_text())
    assert (report["method"], report["steps"]) == (method, 1)
    assert report["budget"]["eps"] == 0.02
    assert report["measured_against"] == ([] if editor or method == "diffvax" else ["tiny-inpaint"])
    assert method != "photoguard-diffusion" or report["settings"]["samples"] == 2
    change = (open_photo("out/photo-protected.png").pixels - open_photo("photo.png").pixels).abs()
    assert 0 < change.max() <= 0.02
    assert change[..., kept:].max() == 0


def test_l2_budget_and_paper_preset(folder: Path) -> None:
    assert main([*PROTECT.split(), "--method", "noise", "--l2", "8"]) == 0
    report = json.loads((folder / "out/photo-protected.json").read_text())
    eps = 8 * (80 * 72) ** 0.5 / 512
    assert report["budget"]["norm"] == "L2"
    assert report["budget"]["eps"] == pytest.approx(eps)
    delta = open_photo("out/photo-protected.png").pixels - open_photo("photo.png").pixels
    assert delta.norm() <= eps * (1 + 1e-5)
    assert main([*PROTECT.split(), "--method", "noise", "--preset", "paper", "--overwrite"]) == 0
    assert json.loads((folder / "out/photo-protected.json").read_text())["budget"] == {"norm": "Linf", "eps": 8 / 255}


IN_EFFECT = {  # method, options -> budget and step size in the report
    "immunizer --preset paper": ("Linf", 8 / 255, None),
    "immunizer --preset paper --eps 4/255": ("Linf", 4 / 255, None),
    "noise --preset paper": ("Linf", 8 / 255, None),
    "photoguard-encoder --preset paper": ("Linf", 0.03, [0.005, 0.005 * (1 - 0.99 * 999 / 1000)]),
    "photoguard-encoder --steps 5": ("Linf", 8 / 255, 2.5 * 8 / 255 / 5),
    "photoguard-encoder --preset paper --set step_size=0.01": ("Linf", 0.03, 0.01),
    "photoguard-diffusion --preset paper": ("L2", 8 * (80 * 72) ** 0.5 / 512, 0.5 * 32 / 512),
    "photoguard-diffusion --preset paper --l2 8": ("L2", 8 * (80 * 72) ** 0.5 / 512, 0.5 * 32 / 512),
    "diffusionguard --preset paper": ("Linf", 8 / 255, 0.5 / 255),
    "diffusionguard --preset paper --steps 4": ("Linf", 8 / 255, 2.5 * 8 / 255 / 4),
}


@pytest.mark.parametrize("arguments", IN_EFFECT)
def test_the_report_says_what_was_in_effect(
    arguments: str, folder: Path, tiny_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is also what the optimisation was told, which is cut short here."""
    norm, eps, step = IN_EFFECT[arguments]
    method, *options = arguments.split()
    told = []

    def two_steps(objective: object, images: torch.Tensor, budget: Budget, **settings: Any) -> torch.Tensor:
        size = settings["step_size"]
        told.append((budget, [size(0), size(settings["steps"] - 1)] if callable(size) else size))
        return pgd.pgd(objective, images, budget, **{**settings, "steps": 2, "samples": 1})  # type: ignore[arg-type]

    if METHODS[method].paper:
        monkeypatch.setattr(sys.modules[METHODS[method].__module__], "pgd", two_steps)
        options += ["--editor", str(tiny_folder("sd-inpaint")), "--size", "32"]  # type: ignore[operator]
    assert main([*PROTECT.split(), "--mask", "quarter.png", "--method", method, *options]) == 0
    report = json.loads((folder / "out/photo-protected.json").read_text())
    assert report["budget"] == {"norm": norm, "eps": pytest.approx(eps)}
    assert report["settings"].get("step_size") == (step if step is None else pytest.approx(step))
    assert report["scheduler"] == ("DDIMScheduler" if METHODS[method].paper else None)
    delta = open_photo("out/photo-protected.png").pixels - open_photo("photo.png").pixels
    assert 0 < (delta.abs().max() if norm == "Linf" else delta.norm()) <= eps + 1e-6
    height, width = reversed(report["working_size"])
    scale = (height * width / (80 * 72)) ** 0.5 if norm == "L2" else 1
    for budget, size in told:
        assert (type(budget).__name__, budget.eps) == (norm, pytest.approx(eps * scale))
        assert size == pytest.approx(step)


def test_edit_keeps_size_and_kept_pixels(folder: Path, tiny_folder: object) -> None:
    editor = ["--editor", str(tiny_folder("sd-inpaint")), "--mask", "quarter.png", "--steps", "2", "--size", "32"]  # type: ignore[operator]
    assert main([*EDIT.split(), *editor]) == 0
    original, edited = open_photo("photo.png").pixels, open_photo("out.png").pixels
    assert edited.shape == original.shape
    assert torch.equal(edited[..., :20], original[..., :20])
    assert (edited[..., 24:] - original[..., 24:]).abs().mean() > 0.05
    assert main([*EDIT.split(), *editor]) == 2
    assert main([*EDIT.split(), *editor, "--overwrite", "--scheduler", "euler"]) == 0
    assert not torch.equal(open_photo("out.png").pixels, edited)


def test_edit_without_mask_by_an_editor_that_takes_none(folder: Path, tiny_folder: object) -> None:
    editor = ["--editor", str(tiny_folder("instruct-pix2pix")), "--steps", "2"]  # type: ignore[operator]
    assert main([*EDIT.split(), "--mask", "none", *editor]) == 0
    assert open_photo("out.png").size == (72, 80)


def test_ctrl_c_leaves_whole_files_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pair.json, "dumps", stop)  # of the report, when the photo is written already
    assert main(PROTECT.split()) == 130
    assert "half-written" in capsys.readouterr().err
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **settings: object) -> torch.Tensor:
        raise error

    monkeypatch.setitem(METHODS, "immunizer", replace(METHODS["immunizer"], function=fail))
    assert main(PROTECT.split()) == 2
    assert "not enough memory" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("text", "number"), [("8/255", 8 / 255), ("0.03", 0.03), (".5", 0.5), ("1", 1), (" 4 / 255 ", 4 / 255)]
)
def test_numbers(text: str, number: float) -> None:
    assert parse_number(text, "--eps", 1) == number


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100%"), (0.254, "25%"), (0.01, "1%"), (0.0042, "0.42%"), (0.000002, "0.0002%")]
)
def test_a_small_share_is_not_shown_as_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_settings_are_literals_or_text() -> None:
    parsed = parse_settings(["samples=4", "momentum=.9", "weights=a/b.pth", "x=None"])
    assert parsed == {"samples": 4, "momentum": 0.9, "weights": "a/b.pth", "x": None}


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_takes_its_default_and_no_list(method: str) -> None:
    defaults = own_knobs(method) | dict.fromkeys(METHODS[method].required, "a file")
    assert method_settings(method, None, None, defaults) == defaults
    for name in defaults:
        with pytest.raises(UserError, match=rf"setting {name}=\[\] .* allowed: "):
            method_settings(method, None, None, {name: []})


def test_list_says_what_the_registries_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in found["methods"]] == list(METHODS)
    assert {row["editor"]: row["on_disk"] for row in found["editors"]}["tiny-inpaint"] is True
    assert all(row["licence"] for row in found["editors"])
    assert {key for rows in found.values() for row in rows for key in row} == {
        "method", "needs_editor", "settings", "description", "editor", "side", "mask", "on_disk", "licence", "source",
        "counter", "default", "range", "strength", "gradient",
    }  # fmt: skip
    assert {row["method"]: row["settings"] for row in found["methods"]} == {m: list(own_knobs(m)) for m in METHODS}
    for what in (["list"], ["list", "methods"], ["list", "editors"], ["list", "counters"], ["doctor"]):
        assert main(what) == 0
        said = capsys.readouterr().out
        assert ("photoguard-diffusion" in said) == (what in (["list"], ["list", "methods"]))
        assert ("tiny-inpaint" in said) == (what not in (["list", "methods"], ["list", "counters"]))
        assert ("adverse-cleaner" in said) == (what in (["list"], ["list", "counters"]))


def test_bare_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for command in ("protect", "edit", "demo", "list", "doctor", "train", "data"):
        assert f" {command} " in said
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("editproof ")


@pytest.mark.parametrize("columns", ["1", "7", "80"])
def test_an_error_is_one_line_however_narrow_the_console_is(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["protect", "nowhere.jpg", "--out", "out"]) == 2
    assert capsys.readouterr().err == "error: photo 'nowhere.jpg' does not exist\n"


def test_a_current_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: the current folder is gone; allowed: ")


def run_and_list(modules: str, arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a Python of its own; its last line lists which of `modules` were imported."""
    code = f"""
import sys
from editproof.cli.main import main
code = main({arguments.split()})
print([name for name in {modules.split()} if name in sys.modules])
sys.exit(code)"""
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_help_is_quick_and_imports_no_torch() -> None:
    started = os.times()
    done = run_and_list("torch numpy diffusers", "--help")
    ended = os.times()
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    # computing time: the machine may be busy with other things
    assert ended.children_user + ended.children_system - started.children_user - started.children_system < 0.8


def test_default_protection_imports_no_diffusers(folder: Path) -> None:
    done = run_and_list("torch diffusers transformers scipy skimage", PROTECT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['torch']"
    assert done.stderr == ""
