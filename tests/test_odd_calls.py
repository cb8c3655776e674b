"""Calls and reports that no program should make, and consoles that know few letters: one line, never a traceback."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from editproof import protect
from editproof.app.texts import LANGUAGES, say
from editproof.budgets import L2, Linf
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.methods.method import Given, method
from editproof.photo.given import as_images, as_mask
from editproof.photo.metadata import METADATA
from editproof.protection.settings import ProtectSettings

PHOTO = torch.full((1, 3, 32, 32), 0.5)


def test_arrays_of_the_other_byte_order_are_taken() -> None:
    assert torch.equal(as_images(np.full((32, 32, 3), 0.5, ">f4")), PHOTO)
    mask = as_mask(np.ones((32, 32), ">f8"), PHOTO)
    assert mask is not None
    assert mask.sum() == 32 * 32


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (PHOTO.to_sparse(), "sparse"), (PHOTO.to("meta"), "without memory"),
        (PHOTO.to(torch.float8_e4m3fn), "float8"), (Image.new("RGB", (0, 0)), "without pixels"),
    ],
)  # fmt: skip
def test_tensors_of_other_kinds_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        as_images(given)
    with pytest.raises(UserError, match=said):
        as_mask(given, PHOTO)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": -1}, "seed -1"), ({"seed": 2**70}, "seed"), ({"seed": "a"}, "seed 'a'"),
        ({"seed": True}, "seed True"), ({"editor": "tiny-inpaint"}, "editor 'tiny"),
        ({"seed": 1.5}, "seed 1.5"), ({"steps": 0}, "steps 0"), ({"steps": "a"}, "steps 'a'"),
        ({"steps": 1.5}, "steps 1.5"), ({"prompt": None}, "prompt None"), ({"callback": 3}, "callback 3"),
        ({"nosuch": 1}, "no setting 'nosuch'"), ({"weights": 5}, "weights=5"),
    ],
)  # fmt: skip
def test_settings_of_other_kinds_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        protect(PHOTO, **asked)


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        (PHOTO * 255, {}, "values from"), (PHOTO - 1, {}, "values from"), (PHOTO * math.nan, {}, "values from nan"),
        (PHOTO.long(), {}, "int64"), (PHOTO[:, :2], {}, "of shape"), (PHOTO, {"mask": PHOTO[:, :1]}, "others than 0"),
        (PHOTO, {"mask": torch.zeros(1, 1, 8, 8)}, "mask is of shape"), (PHOTO, {"budget": "8/255"}, "budget"),
        (PHOTO, {"steps": 0}, "steps 0"), (PHOTO, {"steps": -1}, "steps -1"), (PHOTO, {"steps": 1.5}, "steps 1.5"),
        (PHOTO, {"seed": -1}, "seed -1"), (PHOTO, {"prompt": None}, "prompt None"),
        (PHOTO, {"nosuch": 1}, "no setting"),
        (PHOTO, {"callback": 3}, "callback 3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_methods_called_by_themselves_check_what_they_are_given(
    method: str, given: Any, asked: dict[str, Any], said: str
) -> None:
    row = METHODS[method]
    needed = dict.fromkeys(row.required, "none.pth")
    if row.needs == "none" and not needed:
        with pytest.raises(UserError, match=said):
            row(None, given, **asked)
    for editor in ("tiny-inpaint", 5):
        with pytest.raises(UserError, match="editor"):
            row(editor, PHOTO, **needed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"step_size": -1}, "step_size=-1"), ({"momentum": math.nan}, "momentum=nan"), ({"sizes": "a"}, "sizes"),
        ({"transform": "nosuch"}, "nosuch"), ({"steps": 0}, "steps 0"),
    ],
)  # fmt: skip
def test_settings_of_methods_called_by_themselves(asked: dict[str, Any], said: str, tiny_editor: Any) -> None:
    with pytest.raises(UserError, match=said):
        METHODS["photoguard-encoder"](tiny_editor("sd-inpaint"), PHOTO, **{"steps": 1, **asked})


def test_methods_called_by_themselves_take_what_is_unambiguous() -> None:
    photo = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32) % 256 / 255
    expected = METHODS["noise"](None, photo, budget=Linf(8 / 255))
    array = (photo[0].permute(1, 2, 0) * 255).round().byte().numpy()
    for same in ((photo * 255).round().byte(), photo.double(), photo[0], array, Image.fromarray(array)):
        assert torch.equal(METHODS["noise"](None, same, budget=8 / 255), expected)


@pytest.mark.parametrize(
    "asked",
    [
        {"seed": "a"}, {"seed": -5}, {"steps": "a"}, {"prompt": 5}, {"method": []}, {"method": None}, {"format": None},
        {"format": 5}, {"mask": 5}, {"mask": ""}, {"mask": True}, {"credentials": 1}, {"device": 1}, {"device": ""},
        {"knobs": 5}, {"knobs": [1]}, {"force": "no"}, {"force": None}, {"compile": 1}, {"invert_mask": "no"},
        {"size": 1.5}, {"budget": math.nan}, {"quality": "a", "format": "jpeg"}, {"quality": True, "format": "jpeg"},
    ],
)  # fmt: skip
def test_settings_check_themselves(asked: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="allowed"):
        ProtectSettings(**asked)


@pytest.mark.parametrize("eps", ["a", None, True, math.nan, torch.tensor(0.03)])
def test_budgets_are_numbers(eps: Any) -> None:
    for kind in (Linf, L2):
        with pytest.raises(UserError, match="eps"):
            kind(eps)


@pytest.mark.parametrize(
    "more",
    [
        {"photo": 1}, {"protected": 5}, {"protected": ""}, {"protected": None}, {"protected": "../../etc/passwd"},
        {"protected": "a\0b"}, {"protected": "\ud800"}, {"claim": 5}, {"protected": "\x1b[2J"}, {"\x1b[2J": 1},
    ],
)  # fmt: skip
def test_reports_of_others_are_shown_or_refused(
    more: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"photo": "x", "protected": "y.png", "measured_against": []} | more))
    assert main(["show", str(file)]) in (0, 2)
    said = "".join(capsys.readouterr())
    assert said.strip()
    assert "\x1b" not in said


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_report_of_lists_in_lists_is_shown_or_refused(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    deep = "[" * 900 + "]" * 900
    file.write_text('{"photo": "x", "protected": "y.png", "measured_against": [], "deep": ' + deep + "}")
    assert main(["show", str(file), *option]) in (0, 2)
    said = capsys.readouterr()
    assert "y.png" in said.out or "lists in lists" in said.err


def test_names_that_a_console_cannot_write_are_written_out(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "照片.png")
    done = subprocess.run(
        [sys.executable, "-m", "editproof", "protect", "照片.png", "--out", "out", "--method", "noise"],
        cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"\\u7167\\u7247.png" in done.stdout
    assert (tmp_path / "out" / "照片-protected.png").is_file()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_choice_of_metadata_has_words(language: str) -> None:
    for name in METADATA:
        assert say(language, f"metadata_{name.replace('-', '_')}")


def test_a_setting_of_a_kind_of_ones_own_is_the_methods_to_check() -> None:
    def plugged(given: Given, *, corners: tuple[int, ...] = (1, 2)) -> torch.Tensor:
        if len(corners) != 2:
            raise UserError(f"corners {corners}; allowed: two")
        return given.images

    run = method("plugged", needs="none")(plugged)
    assert torch.equal(run(None, PHOTO, corners=(3, 4)), PHOTO)
    with pytest.raises(UserError, match=r"^corners \(3,\); allowed: two"):
        run(None, PHOTO, corners=(3,))
