"""What the program around editproof has set in PyTorch changes no result, and stays set."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import corpus
import pytest
import tiny
import torch
from PIL import Image, ImageFile

from editproof.bench.demo import astronaut
from editproof.budgets import Linf
from editproof.counters import CHAINS, COUNTERS, parse_counter
from editproof.editors import load_editor
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.metrics import METRICS, Trial
from editproof.pgd import pgd
from editproof.photo.reading import open_photo
from editproof.protection.apply import protect
from editproof.protection.files import protect_photos
from editproof.surroundings import defaults

PHOTO = (tiny.pictures(1, 48, 64) * 255).round() / 255
PERSON, _ = astronaut(128)
HOLE = torch.zeros(1, 1, 48, 64)
HOLE[..., 10:30, 20:50] = 1


@contextmanager
def dtype(kind: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(kind)
    try:
        yield
        assert torch.get_default_dtype() == kind
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
        assert torch.empty(1).is_meta
    finally:
        torch.set_default_device(None)


@contextmanager
def no_onednn() -> Iterator[None]:
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
        assert torch._C._get_mkldnn_enabled() is False
    finally:
        torch._C._set_mkldnn_enabled(True)


@contextmanager
def deterministic(warn_only: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "float64": lambda: dtype(torch.float64),
    "bfloat16": lambda: dtype(torch.bfloat16),
    "another device": device,
    "within a device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "no oneDNN": no_onednn,
    "deterministic": lambda: deterministic(False),
    "deterministic, with warnings": lambda: deterministic(True),
}


def same(call: Callable[[], Any], around: str) -> None:
    expected = call()
    with SURROUNDINGS[around]():
        result = call()
    assert result.dtype == expected.dtype and result.device == expected.device
    assert torch.equal(result.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("method", ["immunizer", "noise"])
def test_protect(method: str, around: str) -> None:
    same(lambda: protect(PHOTO, method=method), around)
    same(lambda: protect(PHOTO, method=method, mask=HOLE), around)
    same(lambda: protect(PERSON, method=method, mask="auto"), around)


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("method", METHODS)
def test_methods(method: str, around: str, tiny_editor: Any) -> None:
    row, photo = METHODS[method], PHOTO[..., :32, :32]
    editor = {"in_context": "flux-kontext"}.get(row.needs, "sd-inpaint")
    hole = HOLE[..., :32, :32] if editor == "sd-inpaint" else None
    if row.needs_faces:
        pytest.importorskip("dlib", reason="pip install 'editproof[faces]'")
        photo, hole = PERSON, torch.zeros_like(PERSON[:, :1])
        hole[..., :8, :8] = 1

    def run() -> torch.Tensor:
        asked = {"steps": 1} if row.paper else {}
        return row(tiny_editor(editor), photo, mask=hole, budget=Linf(8 / 255), **asked)

    same(run, around)


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("name", ["sd-inpaint", "flux-kontext", "flux2-klein"])
def test_editors(name: str, around: str, tiny_folder: Any, tiny_editor: Any) -> None:
    photo = PHOTO[..., :32, :32]
    hole = HOLE[..., :32, :32] if name == "sd-inpaint" else None
    same(lambda: tiny_editor(name).edit(photo, "a hat", mask=hole, steps=2), around)
    same(lambda: tiny_editor(name).decode(tiny_editor(name).encode(photo)), around)

    def loaded() -> torch.Tensor:
        return load_editor(tiny_folder(name), device="cpu", size=32).edit(photo, "a hat", mask=hole, steps=1)

    same(loaded, around)


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("metric", METRICS)
def test_metrics(metric: str, around: str) -> None:
    made = list(tiny.pictures(8, 64, 64).split(2))
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    trial = Trial(made[0], made[1], made[2], made[3], made[0], ["make it snow"] * 2, mask, truth=made[1])

    def run() -> torch.Tensor:
        try:
            return METRICS[metric].measure(trial, None)
        except UserError as error:
            return torch.tensor(list(str(error).encode()), dtype=torch.uint8, device="cpu")

    same(run, around)


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("counter", [*(n for n, c in COUNTERS.items() if not c.needs_weights), *CHAINS])
def test_counters(counter: str, around: str, tiny_editor: Any) -> None:
    photo = PHOTO[..., :32, :32]
    same(lambda: parse_counter(counter, tiny_editor("sd-inpaint"))(photo, seed=3), around)


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_photo_files(around: str, tmp_path: Path) -> None:
    corpus.RGB.save(tmp_path / "a.png")
    white = Image.new("L", corpus.RGB.size, 0)
    white.paste(255, (0, 0, corpus.RGB.width // 2, corpus.RGB.height))
    white.save(tmp_path / "m.png")
    numbers = iter(range(99))

    def run() -> torch.Tensor:
        out = tmp_path / str(next(numbers))
        protect_photos(tmp_path / "a.png", out, mask=tmp_path / "m.png")
        with defaults():
            return open_photo(out / "a-protected.png").levels

    same(run, around)


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_a_photo_made_there_is_protected_there(around: str, tiny_editor: Any) -> None:
    method, editor, photo = METHODS["photoguard-encoder"], tiny_editor("sd-inpaint"), PHOTO[..., :32, :32]
    hole = HOLE[..., :32, :32]
    expected = method(editor, photo, mask=hole, steps=2)
    with SURROUNDINGS[around]():
        given = torch.stack([photo[0]]) if "device" not in around else photo
        assert torch.equal(method(editor, given, mask=hole.clone(), steps=2), expected)


def test_descent_by_itself() -> None:
    target = PHOTO + 0.1
    expected = pgd(lambda x: (x - target).square().sum((1, 2, 3)), PHOTO, Linf(4 / 255), steps=3, step_size=0.01)
    with dtype(torch.float64):
        result = pgd(lambda x: (x - target).square().sum((1, 2, 3)), PHOTO, Linf(4 / 255), steps=3, step_size=0.01)
    assert torch.equal(result, expected)


def test_two_calls_at_once_and_what_was_set_before() -> None:
    with dtype(torch.float64):
        first, second = defaults(), defaults()
        first.__enter__()
        inside: list[torch.dtype] = []

        def other() -> None:
            with second:
                inside.append(torch.get_default_dtype())

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        inside.append(torch.get_default_dtype())
        first.__exit__(None, None, None)
    assert inside == [torch.float32, torch.float32]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_cut_photos_are_refused_though_pillow_would_fill_them_up(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.RGB.save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for what in (tmp_path / f"cut.{suffix}", str(tmp_path / f"cut.{suffix}")):
        with pytest.raises(UserError, match="damaged or cut off"):
            protect(what, method="noise")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_a_limit_of_pillow_is_none_of_ours(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.RGB.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    protect_photos(tmp_path / "a.png", tmp_path / "out", method="noise", format=format)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_onednn_is_on_within() -> None:
    with no_onednn(), defaults():
        assert torch._C._get_mkldnn_enabled()
