"""The Frechet distance of sets of pictures: its formula, folders and benchmarks, what is refused."""

import json
import sys
from pathlib import Path
from types import ModuleType

import metric_models
import numpy as np
import pytest
import scipy.linalg
import tiny
import torch

from editproof.bench.store import picture_path
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.metrics import fid as measured
from editproof.photo.reading import save_png
from editproof.resolution import resize

NUMBER = 12  # pictures, more than the features of the tiny network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return metric_models.insight(tmp_path_factory.mktemp("networks") / "insight") / "rec.onnx"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("sets")
    images = (tiny.pictures(NUMBER, 40, 56) * 255).round() / 255
    for i, image in enumerate(images):
        save_png(folders / "a" / f"{i}.png", image)
        save_png(folders / "b" / f"{i}.png", (image.flip(-1) * 0.8)[:, :, :48])
    return folders / "a", folders / "b"


def expected(network: Path, *folders: Path) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the features."""
    from editproof.photo.reading import open_photo

    moments = []
    for folder in folders:
        pixels = [open_photo(path).pixels[None] * 255 for path in sorted(folder.iterdir())]
        shown = torch.cat([resize(x.round(), (112, 112)).round().clamp(0, 255) for x in pixels])
        import onnxruntime

        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        found = session.run(None, {"pixels": shown.numpy()})[0].astype(np.float64)
        moments.append((found.mean(0), np.cov(found.T)))
    (m, c), (n, d) = moments
    return float(((m - n) ** 2).sum() + np.trace(c + d - 2 * scipy.linalg.sqrtm(c @ d).real))


def test_fid_of_folders_is_its_formula(
    network: Path, sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fid", *map(str, sets), "--network", str(network), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fid"] == pytest.approx(expected(network, *sets), rel=1e-3)
    assert main(["fid", str(sets[0]), str(sets[0]), "--network", str(network)]) == 0
    assert abs(float(capsys.readouterr().out)) < 1e-3 * expected(network, *sets)


def test_fid_of_a_benchmark_is_that_of_its_edits(
    network: Path, sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for number, (method, folder) in enumerate((("none", sets[0]), ("noise", sets[1]))):
        for i in range(NUMBER):
            names = {"original": f"b{i:031d}", "edit": f"e{i:031d}", "attacked": f"{number}{i:031d}"}
            for what, source in (("original", sets[1]), ("edit", sets[0]), ("attacked", folder)):
                path = picture_path(tmp_path, names[what])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((source / f"{i}.png").read_bytes())
            key = {"photo": f"{i}.png", "method": method, "budget": "8/255", "editor": "x", "prompt": "p", "seed": 0}
            lines.append(json.dumps({**key, "counter": "none", **names}))
    (tmp_path / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["fid", str(tmp_path), "--network", str(network), "--json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["noise"]["fid"] == pytest.approx(expected(network, *sets), rel=1e-3)
    assert rows["none"]["fid_photos"] == pytest.approx(rows["noise"]["fid"], rel=1e-3)
    assert max(abs(rows["none"]["fid"]), abs(rows["noise"]["fid_photos"])) < 1e-3 * rows["noise"]["fid"]
    assert rows["none"]["pictures"] == NUMBER
    assert main(["fid", str(tmp_path), "--network", str(network)]) == 0
    assert "noise" in capsys.readouterr().out


def test_inception_is_loaded_by_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its class is called, which is not installed here: weights by their path, a tuple of features back."""

    class FeatureExtractorInceptionV3(torch.nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert (name, features_list) == ("inception-v3-compat", ["2048"])
            self.weights = torch.load(feature_extractor_weights_path)["w"]

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)) @ self.weights,)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = FeatureExtractorInceptionV3
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"w": torch.eye(3)}, tmp_path / "w.pth")
    pictures = tiny.pictures(6, 8, 8)
    base = (pictures * 0.5 * 255).round() / 255
    moved = (base + torch.tensor([0.0, 0.0, 51.0]).view(1, 3, 1, 1) / 255).clamp(0, 1)
    assert measured.fid(moved, base, tmp_path / "w.pth") == pytest.approx(51**2, rel=1e-3)  # the means only
    torch.save({"v": torch.eye(3)}, tmp_path / "v.pth")
    with pytest.raises(UserError, match="cannot be loaded as Inception"):
        measured.fid(moved, base, tmp_path / "v.pth")


def test_what_is_missing_is_told_in_one_line(
    network: Path, sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("damaged.onnx", "w.pth"):
        (tmp_path / name).write_text("a cat")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes((sets[0] / "0.png").read_bytes())
    one, a = str(tmp_path / "one"), str(sets[0])
    for arguments, said in (
        ([a, a, "--network", "no.onnx"], "there is no file 'no.onnx'"),
        ([a, a, "--network", str(tmp_path / "damaged.onnx")], "cannot be loaded by onnxruntime"),
        ([a, "nowhere", "--network", str(network)], "'nowhere' is not a folder"),
        ([a, one, "--network", str(network)], "FID of 1 pictures"),
        ([a, "--network", str(network)], "has no edits of `editproof bench`"),
    ):
        assert main(["fid", *arguments]) == 2
        told = capsys.readouterr().err
        assert said in told and len(told.splitlines()) == 1
    for module, extra, path in (("torch_fidelity", "fid", "w.pth"), ("torchmetrics.image.fid", "fid", "w.pth"),
                                ("onnxruntime", "onnx", "damaged.onnx")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert main(["fid", a, a, "--network", str(tmp_path / path)]) == 2
        assert f"pip install 'editproof[{extra}]'" in capsys.readouterr().err
    assert main(["bench", "--data", a, "--prompt", "x", "--metrics", "fid", "--out", str(tmp_path / "out")]) == 2
    assert "`editproof fid OUT`" in capsys.readouterr().err
