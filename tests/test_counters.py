"""Counters: a table over the registry, what each one does to a picture, and the texts that name them."""

import io
import re
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
import typer
from PIL import Image, features
from skimage.data import astronaut
from torch import Tensor

from editproof.cli.main import app
from editproof.counters import (
    CHAINS,
    COUNTERS,
    counter_label,
    counter_text,
    differentiable,
    make_stages,
    move_mask,
    named_editors,
    needs_editor,
    parse_chain,
    parse_counter,
)
from editproof.counters.adverse_cleaner import adverse_cleaner, bilateral, guided
from editproof.counters.codecs import jpeg, social
from editproof.counters.denoise import nlm, wavelet
from editproof.counters.impress import impress
from editproof.counters.inverse import InverseNet, save_inverse
from editproof.counters.jpeg_diff import jpeg_diff
from editproof.counters.purify import regenerate, vae
from editproof.counters.table import table
from editproof.editors import load_editor
from editproof.errors import UserError
from editproof.metrics import psnr, ssim

Load = Callable
# What the issue asks for, and no more than one name for each.
NAMES = [
    "none", "jpeg", "jpeg-diff", "webp", "avif", "social", "resize", "fit", "screenshot", "crop", "rotate", "flip",
    "blur", "noise", "median", "bits", "nlm", "wavelet", "adverse-cleaner", "vae", "regenerate", "impress", "inverse",
]  # fmt: skip
NEUTRAL = {"resize": 1, "crop": 1, "rotate": 0, "blur": 0, "noise": 0, "median": 0, "bits": 8, "nlm": 0, "wavelet": 0}
DRAWN = {"noise", "crop", "regenerate", "screenshot"}  # depend on the seed
WEAK_TO_STRONG = {
    "jpeg": (90, 40), "jpeg-diff": (90, 40), "webp": (90, 40), "avif": (90, 40), "social": (90, 40),
    "resize": (0.8, 0.3), "fit": (50, 20), "screenshot": (1, 0.4),
    "crop": (0.95, 0.6), "rotate": (1, 9), "blur": (0.5, 3), "noise": (0.01, 0.1),
    "median": (1, 3), "bits": (7, 2), "nlm": (0.02, 0.2), "wavelet": (0.02, 0.2), "adverse-cleaner": (1, 32),
}  # fmt: skip


def photos(height: int = 48, width: int = 64) -> Tensor:
    """Two crops of a photograph (2,3,height,width), 8 bits."""
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    return torch.stack([photo[:, 60 : 60 + height, 190 : 190 + width], photo[:, 300 : 300 + height, 60 : 60 + width]])


PHOTOS = photos()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a network that takes the same off everywhere."""
    network, path = InverseNet(4), tmp_path_factory.mktemp("inverse") / "net.safetensors"
    torch.nn.init.constant_(network.added.bias, 0.05)
    save_inverse(network, path)
    return path


@pytest.fixture
def editor(tiny_editor: Load) -> object:
    return tiny_editor("sd-inpaint")


def change(images: Tensor, reference: Tensor) -> float:
    return (images - reference).abs().mean().item()


def test_the_registry() -> None:
    assert list(COUNTERS) == NAMES
    for info in COUNTERS.values():
        assert info.low <= info.default <= info.high and info.note
        assert not info.whole or info.default == int(info.default)
    assert {name for name, info in COUNTERS.items() if info.needs_editor} == {"vae", "regenerate", "impress"}


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("size", [(32, 48), (29, 45)], ids=str)
def test_shape_range_grid_and_batch(editor: object, weights: Path, name: str, size: tuple[int, int]) -> None:
    before = photos(*size)
    text = {"fit": "fit:24", "inverse": f"inverse@{weights}"}.get(name, name)
    images, counter = before.clone(), parse_counter(text, editor)
    after = counter(images, seed=3)
    assert torch.equal(images, before)
    assert after.shape == images.shape and after.dtype == torch.float32 and not after.requires_grad
    assert ((after * 255).round() / 255 == after).all() and after.min() >= 0 and after.max() <= 1
    assert torch.equal(after, counter(images, seed=3))
    alone = counter(images[1:], seed=3)
    assert (after[1:] - alone).abs().max() <= 2.01 / 255 and (after[1:] != alone).float().mean() < 0.01
    assert (change(after[0], images[0]) > 1e-3) == (change(after[1], images[1]) > 1e-3) == (name != "none")
    assert torch.equal(after, counter(images, seed=4)) == (name not in DRAWN)


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_strengths_change_nothing(name: str) -> None:
    assert torch.equal(parse_counter(f"{name}:{NEUTRAL[name]}")(PHOTOS), PHOTOS)


@pytest.mark.parametrize("name", WEAK_TO_STRONG)
def test_more_strength_does_more(name: str) -> None:
    weak, strong = (parse_counter(f"{name}:{strength}")(PHOTOS) for strength in WEAK_TO_STRONG[name])
    assert 0 < change(weak, PHOTOS) < change(strong, PHOTOS)


def test_every_strength_is_in_one_table() -> None:
    models = {name for name, info in COUNTERS.items() if info.needs_editor or info.needs_weights}
    chosen = {name for name, info in COUNTERS.items() if info.low < info.high} - models
    assert chosen == set(WEAK_TO_STRONG)


@pytest.mark.parametrize("name", [name for name, info in COUNTERS.items() if not info.needs_weights])
def test_strengths_have_limits(editor: object, name: str) -> None:
    info = COUNTERS[name]
    if info.low == info.high:
        with pytest.raises(UserError, match=f"'{name}' takes none"):
            parse_counter(f"{name}:1", editor)
        return
    for strength in (info.low, info.high):
        parse_counter(f"{name}:{strength}", editor)
    wrong = [
        str(info.low - 1),
        str(info.high + 1),
        "",
        "nan",
        "inf",
        "-inf",
        "1/0",
        "x",
        "1e999",
        *["1.5"] * info.whole,
    ]
    for strength in wrong:
        with pytest.raises(UserError, match=f"counter '{name}:{strength}': allowed is .*{info.low:g} to {info.high:g}"):
            parse_counter(f"{name}:{strength}", editor)


@pytest.mark.parametrize("name", [name for name, info in COUNTERS.items() if info.differentiable])
def test_gradients_reach_every_photo(editor: object, name: str) -> None:
    (stage,) = make_stages(name, editor)
    images = (PHOTOS * 0.9 + 0.05).requires_grad_()
    after = stage(images, seed=1)
    weights = torch.randn(after.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((after * weights).sum(), images)
    assert torch.isfinite(gradient).all() and (gradient.abs().amax((1, 2, 3)) > 0).all()
    (first,) = torch.autograd.grad((stage(images, seed=1) * weights)[0].sum(), images)
    assert (first[0] != 0).any() and (first[1] == 0).all()
    assert change(stage(images, seed=1).detach(), parse_counter(name, editor)(images, seed=1)) < 1 / 255


def test_a_chain_is_one_after_the_other_each_on_the_grid() -> None:
    small, lossy = parse_counter("resize:0.5"), parse_counter("jpeg:30")
    assert torch.equal(parse_counter("resize:.5+jpeg:30")(PHOTOS), lossy(small(PHOTOS)))
    assert not torch.equal(parse_counter("jpeg:30+resize:.5")(PHOTOS), lossy(small(PHOTOS)))
    one, two = parse_counter("noise:0.05")(PHOTOS), parse_counter("noise:0.05+noise:0.05")(PHOTOS)
    middle = (PHOTOS > 0.3) & (PHOTOS < 0.7)
    assert (two - PHOTOS)[middle].std() / (one - PHOTOS)[middle].std() == pytest.approx(2**0.5, rel=0.1)  # not twice


def test_texts() -> None:
    assert parse_chain("resize:0.5 + jpeg") == [("resize", 0.5, ""), ("jpeg", 75, "")]
    labels = {
        "jpeg": "jpeg:75", "resize:.50+jpeg:75": "resize:0.5+jpeg:75", "flip": "flip", "none": "none",
        "none+flip": "flip", "none+none": "none", "noise:8/256": "noise:0.03125", "rotate:-5": "rotate:-5",
    }  # fmt: skip
    assert {text: counter_label(text) for text in labels} == labels
    assert all(counter_label(label) == label for label in labels.values())
    assert differentiable("resize+jpeg-diff:50") and not differentiable("resize+jpeg")
    assert needs_editor("jpeg+vae") and not needs_editor("jpeg+blur")
    for text in ("jpg", "", "jpeg:75+", "JPEG", "jpeg,flip"):
        with pytest.raises(UserError, match=r"counter '.*' is unknown; allowed: none, jpeg, .*"):
            parse_counter(text)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vae", "jpeg+regenerate", "impress"):
        with pytest.raises(UserError, match="works through an editor, and none is given"):
            parse_counter(name)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UserError, match=r"'avif' needs Pillow 11\.3"):
        parse_counter("avif")
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(UserError, match=r"pip install 'editproof\[counters\]'"):
        parse_counter("wavelet")


def test_the_docs_table_is_the_registry() -> None:
    assert table() in (Path(__file__).parents[1] / "docs" / "counters.md").read_text()


def test_commands_in_the_documentation() -> None:
    """Every option is one that the command has, every counter named in them is one."""
    text = (Path(__file__).parents[1] / "docs" / "counters.md").read_text()
    commands = [
        line for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) == 4
    for line in commands:
        name, *arguments = shlex.split(line)[1:]
        typer.main.get_command(app).commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
        for option, value in pairwise(arguments):
            for chain in value.removeprefix("transform=").split(",") if option in ("--counters", "--set") else ():
                assert counter_label(chain)


# What single counters do


def test_files_are_pillows_own() -> None:
    for name, kind in (("jpeg", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF")):
        file = io.BytesIO()
        Image.fromarray((PHOTOS[0].permute(1, 2, 0) * 255).byte().numpy()).save(file, format=kind, quality=33)
        saved = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
        assert torch.equal(parse_counter(f"{name}:33")(PHOTOS)[0], saved)


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(192, 160), (99, 149), (17, 8)], ids=str)
def test_the_differentiable_jpeg_is_nearly_pillows(quality: int, size: tuple[int, int]) -> None:
    images = photos(*size)
    real, ours = jpeg(images, quality), jpeg_diff(images, quality)
    assert change(ours, real) < 0.35 * change(real, images)
    assert ((ours - real).abs() < 0.5 / 255).float().mean() > 0.55


def test_the_gradient_of_the_differentiable_jpeg_leads_through_the_real_one() -> None:
    """Signed steps along it move the real file further in a direction than steps that know nothing of the file."""
    direction = torch.randn(PHOTOS.shape, generator=torch.Generator().manual_seed(0))

    def moved(through: Callable[[Tensor], Tensor], quality: int) -> float:
        images = PHOTOS.clone()
        for _ in range(20):
            images.requires_grad_()
            (gradient,) = torch.autograd.grad((through(images) * direction).sum(), images)
            images = (images.detach() + gradient.sign() / 255).clamp(PHOTOS - 8 / 255, PHOTOS + 8 / 255).clamp(0, 1)
        return ((jpeg(images, quality) - jpeg(PHOTOS, quality)) * direction).mean().item()

    for quality in (20, 75):
        knowing = moved(lambda images, quality=quality: jpeg_diff(images, quality), quality)
        assert knowing > 1.5 * moved(lambda images: images, quality) > 0


def test_social_scales_what_is_larger_than_1080() -> None:
    assert torch.equal(social(PHOTOS), jpeg(PHOTOS, 75))
    stripes = (torch.arange(1620) % 2).float().expand(1, 3, 8, -1)  # finer than 1080 pixels can hold
    assert change(social(stripes), jpeg(stripes, 75)) > 0.2 and social(stripes).shape == stripes.shape


def test_geometry_moves_a_mask_along() -> None:
    """A mask of what is bright is, after a counter, the mask of what is then bright."""
    mask = torch.zeros(2, 1, 48, 64)
    mask[0, :, 10:30, 5:20], mask[1, :, 20:44, 40:60] = 1, 1
    for text in ("flip", "rotate:20", "rotate:-8", "crop:0.7", "jpeg:90+crop:0.8+rotate:3+blur:1+flip"):
        moved = parse_counter(text)(mask.expand(-1, 3, -1, -1), seed=5)[:, :1] > 0.5
        ours = move_mask(text, mask, seed=5)
        assert set(ours.unique().tolist()) == {0.0, 1.0} and ours.shape == mask.shape
        assert (moved != (ours > 0.5)).float().mean() < 0.02 and (ours != mask).float().mean() > 0.02
    assert torch.equal(move_mask("jpeg+resize:0.5+noise", mask), mask)


def test_rotation_turns_counter_clockwise_and_leaves_no_corner_empty() -> None:
    point = torch.zeros(1, 3, 65, 65)
    point[..., 31:34, 55:58] = 1  # right of the centre: goes up
    y, x = (parse_counter("rotate:30")(point)[0, 0] == parse_counter("rotate:30")(point).max()).nonzero()[0].tolist()
    assert y < 25 and x > 50
    white = torch.ones(1, 3, 40, 70)
    assert torch.equal(parse_counter("rotate:45")(white), white)


def test_blur_noise_median_and_bits_are_what_they_say() -> None:
    dot = torch.zeros(1, 1, 41, 41)
    dot[..., 20, 20] = 1
    (stage,) = make_stages("blur:2")
    spread = stage(dot)[0, 0]
    places = torch.arange(41.0) - 20
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * places**2).sum() == pytest.approx(4, rel=0.01)
    grey = torch.full((2, 3, 64, 64), 0.5)
    (stage,) = make_stages("noise:0.05")
    assert (stage(grey, seed=1) - grey).std() == pytest.approx(0.05, rel=0.02)
    assert torch.equal(stage(grey, seed=1)[0], stage(grey, seed=1)[1])  # each photo what it would draw alone
    assert torch.equal(parse_counter("median")(dot.expand(1, 3, -1, -1)), torch.zeros(1, 3, 41, 41))
    window = F.pad(PHOTOS, (2, 2, 2, 2), "replicate")[0, 0, 7:12, 9:14]
    assert parse_counter("median:2")(PHOTOS)[0, 0, 7, 9] == window.flatten().median()
    assert parse_counter("bits:1")(PHOTOS).unique().tolist() == [0, 1]
    assert len(parse_counter("bits:3")(PHOTOS).unique()) == 8


def test_denoisers_take_noise_away() -> None:
    clean = photos(96, 96)
    noisy = parse_counter("noise:0.06")(clean)
    for name, strength in (("nlm", 0.06), ("wavelet", 0.06), ("adverse-cleaner", 64)):
        assert (psnr(parse_counter(f"{name}:{strength}")(noisy), clean) > psnr(noisy, clean) + 1).all(), name
    assert nlm(clean, 0.05).dtype == wavelet(clean, 0.05).dtype == torch.float32


def test_the_adverse_cleaner_filters_as_written_in_its_papers() -> None:
    """One pixel of each filter from its formula, in float64 loops."""
    photo = PHOTOS[:1].double() * 255
    y, x, image = 20, 30, photo[0]
    total, weights = torch.zeros(3, dtype=torch.float64), 0.0
    for v in range(-2, 3):
        for u in range(-2, 3):
            if u * u + v * v <= 4:
                there = image[:, y + v, x + u]
                colour = (there - image[:, y, x]).abs().sum()
                weight = torch.exp(-(colour**2) / (2 * 8**2) - (u * u + v * v) / (2 * 8**2))
                total, weights = total + weight * there, weights + weight
    assert torch.allclose(bilateral(photo.float())[0, :, y, x].double(), total / weights, atol=1e-3)

    smooth = bilateral(photo.float()).double()

    def box(top: int, left: int) -> tuple[Tensor, Tensor]:
        """The guide's and the picture's pixels of a 9 x 9 window, (81,3)."""
        window = (slice(top - 4, top + 5), slice(left - 4, left + 5))
        return tuple(p[0, :, window[0], window[1]].flatten(1).T for p in (photo, smooth))  # type: ignore[return-value]

    results = []
    for v in range(-4, 5):
        for u in range(-4, 5):  # the mean over all windows that hold the pixel, of each window's regression
            guide, picture = box(y + v, x + u)
            centred = guide - guide.mean(0)
            covariance = centred.T @ centred / 81 + 16 * torch.eye(3, dtype=torch.float64)
            slope = torch.linalg.solve(covariance, centred.T @ (picture - picture.mean(0)) / 81)
            results.append(picture.mean(0) + (image[:, y, x] - guide.mean(0)) @ slope)
    expected = torch.stack(results).mean(0)
    assert torch.allclose(guided(photo.float(), smooth.float())[0, :, y, x].double(), expected, atol=1e-2)
    assert torch.equal(adverse_cleaner(PHOTOS, 3), adverse_cleaner(PHOTOS, 3))


# Through an editor


FLOWS = ("flux-fill", "sd3-img2img", "qwen-edit")


@pytest.mark.parametrize("name", [*tiny.MAKERS, "step1x-edit"])
def test_regeneration_starts_from_the_noised_photo(tiny_editor: Load, name: str) -> None:
    """On every kind of editor: as many calls as the strength says, the first at its noise level, on the photo's latents
    with that much noise; the rest of the edit as the pipeline does it."""
    editor, images = tiny_editor(name), tiny.pictures()
    for strength in (0.05, 0.2, 0.35):
        seen: list[tuple] = []
        hook = editor.denoiser.register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append((args, kwargs)), with_kwargs=True
        )
        result = parse_counter(f"regenerate:{strength}", editor)(images, seed=1)
        hook.remove()
        taken = editor._taken(50, strength)
        assert abs(taken - 50 * strength) <= 0.5
        per_step = len(seen) // taken
        assert len(seen) == per_step * taken > 0
        assert change(result, images) > 0.01
        args, kwargs = seen[0]
        latents = editor.encode(images)
        if editor.in_context:
            level = editor.noise_levels(images, 50)[50 - taken]
            given = kwargs.get("hidden_states", args[0] if args else None)
            count = min(len(given), len(images))  # klein takes photos one by one
            drawn = editor.tokens(images[:count], "", [torch.Generator().manual_seed(1) for _ in range(count)])
            tokens = given[:count, : drawn.target.shape[1]].float()
            assert torch.allclose(tokens, level * drawn.target + (1 - level) * drawn.context, atol=1e-4)
        elif name in FLOWS:
            given, level = kwargs["hidden_states"], float(kwargs["timestep"].flatten()[0]) / editor.noisiest
            count = min(len(given), len(images))  # qwen takes photos one by one
            noised = editor.latents_in(given[:count], images)
            spread = (
                0.0 if name == "qwen-edit" else editor.posterior(images).std * editor.pipe.vae.config.scaling_factor
            )
            drawn = (1 - level) ** 2 * torch.as_tensor(spread).square().mean().item()
            assert (noised - (1 - level) * latents[:count]).std() == pytest.approx((drawn + level**2) ** 0.5, rel=0.3)
            assert level > strength  # the schedule is shifted towards noise
        else:
            time = int(args[1] if len(args) > 1 else kwargs["timestep"])
            assert time == pytest.approx(1000 * strength, abs=40)
            given = (args[0] if args else kwargs["sample"])[: len(images), : latents.shape[1]]
            share = editor.pipe.scheduler.alphas_cumprod[time].sqrt()
            spread = editor.pipe.vae.encode(2 * images - 1).latent_dist.std * editor.pipe.vae.config.scaling_factor
            sampled = editor.masked or name == "sdxl-img2img"  # these pipelines sample the photo's latents
            drawn = share**2 * spread.square().mean() * sampled
            assert (given - share * latents).std() == pytest.approx((drawn + 1 - share**2).sqrt().item(), rel=0.3)
        assert editor.pipe.scheduler.set_timesteps.__func__  # the pipeline has its own scheduler back


@pytest.mark.parametrize("name", tiny.MAKERS)
def test_an_edit_may_start_from_the_photo(tiny_editor: Load, name: str) -> None:
    editor, images = tiny_editor(name), tiny.pictures()
    common = {"mask": tiny.hole() if editor.masked else None, "steps": 5}
    strengths = {0.01, 0.4, editor.strength, 1} | ({0.8} if editor.strength == 0.6 else {0.6})
    edits = {strength: editor.edit(images, "a hat", strength=strength, **common) for strength in strengths}
    assert torch.equal(edits[editor.strength], editor.edit(images, "a hat", **common))
    assert len({edit.sum().item() for edit in edits.values()}) >= 4
    images.requires_grad_()
    draws = [torch.Generator().manual_seed(0) for _ in images]
    sampled = editor.sample(images, "a hat", strength=0.4, generator=draws, **common)
    (gradient,) = torch.autograd.grad(sampled.square().sum(), images)
    assert torch.isfinite(gradient).all() and (gradient.abs().amax((1, 2, 3)) > 0).all()
    for strength in (0, -1, 1.01, float("nan")):
        with pytest.raises(UserError, match=r"cannot edit at strength .*; allowed: above 0, at most 1"):
            editor.edit(images, "a hat", strength=strength, **common)


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "euler", "lms", "kdpm2"])
def test_regeneration_with_every_scheduler(tiny_folder: Load, scheduler: str) -> None:
    for name in ("sd-inpaint", "instruct-pix2pix"):
        editor = load_editor(tiny_folder(name), device="cpu", scheduler=scheduler)
        result = parse_counter("regenerate:0.2", editor)(tiny.pictures())
        assert torch.isfinite(result).all() and result.std() > 0.01


@pytest.fixture(scope="module")
def trained() -> object:
    return load_editor("tiny-inpaint", device="cpu")


def test_a_trained_editor_keeps_the_photo(trained: object) -> None:
    """Through the autoencoder more than through a regeneration, and with less strength more of it."""
    images = photos(128, 128)[:1]
    passed = [vae(images, 1, editor=trained)] + [regenerate(images, s, editor=trained) for s in (0.05, 0.2, 0.5)]
    kept = [psnr(result, images).item() for result in passed]
    assert kept[0] > 20 and kept == sorted(kept, reverse=True)
    assert psnr(vae(images, 5, editor=trained), images).item() < kept[0]


def test_impress_makes_the_autoencoder_agree_within_its_bound(trained: object) -> None:
    images = parse_counter("noise:0.04")(photos(64, 64)[:1])

    def inconsistency(images: Tensor) -> float:
        with torch.no_grad():
            return (vae(images, 1, editor=trained) - images).square().mean().item()

    purified = impress(images, 0.1, editor=trained, steps=15)
    assert inconsistency(purified) < 0.7 * inconsistency(images)
    assert 1 - ssim(purified, images).item() < 0.13
    free = impress(images, 1, editor=trained, steps=15)
    assert 1 - ssim(free, images).item() > 1 - ssim(purified, images).item()
    by_distance = impress(images, 0.0, editor=trained, steps=15, distance=lambda a, b: (a - b).abs().mean((1, 2, 3)))
    assert change(by_distance, images) < change(free, images)


def test_named_chains_and_models_after_an_at() -> None:
    assert parse_chain("reposted+blur:1")[0] == ("screenshot", 0.8, "") and len(parse_chain("reposted+blur:1")) == 4
    labels = {
        "reposted+jpeg": "reposted+jpeg:75", "regenerate@tiny-kontext": "regenerate:0.2@tiny-kontext",
        "vae@/a/b/model+none": "vae:1@model", "inverse:1@/a/net.safetensors": "inverse:1@net.safetensors",
    }  # fmt: skip
    assert {text: counter_label(text) for text in labels} == labels
    assert counter_text("vae@/a/b/model") == "vae:1@/a/b/model"  # what a run works with
    assert named_editors("jpeg+vae@a/b+regenerate@tiny-kontext+vae") == ["a/b", "tiny-kontext"]
    assert needs_editor("vae@a/b+vae") and not needs_editor("vae@a/b")
    for chain in CHAINS.values():
        assert parse_chain(chain) and not needs_editor(chain)
    images = tiny.pictures(2, 96, 96)
    assert not torch.equal(parse_counter("photographed")(images), images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpeg:75@tiny-kontext", "a model after @ is for vae, regenerate, impress, inverse"),
        ("vae@", "a model after @"),
        ("inverse", "inverse@FILE.safetensors"),
        ("inverse@missing.safetensors", "training/inverse.py wrote"),
        ("feed:2", "counter 'feed' is unknown"),
        ("vae", "allowed: vae@EDITOR"),
    ],
)
def test_models_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_counter(text)


def test_a_counter_works_through_the_editor_that_is_named(tiny_folder: Callable) -> None:
    folder, images = tiny_folder("sd-inpaint"), tiny.pictures(1, 64, 64)
    named = load_editor(folder, device="cpu")
    expected = parse_counter("vae", named)(images)
    assert torch.equal(parse_counter(f"vae@{folder}")(images), expected)
    asked: list[str] = []
    parse_counter(f"vae@{folder}", None, lambda name: asked.append(name) or named)(images)
    assert asked == [str(folder)]


def test_screenshots_are_off_the_grid_and_fits_only_scale_down() -> None:
    images = tiny.pictures(2, 64, 64)
    shown = parse_counter("screenshot:1")(images, seed=1)
    assert 0 < change(shown, images) < 0.05
    assert not torch.equal(shown, parse_counter("screenshot:1")(images, seed=2))
    assert torch.equal(parse_counter("fit:64")(images), images)
    assert not torch.equal(parse_counter("fit:64")(tiny.pictures(1, 80, 80)), tiny.pictures(1, 80, 80))


def test_a_learnt_inverse_takes_off_what_it_has_learnt(tmp_path: Path) -> None:
    """A fixed pattern is learnt in a few steps, and half the strength takes half of it."""
    torch.manual_seed(0)
    images = 0.25 + tiny.pictures(2, 256, 256) / 2  # of the size that is learnt at
    added = torch.zeros(1, 3, 1, 1)
    added[:, 0] = 0.1
    network = InverseNet(8)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        (network((images + added)[..., 96:160, 96:160]) - added).square().mean().backward()
        optimiser.step()
    save_inverse(network, tmp_path / "net.safetensors")
    safe = images + added
    undone, half = (parse_counter(f"inverse:{s}@{tmp_path}/net.safetensors")(safe) for s in (1, 0.5))
    assert (undone - images).abs().mean() < 0.3 * (safe - images).abs().mean()
    assert (undone - images).abs().mean() < (half - images).abs().mean() < (safe - images).abs().mean()
