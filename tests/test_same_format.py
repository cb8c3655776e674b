"""--format same, what reports say of weights and keys, `editproof show`, and the network in ONNX."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from editproof.cli.main import main
from editproof.immunizer.export import Perturbation, export_onnx
from editproof.immunizer.network import EMBEDDED, NestedUNet, perturb, save_immunizer, trained_size
from editproof.photo import encoding
from editproof.photo.encoding import encoded
from editproof.photo.formats import encode
from editproof.photo.jpeg_quality import written_with
from editproof.photo.reading import open_photo
from editproof.protection.files import protect_photos
from editproof.protection.in_memory import Content, protect_content
from editproof.protection.settings import ProtectSettings, load_task


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    folder = tmp_path_factory.mktemp("weights")
    save_immunizer(network, folder)
    return str(folder)


def picture(format: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    pixels = (tiny.pictures(1, 200, 160)[0].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(pixels).save(file, format=format, **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "made"),
    [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff"), ("AVIF", "avif"), ("BMP", "png")],
)
def test_a_result_has_the_format_of_its_photo(format: str, made: str, weights: str) -> None:
    data = picture(format)
    task = load_task(ProtectSettings(knobs={"weights": weights}, device="cpu", format="same"))
    result = protect_content(Content(data, "a.img"), task)
    assert result.report["format"] == made
    assert Image.open(io.BytesIO(result.data)).format == ("PNG" if format == "BMP" else format)
    assert Path(result.report["protected"]).suffix == {"jpeg": ".jpg", "tiff": ".tif"}.get(made, f".{made}")
    assert result.report["size_ratio"] == pytest.approx(len(result.data) / len(data), abs=1e-3)


@pytest.mark.parametrize(("quality", "sampling"), [(75, "4:2:0"), (90, "4:4:4"), (50, "4:2:2")])
def test_a_jpeg_keeps_its_quality_and_sampling_where_enough_is_left(quality: int, sampling: str) -> None:
    photo = open_photo("a.jpg", picture("JPEG", quality=quality, subsampling=sampling))
    assert photo.jpeg == (quality, sampling)
    made = encoded(photo.levels, photo, "jpeg", None, True, lambda seen: 0.96)
    assert made.quality == quality
    assert written_with(Image.open(made.file)) == (quality, sampling)
    asked = encoded(photo.levels, photo, "jpeg", 40, True, lambda seen: 0.0)
    assert (asked.quality, asked.left) == (40, 0.0)
    assert encoded(photo.levels, photo, "jpeg", None, False, lambda seen: 0.0).quality == 95


def test_it_takes_the_first_better_quality_at_which_enough_is_left() -> None:
    photo = open_photo("a.jpg", picture("JPEG", quality=70, subsampling="4:2:0"))
    shares = iter([0.2, 0.5, 0.9, 0.949, 0.95, 1.0])
    made = encoded(photo.levels, photo, "jpeg", None, True, lambda seen: next(shares))
    assert (made.quality, made.left) == (90, 0.95)
    assert written_with(Image.open(made.file)) == (90, "4:4:4")
    assert encoded(photo.levels, photo, "jpeg", None, True, lambda seen: 0.1).quality == 100


def test_what_is_left_is_at_least_what_is_stated(weights: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("JPEG", quality=60))
    (report,) = protect_photos(
        tmp_path / "a.jpg", tmp_path / "out", format="same", knobs={"weights": weights}, device="cpu"
    )
    assert report["perturbation_left"] >= encoding.KEPT
    plain = encode(open_photo(tmp_path / "a.jpg").levels, open_photo(tmp_path / "a.jpg"), "png").getbuffer()
    assert (tmp_path / "out/a-protected.jpg").stat().st_size < len(plain) / 2


def test_folders_and_bulk_know_what_is_done(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name, format in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("wrong.png", "WEBP")):
        (tmp_path / "photos" / name).write_bytes(picture(format))
    arguments = ["protect", str(tmp_path / "photos"), "-r", "--out", str(tmp_path / "out"), "--format", "same"]
    arguments += ["--set", f"weights={weights}"]
    for said in ("3 protected", "3 done before"):
        assert main(arguments) == 0
        assert said in capsys.readouterr().out
    results = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    assert results == {"a-protected.jpg", "b-protected.png", "wrong-protected.webp"}


def test_reports_name_weights_and_version_and_other_weights_are_another_request(weights: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (report,) = protect_photos(tmp_path / "a.png", tmp_path / "out", knobs={"weights": weights}, device="cpu")
    assert report["weights_sha256"] == hashlib.sha256(Path(weights, "model.safetensors").read_bytes()).hexdigest()
    assert report["request"]["weights_sha256"] == report["weights_sha256"]
    assert report["protection_version"] == 1
    assert report["credentials_key"] is None
    embedded = hashlib.sha256((EMBEDDED / "model.safetensors").read_bytes()).hexdigest()
    assert ProtectSettings().as_json(None)["weights_sha256"] == embedded
    assert ProtectSettings(method="noise").as_json(None)["weights_sha256"] is None


def test_show(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("JPEG"))
    list(protect_photos(tmp_path / "a.jpg", tmp_path, format="same", knobs={"weights": weights}, device="cpu"))
    capsys.readouterr()
    for file in ("a-protected.jpg", "a-protected.json"):
        assert main(["show", str(tmp_path / file)]) == 0
        said = capsys.readouterr().out
        assert "as it was written" in said
        assert "weights sha256" in said or "weights_sha256" in said
        assert main(["show", "--json", str(tmp_path / file)]) == 0
        assert json.loads(capsys.readouterr().out)["report"]["photo"] == "a.jpg"
    report = tmp_path / "a-protected.json"  # as of before the method had its name, with the same network
    report.write_text(report.read_text().replace('"method": "immunizer"', '"method": "diffvax"'))
    assert main(["show", str(report)]) == 0
    assert "diffvax" in capsys.readouterr().out
    result = tmp_path / "a-protected.jpg"
    result.write_bytes(result.read_bytes() + b"!")
    assert main(["show", str(result)]) == 2
    assert "no longer what was written" in capsys.readouterr().out
    (tmp_path / "a-protected.json").unlink()
    for file, said in (
        (result, "is marked as protected"), (tmp_path / "a.jpg", "is not marked"),
        (tmp_path / "none", "does not exist"), (Path(weights, "config.json"), "neither a report"),
    ):  # fmt: skip
        assert main(["show", str(file)]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("bounded", [True, False])
def test_onnx_makes_the_same_perturbation_at_any_size(bounded: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4 if bounded else 3, depths=(8, 8, 8), batch_norm="photo").eval()
    network.trained_eps, network.size = (8 / 255 if bounded else None), 64
    save_immunizer(network, tmp_path / "weights")
    assert main(["export", "--onnx", str(tmp_path / "n.onnx"), "--weights", str(tmp_path / "weights")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["multiple"]) == 4
    for count, height, width in ((1, 64, 64), (2, 96, 48)):
        images, mask = tiny.pictures(count, height, width), tiny.hole(count, height, width)
        eps = torch.tensor(6 / 255)
        with torch.no_grad():
            expected = Perturbation(network)(images, mask, eps).numpy()
        fed = {"images": images.numpy(), "mask": mask.numpy(), "eps": eps.numpy()}
        (made,) = session.run(None, fed)
        assert np.abs(made - expected).max() * 255 < 0.1
        assert np.abs(expected).max() > 1 / 255
        with torch.no_grad():  # a mask of zeros is none
            unmasked = perturb(network, images, None, float(eps) if bounded else None).numpy()
        (made,) = session.run(None, {**fed, "mask": np.zeros_like(mask.numpy())})
        assert np.abs(made - unmasked).max() * 255 < 0.1 and np.abs(unmasked - expected).max() > 1 / 255
    assert main(["export", "--onnx", str(tmp_path / "n.onnx")]) == 2
    assert export_onnx(tmp_path / "embedded.onnx")["size"] == trained_size()
