"""`editproof check`: what an upload left of a protection."""

import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image

from editproof.bench.checking import check_download, jpeg_quality
from editproof.bench.demo import astronaut
from editproof.cli.main import app, main
from editproof.errors import UserError
from editproof.photo.reading import save_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, its protected version, and what websites made of that."""
    at = tmp_path_factory.mktemp("upload")
    photo = astronaut(160)[0][0]
    blocks = torch.randint(0, 2, (3, 20, 20), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    safe = (photo + 16 / 255 * blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)).clamp(0, 1)
    save_png(at / "photo.png", photo)
    save_png(at / "safe.png", safe)
    picture = Image.open(at / "safe.png")
    picture.save(at / "same.png")
    picture.save(at / "good.jpg", quality=90)
    picture.resize((96, 96)).save(at / "small.jpg", quality=60)
    save_png(at / "washed.png", photo + 0.1 * (safe - photo))
    picture.crop((0, 0, 160, 120)).save(at / "cropped.png")
    picture.save(at / "profile.png", icc_profile=profile())
    return at


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_what_is_left_of_the_pixels(folder: Path) -> None:
    def checked(name: str):
        return check_download(folder / "photo.png", folder / "safe.png", folder / name, editors=())

    same, good, small, washed = (checked(name) for name in ("same.png", "good.jpg", "small.jpg", "washed.png"))
    assert same.perturbation_left == pytest.approx(1, abs=0.01) and same.psnr == float("inf")
    assert "those of the protected photo" in " ".join(same.sentences()) and same.sentences()[0].startswith("Most")
    assert same.perturbation_left >= good.perturbation_left > small.perturbation_left > washed.perturbation_left
    assert same.psnr > good.psnr > washed.psnr > washed.psnr_original - 1 and washed.sentences()[0].startswith(
        "Hardly anything"
    )
    assert (good.format, good.jpeg_quality, small.jpeg_quality, same.jpeg_quality) == ("JPEG", 90, 60, None)
    assert small.downloaded_size == (96, 96) and "96 x 96 pixels (it was 160 x 160)" in small.sentences()[1]
    assert checked("profile.png").notes and checked("profile.png").perturbation_left > 0.95
    assert same.editors == () and json.loads(json.dumps(same.as_json()))["psnr"] is None


def test_what_editors_make_of_it(folder: Path, tiny_folder: Callable) -> None:
    names = [str(tiny_folder("sd-inpaint")), str(tiny_folder("flux-kontext"))]
    told: list[float] = []
    checked = check_download(
        folder / "photo.png", folder / "safe.png", folder / "same.png", editors=names, steps=1,
        progress=lambda what, share: told.append(share),
    )  # fmt: skip
    for on in checked.editors:
        assert on.effect > 0
        assert on.share_left == pytest.approx(1, abs=1e-6)  # nothing was lost, and PNG changes no original
        for outcome in (on.original, on.protected, on.downloaded):
            assert outcome.edits == 2 and 0 <= outcome.broken <= 2
            assert outcome.succeeded is None or outcome.succeeded <= (outcome.kept or 0)
    assert told == sorted(told) and 0.9 < told[-1] <= 1
    lost = check_download(folder / "photo.png", folder / "safe.png", folder / "photo.png", editors=names[:1], steps=1)
    assert lost.perturbation_left == 0 and lost.editors[0].effect_left == 0 and lost.editors[0].share_left == 0


def test_the_command(folder: Path, capsys: pytest.CaptureFixture) -> None:
    paths = [str(folder / name) for name in ("photo.png", "safe.png", "good.jpg")]
    assert main(["check", *paths, "--editors", "none"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Most of what the protection added is left") and "Edits can work all the same" in shown
    assert "quality 90" in shown and "never makes it" in shown
    assert main(["check", *paths, "--editors", "none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["jpeg_quality"] == 90 and told["sentences"][0] == shown.splitlines()[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("photo.png", "safe.png", "cropped.png"), "160 x 120 pixels, other proportions"),
        (("photo.png", "small.jpg", "same.png"), "different sizes"),
        (("photo.png", "photo.png", "same.png"), "has the pixels of"),
        (("photo.png", "safe.png", "missing.png"), "missing.png"),
    ],
)
def test_what_is_refused(names: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=message):
        check_download(*(folder / name for name in names), editors=())
    assert main(["check", *(str(folder / name) for name in names), "--editors", "none"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_the_quality_of_a_jpeg_is_read_from_its_tables() -> None:
    for quality in (10, 50, 75, 95, 100):
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, format="JPEG", quality=quality)
        assert jpeg_quality(Image.open(file).quantization[0]) == quality


def test_commands_in_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs" / "check.md").read_text()
    lines = [
        line for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert len(lines) == 2
    for line in lines:
        name, *arguments = shlex.split(line)[1:]
        typer.main.get_command(app).commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
