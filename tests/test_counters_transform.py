"""Counters inside attacks and training: what is drawn, what is refused, and that what is made with them survives."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from skimage.data import astronaut
from skimage.io import imsave
from test_dataset import dataset
from torch import Tensor

from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.counters import COUNTERS, parse_counter
from editproof.counters.transform import check_transform, make_transform
from editproof.editors import load_editor
from editproof.errors import UserError
from editproof.immunizer.config import make_config, read_config
from editproof.immunizer.network import load_immunizer
from editproof.immunizer.training import losses, train
from editproof.methods import METHODS
from editproof.protection.apply import method_settings, own_knobs
from editproof.randomness import generators

IMAGES, MASK = tiny.people(), tiny.hole()  # facelock needs faces
ON = {"decontext": "flux-kontext", "veto": "flux-kontext"}
FEW: dict[str, dict] = {"photoguard-diffusion": {"samples": 1, "denoising_steps": 2}, "veto": {"timesteps": 2}}
ATTACKS = [name for name in METHODS if "transform" in own_knobs(name)]
MANY = "none,jpeg-diff:75,resize:0.5+noise:0.05"


def test_every_attack_that_optimises_takes_a_transform() -> None:
    assert set(METHODS) - set(ATTACKS) == {"noise", "immunizer", "diffvax"}


def test_what_a_transform_draws() -> None:
    assert make_transform(None, None, 0) is None
    assert make_transform(torch.sigmoid, None, 0) is torch.sigmoid
    one, again, other = (make_transform(MANY, None, seed) for seed in (1, 1, 2))
    drawn = [one(IMAGES) for _ in range(30)]
    assert all(torch.equal(images, again(IMAGES)) for images in drawn)
    assert any(not torch.equal(images, other(IMAGES)) for images in drawn)
    kinds = [torch.equal(images, IMAGES) for images in drawn]
    assert 3 < sum(kinds) < 20  # a third of them is "none"
    files = [torch.allclose(images, parse_counter("jpeg-diff")(IMAGES), atol=0.5 / 255) for images in drawn]
    assert sum(files) > 3
    noises = [images for images, kind, file in zip(drawn, kinds, files, strict=True) if not kind and not file]
    assert len({float(images.sum()) for images in noises}) == len(noises) > 3  # each step its own noise
    alone = make_transform(MANY, None, 1)
    assert all(torch.allclose(images[1:], alone(IMAGES[1:]), atol=1e-6) for images in drawn)


def test_what_is_refused() -> None:
    for text in ("jpeg", "jpeg-diff,nlm", "resize+webp", "regenerate"):
        with pytest.raises(UserError, match=r"transform '.*' has no gradient; allowed: none, jpeg-diff, .*"):
            check_transform(text)
    for text in ("", "jpeg-diff:0", "nothing", "none,"):
        with pytest.raises(UserError, match=r"^counter '.*"):
            check_transform(text)
    with pytest.raises(UserError, match="works through an editor"):
        make_transform("vae", None, 0)
    for value, words in (
        ("jpeg:75", "has no gradient"),
        (3, "transform=3 of 'veto' cannot be used; allowed: counters"),
    ):
        with pytest.raises(UserError, match=words):
            method_settings("veto", None, None, {"transform": value})
    with pytest.raises(UserError, match="'immunizer' has no setting 'transform'"):
        method_settings("immunizer", None, None, {"transform": "none"})
    check_transform(",".join(name for name, info in COUNTERS.items() if info.differentiable))
    assert method_settings("veto", None, None, {"transform": MANY}) == {"transform": MANY}


@pytest.mark.parametrize("method", ATTACKS)
def test_attacks_go_through_it(tiny_editor: Callable, method: str) -> None:
    editor = tiny_editor(ON.get(method, "sd-inpaint"))
    mask = MASK if editor.masked else None

    def protect(rows: slice, transform: str | None, seed: int = 1) -> Tensor:
        return METHODS[method](
            editor, IMAGES[rows], mask=None if mask is None else mask[rows], budget=Linf(8 / 255), steps=3,
            transform=transform, seed=seed, **FEW.get(method, {}),
        )  # fmt: skip

    both = protect(slice(0, 2), MANY)
    assert torch.equal(both, protect(slice(0, 2), MANY))
    # float32 sums differ in their last bits, see test_methods.py
    assert (both[1:] != protect(slice(1, 2), MANY)).float().mean() < (0.15 if method == "facelock" else 0.01)
    assert not torch.equal(both, protect(slice(0, 2), None))
    assert torch.equal(protect(slice(0, 2), "none"), protect(slice(0, 2), None))
    assert (both - IMAGES).abs().max() <= 8 / 255 + 1e-6 and not torch.equal(both, IMAGES)
    assert METHODS[method](editor, IMAGES, mask=mask, steps=1, transform="vae", **FEW.get(method, {})).isfinite().all()


def test_a_protection_made_through_jpeg_survives_jpeg_better() -> None:
    """The encoder attack on the embedded editor, judged by its own objective after Pillow's JPEG."""
    editor = load_editor("tiny-inpaint", device="cpu")
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    photos = torch.stack([photo[:, 60:124, 190:254], photo[:, 300:364, 60:124], photo[:, 200:264, 300:364]])
    file = parse_counter("jpeg:10")
    grey = editor.encode(torch.full_like(photos, 0.5))

    def distance(images: Tensor) -> Tensor:
        return (editor.encode(images) - grey).flatten(1).norm(dim=1)

    def reached(transform: str | None) -> float:
        protected = METHODS["photoguard-encoder"](
            editor, photos, budget=Linf(16 / 255), steps=15, momentum=0.9, transform=transform
        )
        return (distance(file(photos)) - distance(file(protected))).mean().item()

    without, through = reached(None), reached("jpeg-diff:10")
    assert through > 1.04 * without > 0, (through, without)


def test_from_the_command_line(tmp_path: Path) -> None:
    imsave(tmp_path / "photo.png", astronaut()[:64, 200:264], check_contrast=False)
    common = ["protect", str(tmp_path / "photo.png"), "--method", "photoguard-encoder", "--steps", "1", "--out"]
    assert main([*common, str(tmp_path / "out"), "--set", "transform=none,jpeg-diff:60"]) == 0
    report = json.loads((tmp_path / "out" / "photo-protected.json").read_text())
    assert report["settings"]["transform"] == "none,jpeg-diff:60"
    assert main([*common, str(tmp_path / "refused"), "--set", "transform=jpeg:60"]) == 2
    assert not (tmp_path / "refused").exists()


# Training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("data"), 4, 2)


@pytest.fixture
def settings(tiny_folder: Callable) -> dict[str, Any]:
    return {
        "iter_num": 2, "learning_rate": 1e-3, "batch_size": 3, "attack_model_link": str(tiny_folder("sd-inpaint")),
        "network": {"depths": [4, 8, 16]}, "steps": 2, "checkpoint_every": 2, "workers": 0, "transform": MANY,
    }  # fmt: skip


def test_training_goes_through_it_and_resumes(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    whole, plain = make_config(settings), make_config({**settings, "transform": None})
    weights = [load_immunizer(train(config, data, tmp_path / name, "cpu")).state_dict()
               for config, name in ((whole, "whole"), (plain, "plain"))]  # fmt: skip
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    train(replace(whole, iter_num=1), data, tmp_path / "parts", "cpu")
    parts = load_immunizer(train(whole, data, tmp_path / "parts", "cpu")).state_dict()
    assert all(torch.equal(weights[0][name], parts[name]) for name in parts)
    with pytest.raises(UserError, match=r"transform: 'none', but .* was trained with"):
        train(replace(whole, transform="none"), data, tmp_path / "parts", "cpu")


def test_the_edit_sees_the_photo_after_the_transform(tiny_editor: Callable) -> None:
    """And the size of the perturbation is measured before it."""
    config, editor = make_config({"steps": 1, "network": {"depths": [4, 8, 16]}}), tiny_editor("sd-inpaint")
    network, seen = load_immunizer(), []

    def grey(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.full_like(images, 0.5)

    def run(images: Tensor, transform: Callable | None) -> tuple[Tensor, Tensor]:
        return losses(network, editor, images, MASK, ["", ""], config, generators(0, 2), True, transform)

    through, plain, of_grey = run(IMAGES, grey), run(IMAGES, None), run(torch.full_like(IMAGES, 0.5), grey)
    assert torch.equal(through[1], plain[1]) and (through[1] > 0).all()
    assert torch.equal(through[0], of_grey[0]) and not torch.equal(through[0], plain[0])
    assert (seen[0] - IMAGES).abs().max() > 0


def test_training_refuses_it_before_anything_is_written(settings: dict[str, Any], data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no gradient"):
        train(make_config({**settings, "transform": "jpeg"}), data, tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_the_shipped_config_shows_a_usable_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "configs" / "train.yml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("# transform: "))
    (tmp_path / "train.yml").write_text(line[2:])
    transform = read_config(tmp_path / "train.yml").transform
    assert transform and "jpeg-diff" in transform
    check_transform(transform)
