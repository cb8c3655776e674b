"""immunizer and diffvax over their kinds of weights, budgets, masks, sizes and batch statistics."""

import functools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editproof.bench.config import make_config
from editproof.bench.methods import parse_method
from editproof.bench.run import resolve
from editproof.bench.weights import weights_of
from editproof.budgets import L2, Budget, Linf, norms
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.files import digest
from editproof.immunizer.network import NestedUNet, embedded, save_immunizer
from editproof.methods import METHODS, ready
from editproof.methods.method import Given
from editproof.photo.reading import save_png
from editproof.protection.apply import protect
from editproof.protection.files import protect_photos

immunizer, diffvax = METHODS["immunizer"], METHODS["diffvax"]
KINDS = {  # name: (in_channels, trained_eps, batch_norm); None: a bare state dict, as the authors publish theirs
    "authors": (3, None, None),
    "ours, bounded": (4, 8 / 255, "photo"),
    "ours, no bound": (3, None, "stored"),
}
BUDGETS: dict[str, Budget | None] = {"linf": Linf(8 / 255), "odd linf": Linf(3.7 / 255), "l2": L2(0.5), "none": None}


@pytest.fixture(scope="module", params=KINDS)
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small network with live weights, saved as each kind is."""
    in_channels, trained_eps, batch_norm = KINDS[request.param]
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = NestedUNet(in_channels=in_channels, depths=(4, 8, 16), batch_norm=batch_norm or "photo")
        network.final.weight.data *= 0.3
    network.trained_eps = trained_eps
    if batch_norm is None:
        torch.save(network.state_dict(), folder / "diffvax_trained.pth")
        return request.param, folder / "diffvax_trained.pth"
    save_immunizer(network, folder)
    return request.param, folder


def photos(n: int = 3, height: int = 32, width: int = 24) -> Tensor:
    images = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(2))
    return (images * 255).round() / 255


def half(images: Tensor) -> Tensor:
    mask = torch.zeros_like(images[:, :1])
    mask[..., images.shape[-1] // 2 :] = 1
    return mask


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(32, 24), (19, 33)])
def test_shape_grid_budget_and_mask(
    weights: tuple[str, Path], budget: str, masked: bool, size: tuple[int, int]
) -> None:
    kind, path = weights
    bound = BUDGETS[budget]
    images = photos(3, *size)
    mask = half(images) if masked else None
    protected = diffvax(None, images, mask=mask, budget=bound, weights=str(path))
    assert protected.shape == images.shape
    assert protected.dtype == torch.float32
    assert 0 <= protected.min() <= protected.max() <= 1
    torch.testing.assert_close(protected * 255, (protected * 255).round(), rtol=0, atol=1e-4)
    delta = protected - images
    assert delta.abs().max() >= 1 / 255 - 1e-6
    if bound is None and kind == "ours, bounded":
        assert torch.equal(protected, diffvax(None, images, mask=mask, budget=Linf(8 / 255), weights=str(path)))
    if bound is None and kind != "ours, bounded":
        assert delta.abs().max() > 0.1, "None is no bound for weights without one"
    if isinstance(bound, Linf):
        assert delta.abs().max() <= bound.eps + 1e-6
    if isinstance(bound, L2):
        assert norms(delta).max() <= bound.eps + 1e-5
    if mask is not None:
        assert torch.equal(protected[mask.expand_as(images) == 1], images[mask.expand_as(images) == 1])


def test_a_photo_does_not_depend_on_its_batch(weights: tuple[str, Path]) -> None:
    images = photos()
    together = diffvax(None, images, mask=half(images), weights=str(weights[1]))
    alone = torch.cat([diffvax(None, x[None], mask=half(x[None]), weights=str(weights[1])) for x in images])
    # A convolution of another batch size may round differently, which moves a value across a rounding border.
    assert (together - alone).abs().max() <= 1.001 / 255
    assert (together != alone).float().mean() < 0.01


def test_authors_weights_run_as_the_authors_run_them(tmp_path: Path) -> None:
    """Masked photo in [-1,1] with a mid-grey hole in, BatchNorm in training mode on one photo, output added outside."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = NestedUNet(depths=(4, 8, 16))
    torch.save(network.state_dict(), tmp_path / "diffvax_trained.pth")
    images = photos(2)
    mask = half(images)
    masked = (2 * images - 1) * (mask < 0.5)
    output = torch.cat([network.train()(photo[None]) for photo in masked]).detach()
    expected = ((masked + output * (1 - mask)).clamp(-1, 1) / 2 + 0.5) * (1 - mask) + images * mask
    protected = diffvax(None, images, mask=mask, budget=None, weights=str(tmp_path / "diffvax_trained.pth"))
    assert (protected - expected).abs().max() <= 0.5 / 255 + 1e-5


def test_batch_norm_knob_changes_the_statistics(weights: tuple[str, Path]) -> None:
    results = [diffvax(None, photos(), weights=str(weights[1]), batch_norm=choice) for choice in ("photo", "stored")]
    assert not torch.equal(*results)
    with pytest.raises(UserError, match="'photo' and 'stored'"):
        diffvax(None, photos(), weights=str(weights[1]), batch_norm="instance")


def test_weights_run_at_the_size_they_were_trained_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By protect and in protect_photos' report; a bare state dict's is DiffVax's, the embedded ones' the photo's."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = NestedUNet(depths=(4, 8, 16), batch_norm="photo")
    network.size = 48
    save_immunizer(network, tmp_path / "ours")
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    seen = []

    @functools.wraps(immunizer.function)
    def spy(given: Given, **settings: Any) -> Tensor:
        seen.append(given.images.shape[-1])
        return immunizer.function(given, **settings)

    monkeypatch.setitem(METHODS, "immunizer", replace(immunizer, function=spy))
    for weights in (tmp_path / "ours", tmp_path / "bare.pth", None):
        protect(photos(1, 64, 64), weights=weights and str(weights))
    assert seen == [48, 512, 64]
    save_png(tmp_path / "a.png", photos(1, 64, 64)[0])
    knobs = {"weights": str(tmp_path / "ours")}
    monkeypatch.setitem(METHODS, "immunizer", immunizer)
    [report] = protect_photos([tmp_path / "a.png"], tmp_path / "out", knobs=knobs, device="cpu")
    assert report["working_size"] == [48, 48]


def test_the_embedded_weights_without_a_budget_keep_to_the_one_of_their_training() -> None:
    """As `protect --preset paper` runs them; at a photo's own size too."""
    images = photos(1, 320, 272)
    assert 6.5 / 255 < (immunizer(None, images, budget=None) - images).abs().max() <= 8 / 255 + 1e-6
    assert 6.5 / 255 < (protect(images, budget=None) - images).abs().max() <= 8 / 255 + 1e-6


def test_too_small_a_photo_gives_one_line() -> None:
    with pytest.raises(UserError, match="16 x 16 pixels; allowed: more than 16 along one side"):
        immunizer(None, photos(1, 16, 16))


def test_missing_weights_give_one_line() -> None:
    for method in (immunizer, diffvax):
        with pytest.raises(UserError, match="weights 'nowhere': no such file"):
            method(None, photos(), weights="nowhere")


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffvax as a method that cannot run without a setting, which a plugin's may be."""
    needed = {"weights": "FILE (--set weights=FILE): the authors' diffvax_trained.pth"}
    monkeypatch.setitem(METHODS, "diffvax", replace(diffvax, required=needed))


@pytest.mark.usefixtures("without_weights")
def test_what_has_no_weights_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = r"'diffvax' needs weights; allowed: weights=FILE .*diffvax_trained\.pth"
    with pytest.raises(UserError, match=said):
        METHODS["diffvax"](None, photos(), mask=half(photos()))
    with pytest.raises(UserError, match=said):
        protect(photos(), method="diffvax")
    with pytest.raises(UserError, match=said):
        parse_method("diffvax", None)
    save_png(tmp_path / "a.png", photos(1)[0])
    assert main(["protect", str(tmp_path / "a.png"), "--method", "diffvax", "--out", str(tmp_path / "out")]) == 2
    assert "'diffvax' needs weights" in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "out").exists()
    assert main(["list", "methods"]) == 0 and capsys.readouterr().out.count("needs weights") == 1


def test_the_same_weights_do_the_same_by_either_name(weights: tuple[str, Path]) -> None:
    protected = [
        method(None, photos(), mask=half(photos()), weights=str(weights[1])) for method in (immunizer, diffvax)
    ]
    assert torch.equal(*protected)


@pytest.mark.usefixtures("without_weights")
def test_what_has_no_weights_is_taken_by_nobody_who_does_not_name_it() -> None:
    assert set(METHODS) - set(ready()) == {"diffvax"}
    config = resolve(make_config({"data": "photos"}))
    assert config.methods == ("none", *ready())
    assert not diffvax.compared and immunizer.compared
    page = pytest.importorskip("editproof.app.page", reason="pip install 'editproof[app]'")
    assert {name for _, name in page.method_choices()} == set(ready()) and page.method_choices()[0][1] == "immunizer"


ONE_PASS = [name for name, row in METHODS.items() if row.one_pass]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of embedded networks."""
    for name in ONE_PASS:
        shutil.copytree(embedded(name), tmp_path / "assets" / name)
    monkeypatch.setattr("editproof.immunizer.network.ASSETS", tmp_path / "assets")
    return tmp_path / "assets"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ONE_PASS)
def test_embedded_weights(name: str, masked: bool, assets: Path) -> None:
    images = photos(2, 64, 50)
    mask = half(images) if masked else None
    protected = METHODS[name](None, images, mask=mask)
    delta = (protected - images).abs()
    assert 1 / 255 - 1e-6 <= delta.max() <= 8 / 255 + 1e-6
    assert mask is None or not (delta * mask).any()
    assert torch.equal(protected, METHODS[name](None, images, mask=mask, weights=str(assets / name)))
    assert {method for method in ONE_PASS if torch.equal(protected, METHODS[method](None, images, mask=mask))} == {name}


@pytest.mark.parametrize("name", ONE_PASS)
def test_embedded_weights_are_told_apart(name: str, assets: Path, tmp_path: Path) -> None:
    """By the report beside a photo, and by the table's rows, which are of that network alone."""
    save_png(tmp_path / "a.png", photos(1, 64, 64)[0])
    [report] = protect_photos([tmp_path / "a.png"], tmp_path / "out", method=name, device="cpu")
    assert report["weights_sha256"] == digest(assets / name / "model.safetensors")
    spec = parse_method(name, None)
    assert list(weights_of([spec], [])) == [name] and report["weights_sha256"] in spec.identity
    assert spec.told == (name != "immunizer")


@pytest.mark.usefixtures("assets")
def test_a_network_that_was_told_masks_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_png(tmp_path / "a.png", photos(1, 64, 64)[0])
    save_png(tmp_path / "mask.png", half(photos(1, 64, 64))[0].expand(3, -1, -1))
    for more in (["--method", "diffvax"], ["--method", "diffvax", "--mask", str(tmp_path / "mask.png")], []):
        assert main(["protect", str(tmp_path / "a.png"), *more, "--out", str(tmp_path / "out"), "--overwrite"]) == 0
        assert ("with the mask told" in " ".join(capsys.readouterr().err.split())) == (more[1:] == ["diffvax"])
