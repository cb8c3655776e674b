"""Norm balls and the 8-bit grid."""

import math

import pytest
import torch
from tiny import hole, pictures
from torch import Tensor

from editproof.budgets import L2, Budget, Linf, norms, on_grid
from editproof.errors import UserError
from editproof.randomness import generators, random_masks

BUDGETS: list[Budget] = [Linf(8 / 255), Linf(0.03), L2(0.8), L2(3.0)]


def size(delta: Tensor, budget: Budget) -> Tensor:
    return norms(delta).flatten() if isinstance(budget, L2) else delta.abs().amax((1, 2, 3))


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_projection_is_the_nearest_point_of_the_ball(budget: Budget) -> None:
    delta = torch.randn(3, 3, 8, 8)
    inside = budget.project(delta)
    assert (size(inside, budget) <= budget.eps * (1 + 1e-6)).all()
    assert torch.allclose(budget.project(inside), inside)
    near = delta + 0.3 * torch.randn(200, 3, 3, 8, 8)
    rivals = budget.project(near.flatten(0, 1)).view_as(near)
    for number, distances in enumerate((delta - rivals).flatten(2).norm(dim=2)):
        assert (norms(delta - inside).flatten() <= distances).all(), f"rival {number} is nearer"
    # the nearest of a convex set: no point of the ball lies farther along the way that is left
    left = (delta - inside).flatten(1)
    farthest = left.abs().sum(1) if isinstance(budget, Linf) else left.norm(dim=1)
    assert torch.allclose((left * inside.flatten(1)).sum(1), budget.eps * farthest, rtol=1e-4)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_the_steepest_direction_has_length_one_and_gains_most(budget: Budget) -> None:
    gradient = torch.randn(2, 3, 8, 8)
    best = budget.steepest(gradient)
    assert torch.allclose(size(best, budget), torch.ones(2))
    for _ in range(20):
        other = torch.randn_like(gradient)
        other = other / size(other, budget).view(-1, 1, 1, 1)
        assert ((best * gradient).sum((1, 2, 3)) >= (other * gradient).sum((1, 2, 3))).all()


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_random_points_are_in_the_ball_and_do_not_depend_on_the_batch(budget: Budget) -> None:
    like = torch.zeros(3, 3, 8, 8)
    points = budget.random(like, generators(5, 3))
    assert (size(points, budget) <= budget.eps * (1 + 1e-6)).all()
    assert (size(points, budget) > 0.8 * budget.eps).all()
    assert torch.equal(points[1], budget.random(like[:1], generators(5, 1))[0])
    assert not torch.equal(points, budget.random(like, generators(6, 3)))


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("strength", [0.1, 1.0, 3.0])
def test_results_are_whole_levels_within_the_budget(budget: Budget, strength: float) -> None:
    originals = pictures(3)
    delta = strength * budget.project(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    support = 1 - hole(3)
    result = on_grid(originals + delta, originals, budget, support)
    assert ((result * 255).round() / 255 == result).all()
    assert (size(result - originals, budget) <= budget.eps + 1e-6).all()
    assert torch.equal(result * hole(3), originals * hole(3))
    assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(on_grid(result, originals, budget, support), result)  # nothing moves a second time


def test_the_grid_gives_away_little_of_the_budget() -> None:
    originals = torch.full((1, 3, 32, 32), 128 / 255)
    signs = torch.randn(1, 3, 32, 32).sign()
    assert torch.equal(((on_grid(originals + signs, originals, Linf(8 / 255)) - originals) * 255).round(), 8 * signs)
    assert torch.equal(((on_grid(originals + signs, originals, Linf(0.03)) - originals) * 255).round(), 7 * signs)
    for eps in (0.2, 0.8, 3.0):  # 0.2 is less than a level per channel: plain rounding would leave nothing
        delta = L2(eps).project(torch.randn(1, 3, 32, 32))
        assert norms(on_grid(originals + delta, originals, L2(eps)) - originals).item() > 0.75 * eps


def test_originals_between_two_levels_stay_within_linf() -> None:
    originals = torch.rand(2, 3, 16, 16)
    result = on_grid(originals + 0.5 * torch.randn(2, 3, 16, 16), originals, Linf(4 / 255))
    assert ((result * 255).round() / 255 == result).all()
    assert (result - originals).abs().max() <= 4 / 255 + 1e-5
    tight = on_grid(originals + 1, originals, Linf(0.1 / 255))  # often no level is that near
    assert (tight - originals).abs().max() <= 0.6 / 255


def test_no_budget_only_rounds() -> None:
    images = torch.rand(2, 3, 8, 8) * 1.4 - 0.2
    assert torch.equal(on_grid(images, torch.zeros_like(images)), (images.clamp(0, 1) * 255).round() / 255)


def test_random_masks_differ_and_do_not_depend_on_the_batch() -> None:
    images, draws = torch.zeros(2, 3, 24, 40), generators(0, 2)
    many = [random_masks(images, draws) for _ in range(60)]
    shares = torch.stack([mask.mean((1, 2, 3)) for mask in many])
    assert many[0].shape == (2, 1, 24, 40) and set(torch.stack(many).unique().tolist()) == {0.0, 1.0}
    assert shares.min() > 0.02 and shares.max() < 0.98 and shares.std() > 0.1
    assert all(torch.equal(mask[0], mask[1]) for mask in many)


@pytest.mark.parametrize(
    ("budget", "eps"), [(Linf, 8), (Linf, 0), (Linf, -0.1), (Linf, math.nan), (L2, 0), (L2, math.inf)]
)
def test_a_budget_that_means_nothing_is_refused(budget: type[Linf | L2], eps: float) -> None:
    with pytest.raises(UserError, match=f"{budget.__name__} eps {eps}: allowed are numbers above 0"):
        budget(eps)
