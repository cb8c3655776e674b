"""The budget that shows less, and the structure that counts for people."""

import pytest
import torch

from editproof.budgets import L2, Budget, Linf, norms
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.methods.quiet import Quiet, texture
from editproof.metrics.contrast import structure_at_scales
from editproof.randomness import generators


def half_smooth(side: int = 64) -> torch.Tensor:
    """(1,3,side,side): smooth on the left, random grain on the right."""
    picture = torch.full((1, 3, side, side), 0.5)
    grain = torch.rand((1, 1, side, side // 2), generator=torch.Generator().manual_seed(0))
    picture[..., side // 2 :] = 0.2 + 0.6 * grain
    return picture


@pytest.mark.parametrize("pixels", [Linf(8 / 255), L2(2.0)])
def test_changes_are_alike_in_all_channels_and_smaller_where_it_is_smooth(pixels: Budget) -> None:
    photo, draws = half_smooth(), generators(0, 1)
    share = 0.25 + 0.75 * texture(photo)
    assert share[..., :20].max() == 0.25 and share[..., 44:].mean() > 0.9
    budget = Quiet(pixels, share)
    wild = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for delta in (budget.project(wild), budget.random(photo, draws), pixels.eps * budget.steepest(wild)):
        assert torch.allclose(delta, delta[:, :1].expand_as(delta))
        assert (delta.abs().max() if isinstance(pixels, Linf) else norms(delta).max()) <= pixels.eps * (1 + 1e-5)
    for delta in (budget.random(photo, draws), budget.steepest(wild)):
        assert delta[..., :20].abs().mean() < 0.4 * delta[..., 44:].abs().mean()
    assert torch.allclose(budget.project(0.01 * budget.project(wild)), 0.01 * budget.project(wild), atol=1e-7)


def test_autoencoder_moves_smooth_parts_by_their_share_and_no_colour() -> None:
    photo = (half_smooth() * 255).round() / 255
    moved = METHODS["autoencoder"](None, photo, budget=Linf(10 / 255), steps=2, spaces="sd1", smooth=0.3) - photo
    assert 255 * moved[..., :16].abs().max() <= 3.01 and 255 * moved.abs().max() > 8
    assert (moved - moved[:, :1]).abs().max() < 1e-6
    with pytest.raises(UserError, match=r"^smooth is 0; allowed: above 0, up to 1"):
        METHODS["autoencoder"](None, photo, budget=Linf(10 / 255), steps=2, spaces="sd1", smooth=0)


def test_fine_ripples_count_less_than_coarse_ones_and_a_shift_not_at_all() -> None:
    photo = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)), size=64, mode="bicubic"
    ).clamp(0.1, 0.9)
    places = torch.arange(64)

    def rippled(period: int) -> torch.Tensor:
        return photo + 0.05 * (1 - 2.0 * (places // (period // 2) % 2))

    same, shifted, fine, coarse = (
        structure_at_scales(x, photo).item() for x in (photo, photo + 0.05, rippled(2), rippled(8))
    )
    assert same == pytest.approx(1) and shifted == pytest.approx(1, abs=1e-4)
    assert coarse + 0.02 < fine < 0.99
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    half = torch.cat([photo[..., :36], rippled(8)[..., 36:]], -1)
    assert structure_at_scales(half, photo, mask).item() > structure_at_scales(half, photo).item() + 0.01
    assert structure_at_scales(photo[..., :8, :8], photo[..., :8, :8]).item() == pytest.approx(1)
