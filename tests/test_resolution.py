"""Working sizes, and a protection at the photo's own size."""

from dataclasses import replace

import pytest
import tiny
import torch

from editproof.budgets import L2, Budget, Linf
from editproof.methods import METHODS
from editproof.protection.apply import DEFAULT_METHOD, protect, size_to_work_at
from editproof.resolution import resize, working_copy, working_mask, working_size


@pytest.mark.parametrize(("size", "expected"), [
    ((256, 256), (256, 256)), ((512, 512), (256, 256)), ((3000, 4000), (224, 288)), ((64, 64), (256, 256)),
    ((4000, 1000), (512, 128)), ((16, 20_000), (16, 9056)),
])  # fmt: skip
def test_working_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*size, 256) == expected


def test_working_copy_is_anti_aliased_and_on_the_grid() -> None:
    checks = (torch.arange(512)[:, None] + torch.arange(512)) % 2  # finer than the copy can show
    copy = working_copy(checks.float().expand(1, 3, -1, -1), (128, 128))
    assert copy[..., 4:-4, 4:-4].sub(0.5).abs().max() < 0.01
    assert torch.equal((copy * 255).round() / 255, copy)
    photo = tiny.pictures(1)
    assert torch.equal(working_copy(photo, (32, 32)), photo)


def test_working_mask_is_binary_and_keeps_its_share() -> None:
    mask = torch.zeros(1, 1, 300, 200)
    mask[..., 100:, :] = 1
    small = working_mask(mask, (96, 64))
    assert set(small.unique().tolist()) == {0, 1}
    assert small.mean().item() == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("budget", [Linf(8 / 255), Linf(16 / 255), L2(4.0)], ids=str)
@pytest.mark.parametrize("size", [(256, 256), (300, 500), (90, 70)], ids=str)
def test_budget_mask_and_grid_hold_at_the_own_size(budget: Budget, size: tuple[int, int]) -> None:
    images = tiny.pictures(2, *size)
    mask = tiny.hole(1, *size)
    protected = protect(images, method="noise", mask=mask, budget=budget)
    delta = protected - images
    assert protected.shape == images.shape
    assert torch.equal((protected * 255).round() / 255, protected)
    assert torch.equal(delta * mask, torch.zeros_like(delta))
    reach = delta.abs().amax((1, 2, 3)) if isinstance(budget, Linf) else delta.flatten(1).norm(dim=1)
    assert (reach <= budget.eps + 1e-6).all()
    if min(size) >= 256:  # noise does not survive being scaled down
        assert (reach >= budget.eps * 0.4).all()


def test_the_perturbation_survives_scaling_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smooth perturbation found at the working size is there again when the attacker scales the photo down."""
    wave = 6 / 255 * torch.sin(torch.arange(512) / 8).expand(1, 3, 512, 512)
    waved = replace(METHODS["noise"], function=lambda given: (given.images + wave).clamp(0, 1))
    monkeypatch.setitem(METHODS, "noise", waved)
    images = tiny.pictures(1, 1024, 1024) * 0.8 + 0.1
    images = (images * 255).round() / 255
    protected = protect(images, method="noise", budget=Linf(8 / 255))
    found = resize(protected, (512, 512)) - resize(images, (512, 512))
    inside = (..., slice(4, -4), slice(4, -4))
    assert (found - wave)[inside].abs().max() < 0.6 / 255


def test_a_result_does_not_depend_on_its_batch() -> None:
    images = tiny.pictures(3, 100, 80)
    together = protect(images, seed=3)
    alone = torch.cat([protect(image[None], seed=3) for image in images])
    assert ((together - alone).abs() * 255).max() <= 1  # convolutions may round differently
    assert (together != alone).float().mean() < 0.001


@pytest.mark.parametrize(
    ("photo", "expected"),
    [((256, 256), (256, 256)), ((320, 400), (320, 400)), ((40, 40), (64, 64)), ((100, 150), (96, 144)),
     ((512, 512), (512, 512)), ((3000, 4000), (448, 592))],
)  # fmt: skip
def test_the_embedded_network_does_not_enlarge_photos_of_sizes_it_knows(
    photo: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert size_to_work_at(DEFAULT_METHOD, None, {}, photo) == expected
    assert size_to_work_at(DEFAULT_METHOD, None, {}, photo, 1024) == working_size(*photo, 1024)
