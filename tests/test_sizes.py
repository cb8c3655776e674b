"""The size at which an attacker's editor sees a photo: what reaches the VAE of the shipped pipelines, told nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from editproof.cli.main import main
from editproof.editors import EDITORS, attacker_size, load_editor
from editproof.editors.step1x.pipeline import Step1XPipeline
from editproof.errors import UserError
from editproof.photo.reading import save_png
from editproof.protection.apply import default_budget, protect
from editproof.protection.settings import ProtectSettings

PHOTOS = [(512, 512), (480, 640), (720, 1280), (640, 512), (500, 333), (1536, 512), (1400, 1900)]  # (height, width)


class Seen(Exception):
    """The size of what reaches the VAE."""


def shipped_sizes(folder: Path, photos: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """What a pipeline in a folder encodes of photos, as its own __call__ is run with a prompt and nothing else."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    home: Any = Step1XPipeline if name == "Step1XPipeline" else getattr(diffusers, name)
    pipe = tiny.loaded(home, folder)

    def encode(images: torch.Tensor, *more: Any, **named: Any) -> None:
        raise Seen(*images.shape[-2:])

    pipe.vae.encode, found = encode, []
    for height, width in photos:
        photo = Image.fromarray(np.zeros((height, width, 3), np.uint8))
        hole = {"mask_image": Image.new("L", photo.size, 255)} if "Inpaint" in name or "Fill" in name else {}
        with pytest.raises(Seen) as size:
            pipe(prompt="a hat", image=photo, num_inference_steps=4, **hole)
        found.append(size.value.args)
    return found


@pytest.mark.parametrize("name", [*tiny.MAKERS, "step1x-edit"])
def test_it_is_what_reaches_the_vae(name: str, tiny_folder: Callable[[str], Path]) -> None:
    """Of a folder by its class, and the same of the editor once loaded."""
    folder = tiny_folder(name)
    editor = load_editor(folder, device="cpu")
    for photo, expected in zip(PHOTOS, shipped_sizes(folder, PHOTOS), strict=True):
        assert attacker_size(folder, *photo) == expected, photo
        assert editor.size_for(*photo) == expected, photo
        assert editor.size_for(*expected) == expected or name in ("step1x-edit", "qwen-edit")
    editor.side = 64
    assert editor.size_for(128, 128) == (64, 64)


# The same rules at the real sides and with VAEs of factor 8.
@pytest.mark.parametrize(("name", "photo", "expected"), [
    ("flux-kontext", (512, 512), (1024, 1024)), ("flux-kontext", (720, 1280), (752, 1392)),
    ("flux-kontext", (640, 512), (1104, 944)), ("flux-kontext", (512, 1536), (672, 1568)),
    ("qwen-edit", (512, 512), (1024, 1024)), ("qwen-edit", (480, 640), (896, 1184)),
    ("flux-fill", (720, 1280), (1024, 1024)),
    ("sdxl-img2img", (480, 645), (480, 640)), ("sd3-img2img", (3000, 4000), (1024, 1024)),
    ("flux2-klein", (512, 512), (512, 512)), ("flux2-klein", (500, 333), (496, 320)),
    ("flux2-klein", (3000, 4000), (880, 1168)), ("flux2-klein", (1024, 1024), (1024, 1024)),
    ("sd-inpaint", (480, 640), (512, 512)), ("sd2-inpaint", (3000, 4000), (512, 512)),
    ("sdxl-inpaint", (480, 640), (1024, 1024)), ("instruct-pix2pix", (480, 645), (480, 640)),
    ("step1x-edit", (1000, 1000), (512, 512)), ("step1x-edit-v1.0", (480, 640), (432, 576)),
    ("tiny-inpaint", (512, 512), (256, 256)), ("tiny-kontext", (3000, 4000), (224, 288)),
])  # fmt: skip
def test_named_editors(name: str, photo: tuple[int, int], expected: tuple[int, int]) -> None:
    assert attacker_size(name, *photo) == expected


def test_every_editor_has_a_size_and_only_editors_have_one(tmp_path: Path) -> None:
    for name in EDITORS:
        height, width = attacker_size(name, 480, 640)
        assert height % 8 == width % 8 == 0
        assert height <= width
    with pytest.raises(UserError, match="unknown editor 'no-such'"):
        attacker_size("no-such", 512, 512)
    with pytest.raises(UserError, match="height is 0; allowed"):
        attacker_size("tiny-inpaint", 0, 512)
    (tmp_path / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(UserError, match="OtherPipeline: supported are"):
        attacker_size(tmp_path, 512, 512)


@pytest.mark.parametrize(("name", "side"), [("sd-inpaint", 512), ("sdxl-inpaint", 1024)])
def test_the_side_of_an_inpainting_model_is_that_of_its_config(
    name: str, side: int, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder(name), tmp_path / name)
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": side // 8}))
    assert [attacker_size(folder, 480, 640)] == shipped_sizes(folder, [(480, 640)]) == [(side, side)]


def test_protect_and_edit_work_at_that_size(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """InstructPix2Pix takes photos as they are; --size overrides, and the JSON says both."""
    Image.fromarray((tiny.pictures(1, 40, 56)[0] * 255).permute(1, 2, 0).byte().numpy()).save(tmp_path / "p.png")
    given = [str(tmp_path / "p.png"), "--editor", str(tiny_folder("instruct-pix2pix")), "--device", "cpu"]
    method = ["--method", "photoguard-encoder", "--steps", "1"]
    for more, size in (([], [56, 40]), (["--size", "32"], [32, 32])):
        out = tmp_path / str(len(more))
        assert main(["protect", *given, "--out", str(out), *method, *more]) == 0
        report = json.loads((out / "p-protected.json").read_text())
        assert report["working_size"] == size
        assert report["attacker_size"] == [56, 40]
        assert report["size"] == [56, 40]
        edited = tmp_path / f"edited{len(more)}.png"
        assert main(["edit", *given, "--prompt", "a hat", "--steps", "1", "--out", str(edited), *more]) == 0
        with Image.open(edited) as picture:
            assert picture.size == (56, 40)
    weak, strong = tmp_path / "weak.png", tmp_path / "strong.png"
    for out, strength in ((weak, "0.3"), (strong, "0.9")):
        command = ["edit", *given, "--prompt", "a hat", "--steps", "4", "--strength", strength, "--out", str(out)]
        assert main(command) == 0
    assert weak.read_bytes() != strong.read_bytes()
    assert main(["edit", *given, "--prompt", "a hat", "--strength", "2", "--out", str(tmp_path / "2.png")]) == 2
    assert main(["protect", *given, "--out", str(tmp_path / "3"), *method, "--size", "8"]) == 2
    assert not (tmp_path / "3").exists()


def test_a_photo_is_squashed_where_the_pipeline_does_it(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, seen = load_editor(tiny_folder("sd-inpaint"), device="cpu"), []
    encode = editor.encode
    monkeypatch.setattr(
        editor, "encode", lambda images, *more: (seen.append(images.shape[-2:]), encode(images, *more))[1]
    )
    photo, mask = tiny.pictures(1, 48, 96), tiny.hole(1, 48, 96)
    protected = protect(photo, method="photoguard-encoder", editor=editor, mask=mask, steps=1)
    assert protected.shape == photo.shape
    assert set(seen) == {(tiny.SIZE, tiny.SIZE)}


def test_the_paper_at_512(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """DeContext's budget and size, also where the editor would see the photo larger; --size and --eps go first."""
    editor = str(tiny_folder("flux-kontext"))
    settings = ProtectSettings(
        method="decontext", editor=editor, preset="paper-512", budget=default_budget("paper-512")
    )
    assert (settings.size, settings.limit) == (512, None)
    assert ProtectSettings(method="decontext", editor=editor, preset="paper-512", size=64).size == 64
    assert ProtectSettings(method="decontext", editor=editor, preset="paper").size is None
    save_png(tmp_path / "p.png", tiny.pictures(1, 40, 48)[0])
    command = ["protect", str(tmp_path / "p.png"), "--editor", editor, "--method", "decontext", "--steps", "1"]
    assert (
        main([*command, "--preset", "paper-512", "--size", "32", "--out", str(tmp_path / "out"), "--device", "cpu"])
        == 0
    )
    report = json.loads((tmp_path / "out" / "p-protected.json").read_text())
    assert report["budget"]["eps"] == pytest.approx(12.75 / 255)
