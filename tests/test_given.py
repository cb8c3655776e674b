"""What Python programs and the command line may give: the unambiguous is taken, the rest is refused in one line."""

import shutil
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editproof.budgets import L2, LEVELS, Linf, check_budget
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.immunizer.network import EMBEDDED
from editproof.photo.formats import save_photo
from editproof.photo.reading import open_photo
from editproof.protection.apply import protect
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings

PHOTO = (tiny.pictures(1, 48, 64) * 255).round() / 255
LEVELS_OF_IT = (PHOTO * 255).byte()
HWC = LEVELS_OF_IT[0].permute(1, 2, 0)
SAME: dict[str, Any] = {
    "uint8": LEVELS_OF_IT,
    "double": PHOTO.double(),
    "channels last": LEVELS_OF_IT.permute(0, 2, 3, 1),
    "one photo": PHOTO[0],
    "one photo, channels last": HWC,
    "array": HWC.numpy(),
    "array of floats": PHOTO[0].permute(1, 2, 0).numpy(),
    "a picture of Pillow": Image.fromarray(HWC.numpy()),
    "with alpha": Image.fromarray(HWC.numpy()).convert("RGBA"),
}
WRONG: dict[str, tuple[Any, str]] = {
    "0 to 255": (PHOTO * 255, "values from .* to 255"),
    "-1 to 1": (PHOTO * 2 - 1, "values from -1 to"),
    "NaN": (PHOTO * float("nan"), "values from nan"),
    "infinite": (PHOTO / 0, "values from .*inf|nan"),
    "whole numbers": (LEVELS_OF_IT.long(), "is of int64"),
    "16 bits": (HWC.numpy().astype(np.uint16), "uint16"),
    "bools": (PHOTO > 0.5, "is of bool"),
    "two channels": (PHOTO[:, :2], r"is of shape \(1, 2, 48, 64\)"),
    "objects": (np.array([None, 3]), "is an array of object"),
    "a list": ([PHOTO], "is of type list"),
    "nothing": (None, "is of type NoneType"),
    "deep pictures": (Image.fromarray(HWC[..., 0].numpy().astype(np.uint16)), "a picture of mode I;16"),
    "no photos": (PHOTO[:0], r"is of shape \(0, 3, 48, 64\)"),
}


@pytest.mark.parametrize("name", SAME)
def test_photos_in_any_form_are_the_same(name: str, tmp_path: Path) -> None:
    expected = protect(PHOTO, method="noise", budget=8 / 255)
    result = protect(SAME[name], method="noise", budget=Linf(8 / 255))
    assert torch.equal(result, expected if result.ndim == 4 else expected[0])
    assert (result.ndim == 4) == (getattr(SAME[name], "ndim", 0) == 4)


def test_paths_and_grey_photos(tmp_path: Path) -> None:
    Image.fromarray(HWC.numpy()).save(tmp_path / "a.png")
    expected = protect(PHOTO[0], method="noise")
    assert torch.equal(protect(tmp_path / "a.png", method="noise"), expected)
    assert torch.equal(protect(str(tmp_path / "a.png"), method="noise"), expected)
    grey = protect(HWC[..., 0], method="noise")
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey, protect(HWC[..., :1].numpy(), method="noise"))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_photo_is_refused_in_one_line(name: str, tiny_editor: Any) -> None:
    given, said = WRONG[name]
    for call in (
        lambda: protect(given, method="noise"),
        lambda: tiny_editor("sd-inpaint").edit(given, "x", mask=torch.ones(48, 64), steps=1),
        lambda: save_photo("never.png", given, open_photo_of(PHOTO)),
    ):
        with pytest.raises(UserError, match=rf"(images|pixels) .*({said}).*allowed: ") as error:
            call()
        assert "\n" not in str(error.value)
    assert not Path("never.png").exists()


def open_photo_of(pixels: torch.Tensor) -> Any:
    from editproof.photo.reading import Photo

    return Photo(Path("a.png"), (pixels[0] * 255).byte().permute(1, 2, 0).contiguous())


HOLE = torch.zeros(48, 64)
HOLE[10:30, 20:50] = 1
MASKS: dict[str, Any] = {
    "bools": HOLE.bool(), "HW": HOLE, "array": HOLE.numpy(), "1HW": HOLE[None], "11HW": HOLE[None, None],
    "levels": (HOLE * 255).byte().numpy(), "uint8": HOLE.byte(),
    "picture": Image.fromarray((HOLE * 255).byte().numpy()),
}  # fmt: skip
NO_MASKS: dict[str, tuple[Any, str]] = {
    "soft": (HOLE * 0.5, "values from 0 to 0.5"),
    "size": (HOLE[:20], r"shape \(20, 64\)"),
    "two of one": (HOLE.expand(2, 1, 48, 64), r"shape \(2, 1, 48, 64\)"),
    "three channels": (HOLE.expand(1, 3, 48, 64), r"shape \(1, 3, 48, 64\)"),
    "whole numbers": (HOLE.long(), "int64"),
    "type": (8, "type int"),
    "picture": (Image.fromarray(HWC.numpy()), "is no mask"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_in_any_form_are_the_same(name: str) -> None:
    result = protect(PHOTO, method="noise", mask=MASKS[name])
    assert torch.equal(result, protect(PHOTO, method="noise", mask=HOLE[None, None]))
    assert torch.equal(result[..., HOLE > 0], PHOTO[..., HOLE > 0])


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask_is_refused_in_one_line(name: str) -> None:
    given, said = NO_MASKS[name]
    with pytest.raises(UserError, match=rf"mask.*{said}.*allowed: ") as error:
        protect(PHOTO, method="noise", mask=given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("budget", [8, "8/255", True, 0.0, 1.5, float("nan")], ids=repr)
def test_what_is_no_budget_is_refused(budget: Any) -> None:
    for call in (lambda: protect(PHOTO, method="noise", budget=budget), lambda: ProtectSettings(budget=budget)):
        with pytest.raises(UserError, match="allowed"):
            call()


def test_photos_are_protected_when_they_are_asked_for(tmp_path: Path) -> None:
    corpus.RGB.save(tmp_path / "i.png")
    protect_photos(str(tmp_path / "i.png"), tmp_path / "out", method="noise", budget=4 / 255)
    assert (tmp_path / "out" / "i-protected.png").exists()
    (report,) = protect_photos(tmp_path / "i.png", tmp_path / "more", method="noise", format="TIF")
    assert report["protected"] == "i-protected.tif"


def test_pixels_of_another_size_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pixels are of shape \(3, 48, 32\), the photo 'a.png' has 64 x 48 pixels"):
        save_photo(tmp_path / "b.png", PHOTO[0, ..., :32], open_photo_of(PHOTO))
    assert not list(tmp_path.iterdir())
    save_photo(tmp_path / "b.png", PHOTO[0], open_photo_of(PHOTO))
    assert torch.equal(open_photo(tmp_path / "b.png").pixels, PHOTO[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_damaged_weights_write_nothing(value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "weights")
    tensors = load_file(EMBEDDED / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensors[name] = torch.full_like(tensor, value)
    save_file(tensors, tmp_path / "weights" / "model.safetensors")
    corpus.RGB.save(tmp_path / "a.png")
    arguments = ["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", f"weights={tmp_path / 'weights'}"]) == 2
    said = capsys.readouterr().err
    assert "not finite" in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/a*"))


@pytest.mark.parametrize(("budget", "levels", "length", "fine"), [
    (Linf(8 / 255), 8, 99.0, True), (Linf(8 / 255), 9, 0.1, False), (Linf(8 / 255), 120, 1.0, False),
    (L2(2.0), 200, 2.0, True), (L2(2.0), 1, 2.01, False), (None, 255, 999.0, True),
    (L2(2.0), 1, float("nan"), False), (Linf(8.5 / 255), 8, 1.0, True),
], ids=str)  # fmt: skip
def test_the_budget_is_checked(budget: Linf | L2 | None, levels: float, length: float, fine: bool) -> None:
    assert LEVELS == 255
    if fine:
        check_budget(budget, levels, length, "photo")
        return
    with pytest.raises(UserError, match="beyond the budget of"):
        check_budget(budget, levels, length, "photo")


@pytest.mark.parametrize(("arguments", "said"), [
    ("--steps 5", "optimises nothing, so 5 steps would change nothing"),
    ("--method noise --steps 5", "5 steps would change nothing"),
    ("--invert-mask", "there is no mask that --invert-mask would invert"),
    ("--mask auto --invert-mask", "would give people away"),
    ("--set samples=1" + "0" * 400, "no setting 'samples'"), ("--eps 1" + "0" * 400, "allowed"),
    ("--l2 1" + "0" * 400, "allowed"), ("--steps 1" + "0" * 400, "allowed"), ("--seed 1" + "0" * 400, "allowed"),
    ("--method photoguard-encoder --set momentum=1" + "0" * 400, "allowed"),
    ("--quality 1" + "0" * 5000, "allowed"), ("--size 1" + "0" * 400, "allowed"),
])  # fmt: skip
def test_options_without_effect_or_sense_are_refused(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.RGB.save(tmp_path / "a.png")
    assert main(["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


YAML = {
    "deep": "[" * 5000,
    "deep and closed": "a: " + "[" * 5000 + "]" * 5000,
    "a large number": "seeds: [1" + "0" * 5000 + "]",
    "keys that are lists": "? [a]\n: b\n? {a: b}\n: c",
    "deep lists": "- " * 2000 + "a",
    "aliases": "a: &a [x]\nb: " + "[" + "*a," * 2_000 + "]",
    "dates that are none": "a: 2024-13-45",
    "control characters": "a: \0",
    "tags": "!!python/object/apply:os.system [echo]",
}


@pytest.mark.parametrize("name", YAML)
def test_odd_yaml_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yml").write_text(YAML[name])
    for command in ("bench --data data --out out --config", "train --config", "bench --data . --out out --prompts"):
        assert main([*command.split(), str(tmp_path / "c.yml")]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1
        assert "Error" not in said.replace("error:", "")
    assert main(["train", "--set", f"steps={YAML[name]}"]) == 2
