"""The optimisation loop, on objectives whose optimum is known."""

import pytest
import torch
from torch import Tensor

from editproof.budgets import L2, Linf, norms
from editproof.errors import UserError
from editproof.pgd import Objective, default_step, pgd
from editproof.randomness import generators

LEVEL = 1 / 255


@pytest.fixture
def images() -> Tensor:
    return (torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 255).round() / 255


@pytest.fixture
def target() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.3


def quadratic(target: Tensor) -> Objective:
    return lambda images: ((images - target[: len(images)]) ** 2).sum((1, 2, 3))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("random_start", [False, True])
def test_linf_reaches_the_closed_form_optimum(
    images: Tensor, target: Tensor, momentum: float, random_start: bool
) -> None:
    result = pgd(
        quadratic(target), images, Linf(0.1), steps=300, step_size=lambda step: 0.02 * (1 - step / 300),
        momentum=momentum, random_start=random_start, generator=generators(0, 3),
    )  # fmt: skip
    optimum = target.maximum(images - 0.1).minimum(images + 0.1).clamp(0, 1)
    assert (result - optimum).abs().max() < 1.5 * LEVEL
    assert (result - images).abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_l2_reaches_the_closed_form_optimum(images: Tensor, momentum: float) -> None:
    images = 0.3 + 0.4 * images
    images = (images * 255).round() / 255
    target = images + 0.2 * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))  # inside [0,1] mostly
    target = target.clamp(0, 1)
    result = pgd(
        quadratic(target), images, L2(1.0), steps=200, step_size=lambda step: 0.2 * (1 - step / 200), momentum=momentum
    )
    optimum = images + L2(1.0).project(target - images)
    assert (norms(optimum - images) > 0.99).all()
    assert (result - optimum).abs().max() < 1.5 * LEVEL
    assert (norms(result - images) <= 1 + 1e-6).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_keeps_a_share_of_the_directions_before(momentum: float) -> None:
    """Gradients that are known: (3, 1) on the two halves, then (1, 3) the other way; each has a mean of 2."""
    grey, steps = torch.full((1, 3, 2, 2), 0.5), iter([(3.0, 1.0), (-1.0, -3.0), (0.0, 0.0)])
    grey = (grey * 255).round() / 255

    def objective(images: Tensor) -> Tensor:
        left, right = next(steps)
        return left * images[..., 0].sum((1, 2)) + right * images[..., 1].sum((1, 2))

    result = pgd(objective, grey, Linf(0.5), steps=3, step_size=10 * LEVEL, momentum=momentum)
    expected = torch.zeros(2)
    direction = torch.zeros(2)
    for gradient in ([1.5, 0.5], [-0.5, -1.5], [0.0, 0.0]):
        direction = momentum * direction + torch.tensor(gradient)
        expected -= 10 * direction.sign()
    assert torch.equal(((result - grey) * 255).round()[0, 0, 0], expected)


def test_only_the_support_changes(images: Tensor, target: Tensor) -> None:
    support = torch.zeros(3, 1, 8, 8)
    support[:, :, 2:5] = 1
    for budget in (Linf(0.1), L2(0.7)):
        result = pgd(
            quadratic(target), images, budget, steps=20, step_size=0.05, support=support, random_start=True,
            generator=generators(0, 3),
        )  # fmt: skip
        assert torch.equal(result * (1 - support), images * (1 - support))
        assert not torch.equal(result * support, images * support)


def test_a_photo_does_not_depend_on_its_batch(images: Tensor, target: Tensor) -> None:
    def run(photos: Tensor) -> Tensor:
        draws = generators(1, len(photos))
        return pgd(
            quadratic(target[:1]), photos, Linf(0.05), steps=10, step_size=0.01, random_start=True, generator=draws
        )

    assert torch.equal(run(images)[1:2], run(images[1:2]))


def test_samples_average_the_gradient(images: Tensor) -> None:
    """A linear objective with a sign that is wrong in a third of the calls: a step along one call may go wrong, a step
    along the mean of three never does."""
    calls: list[int] = []

    def objective(images: Tensor) -> Tensor:
        calls.append(1)
        return images.sum((1, 2, 3)) * (-1 if len(calls) % 3 == 0 else 1)

    result = pgd(objective, images, Linf(0.1), steps=4, step_size=0.025, samples=3)
    assert len(calls) == 12
    assert torch.allclose(result, (images - 0.1).clamp(0, 1), atol=1.01 * LEVEL)


def test_a_transform_is_seen_by_the_objective_only(images: Tensor) -> None:
    def left_half(images: Tensor) -> Tensor:
        return images[..., :4]

    seen = []

    def objective(images: Tensor) -> Tensor:
        seen.append(images.shape)
        return images.sum((1, 2, 3))

    result = pgd(objective, images, Linf(0.1), steps=3, step_size=0.1, transform=left_half)
    assert set(seen) == {(3, 3, 8, 4)}
    assert torch.equal(result[..., 4:], images[..., 4:]) and (result[..., :4] < images[..., :4]).float().mean() > 0.9


def test_progress_and_steps_by_function(images: Tensor, target: Tensor) -> None:
    asked: list[int] = []
    told: list[tuple[int, int, float]] = []

    def step_size(step: int) -> float:
        asked.append(step)
        return 0.02

    pgd(quadratic(target), images, Linf(0.1), steps=5, step_size=step_size, callback=lambda *news: told.append(news))
    assert asked == [0, 1, 2, 3, 4]
    assert [news[:2] for news in told] == [(n, 5) for n in range(1, 6)]
    assert told[0][2] > told[-1][2]


def test_the_perturbation_stays_float32_under_a_half_precision_objective(images: Tensor, target: Tensor) -> None:
    """Steps of .0004 near 1 are less than bfloat16 can add; many of them must still arrive."""
    bright = torch.full_like(images, 230 / 255)

    def objective(images: Tensor) -> Tensor:
        return images.to(torch.bfloat16).float().sum((1, 2, 3))

    result = pgd(objective, bright, Linf(0.04), steps=100, step_size=0.0004)
    assert result.dtype == torch.float32 and ((bright - result) * 255).round().eq(10).all()


def test_a_gradient_that_is_not_finite_stops_the_run(images: Tensor) -> None:
    with pytest.raises(UserError, match="step 1 is not finite"):
        pgd(lambda images: (images - images).sqrt().sum((1, 2, 3)), images, Linf(0.1), steps=2, step_size=0.1)


def test_works_where_gradients_are_off(images: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        assert not torch.equal(pgd(quadratic(target), images, Linf(0.1), steps=1, step_size=0.1), images)


def test_the_default_step_is_the_papers_at_the_papers_settings() -> None:
    paper = (Linf(0.03), 1000, 0.005)
    assert default_step(None, Linf(0.03), 1000, paper) == 0.005
    assert default_step(None, Linf(0.03), 100, paper) == pytest.approx(2.5 * 0.03 / 100)
    assert default_step(None, Linf(0.06), 1000, paper) == pytest.approx(2.5 * 0.06 / 1000)
    assert default_step(0.01, Linf(0.03), 1000, paper) == 0.01
    assert default_step(None, Linf(0.03 * (1 + 1e-12)), 1000, paper) == 0.005  # a budget that went through arithmetic
    assert default_step(None, L2(0.03), 1000, paper) != 0.005
