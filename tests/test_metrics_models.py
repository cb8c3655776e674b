"""Metrics with a model: the networks against the libraries that published them, and how models are found."""

import importlib.util
import math
import sys
from pathlib import Path

import metric_models
import pytest
import skimage.data
import tiny
import torch
import torchmetrics.functional.image.lpips as reference_lpips
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from editproof.errors import UserError
from editproof.metrics import METRICS, Trial, brisque, clip_image, clip_text, lpips
from editproof.metrics.brisque import HIGHEST, LOWEST, _asymmetric, _shape, features
from editproof.metrics.lpips import _alex, _vgg, load_lpips


def noisy(images: Tensor, strength: float = 0.1) -> Tensor:
    return (images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


@pytest.mark.parametrize("layout", ["as on the hub", "as transformers 5 saves it"])
def test_clip_is_that_of_transformers(layout: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = metric_models.clip(tmp_path)
    processor = CLIPProcessor.from_pretrained(folder)
    if layout != "as on the hub":
        (folder / "preprocessor_config.json").unlink()
        processor.save_pretrained(folder)
        assert (folder / "processor_config.json").exists()
    images, prompts = tiny.pictures(2, 40, 56), ["a hat", "somebody, in front of a plain red background " * 9]
    pillow = [Image.fromarray((x.permute(1, 2, 0) * 255).round().byte().numpy()) for x in images]
    inputs = processor(text=prompts, images=pillow, return_tensors="pt", padding=True, truncation=True)
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(**inputs)
    expected = found.logits_per_image.diag() / model.logit_scale.exp()
    torch.testing.assert_close(clip_text(images, prompts, str(folder)), expected, atol=1e-5, rtol=0)
    expected = found.image_embeds[0] @ found.image_embeds[1]  # of length 1
    torch.testing.assert_close(clip_image(images[:1], images[1:], str(folder))[0], expected, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="1 prompts for 2 pictures"):
        clip_text(images, ["one"], str(folder))


@pytest.mark.parametrize(("kind", "suffix"), [("alex", "safetensors"), ("alex", "pth"), ("vgg", "safetensors")])
def test_lpips_is_that_of_torchmetrics(kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics' own network and weights, on the same random classifier."""
    torch.manual_seed(0)
    backbone = {"alex": _alex, "vgg": _vgg}[kind]()
    state = {f"features.{name}": tensor for name, tensor in backbone.state_dict().items()}
    path = tmp_path / f"model.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    monkeypatch.setattr(reference_lpips, "_get_tv_model_features", lambda net, pretrained: backbone)
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **more: load(*args, **{"map_location": "cpu", **more}))
    reference = reference_lpips._LPIPS(pretrained=True, net=kind, pnet_rand=True)
    images = tiny.pictures(2, 64, 80)
    with torch.no_grad():
        expected = reference(noisy(images), images, normalize=True).flatten()
    assert expected.min() > 1e-4
    torch.testing.assert_close(lpips(noisy(images), images, source=str(tmp_path)), expected)
    everywhere = torch.ones(1, 1, 64, 80)
    torch.testing.assert_close(lpips(noisy(images), images, everywhere, str(tmp_path)), expected)


def test_lpips_takes_its_own_weights_from_the_folder(tmp_path: Path) -> None:
    state = metric_models.alexnet()
    widths = (64, 192, 384, 256, 256)
    heads = {f"lin{i}.model.1.weight": torch.full((1, width, 1, 1), 2.0) for i, width in enumerate(widths)}
    save_file(state, tmp_path / "alexnet.safetensors")
    save_file(heads, tmp_path / "lpips.safetensors")
    images = tiny.pictures(2, 40, 48)
    network = load_lpips(str(tmp_path))
    activations = network._activations(images), network._activations(noisy(images))
    expected = sum(2 * (a - b).square().sum(1).mean((1, 2)) for a, b in zip(*activations, strict=True))
    torch.testing.assert_close(lpips(noisy(images), images, source=str(tmp_path)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 7, 7)}, "neither AlexNet nor VGG16"),
        ({"features.3.weight": torch.zeros(192, 64, 3, 3)}, "does not fit"),
        ({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, "does not fit: 'lin1.model.1.weight'"),
    ],
)
def test_lpips_refuses_other_networks(change: dict, message: str, tmp_path: Path) -> None:
    save_file(metric_models.alexnet() | change, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        lpips(tiny.pictures(), tiny.pictures(), source=str(tmp_path))
    assert message in str(error.value) and "\n" not in str(error.value)


# By piq 0.8.0 (piq.brisque._natural_scene_statistics) in float64, of scikit-image's astronaut.
STATISTICS = [
    1.445, 0.1983, 0.581, 0.0196, 0.0505, 0.0666, 0.574, 0.0239, 0.051, 0.0711, 0.581, -0.0128, 0.0648, 0.0542, 0.589,
    -0.0175, 0.0655, 0.0512,
]  # fmt: skip


def test_brisque_has_the_statistics_of_piq() -> None:
    astronaut = torch.from_numpy(skimage.data.astronaut().copy()).permute(2, 0, 1)[None] / 255
    assert features(astronaut)[0, :18].tolist() == pytest.approx(STATISTICS, abs=2e-4)


def test_brisque_finds_the_parameters_of_known_distributions() -> None:
    """Shapes of 2 for a normal and 1 for a Laplace distribution; one of two halves, of deviations 1 and 2."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 1_000_000, generator=generator, dtype=torch.float64)
    assert _shape((normal**2).mean(1) / normal.abs().mean(1) ** 2).item() == pytest.approx(2, abs=0.02)
    laplace = -torch.rand(1, 1_000_000, generator=generator, dtype=torch.float64).log()
    assert _shape((laplace**2).mean(1) / laplace.mean(1) ** 2).item() == pytest.approx(1, abs=0.02)
    right = torch.rand(normal.shape, generator=generator) < 2 / 3  # so that the density has no step at 0
    halves = torch.where(right, 2 * normal.abs(), -normal.abs())
    shape, mean, *variances = (value.item() for value in _asymmetric(halves))
    assert [shape, mean, *variances] == pytest.approx([2, math.sqrt(2 / math.pi), 1, 4], rel=0.02)


def test_brisque_is_the_regression_of_the_file(tmp_path: Path) -> None:
    path = metric_models.regression(tmp_path / "svm.txt")
    images = noisy(tiny.pictures(2, 32, 40))
    for row, score in zip(features(images).tolist(), brisque(images, str(path)).tolist(), strict=True):
        x = [-1 + 2 * (v - low) / (high - low) for v, low, high in zip(row, LOWEST, HIGHEST, strict=True)]
        expected = 1.5
        for line in path.read_text().splitlines()[7:]:
            weight, *entries = line.split()
            vector = [0.0] * 36
            for entry in entries:
                vector[int(entry.split(":")[0]) - 1] = float(entry.split(":")[1])
            expected += float(weight) * math.exp(-0.05 * sum((a - b) ** 2 for a, b in zip(x, vector, strict=True)))
        assert score == pytest.approx(expected, abs=1e-4)
    assert brisque(torch.full((1, 3, 32, 32), 0.5), str(path)).isnan().all()
    (tmp_path / "no.txt").write_text("a cat")
    for wrong in ("no.txt", "missing.txt"):
        with pytest.raises(UserError, match="libsvm's format"):
            brisque(images, str(tmp_path / wrong))


@pytest.mark.parametrize(("extra", "loader"), [("brisque", "_load"), ("lpips", "load_lpips")])
def test_a_missing_extra_is_told_in_one_line(
    extra: str, loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[f"editproof.metrics.{extra}"]  # in the package, this is the name of the function
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    getattr(module, loader).cache_clear()
    save_file(metric_models.alexnet(), tmp_path / "model.safetensors")
    images = tiny.pictures()
    trial = Trial(*[images] * 5, ["a", "b"])
    with pytest.raises(UserError, match=rf"pip install 'editproof\[{extra}\]'"):
        METRICS[extra].measure(trial, str(tmp_path) if extra == "lpips" else None)


@pytest.mark.skipif(importlib.util.find_spec("brisque") is None, reason="needs the extra brisque")
def test_brisque_tells_a_good_photo_from_bad_ones() -> None:
    photo = torch.from_numpy(skimage.data.astronaut().copy()).permute(2, 0, 1)[None] / 255
    good, worse = brisque(photo), brisque(noisy(photo))
    assert 0 < good < 10 < 50 < worse < 100


def test_layers_have_the_places_that_torchvision_gives_them() -> None:
    places = {kind: sorted({int(name.split(".")[0]) for name in make().state_dict()})
              for kind, make in {"alex": _alex, "vgg": _vgg}.items()}  # fmt: skip
    assert places == {"alex": [0, 3, 6, 8, 10], "vgg": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]}
