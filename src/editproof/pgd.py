"""Projected gradient descent on pixels: the only optimisation loop of the attacks.

The papers as arguments, in [0,1] pixel units:

| paper                 | objective, minimised             | budget       | steps, step_size     | further            |
| --------------------- | ------------------------ | ------------ | -------------------- | ------------------ |
| PhotoGuard, encoder   | latent distance to mid-grey      | Linf(.03)    | 1000, .005 falling   | random_start       |
| PhotoGuard, diffusion | distance of the edit to mid-grey | L2(8.0)      | 200, .5              | samples=10         |
| DiffusionGuard        | -norm of the first prediction    | Linf(8/255)  | 800, .5/255          | new mask each step |
| DeContext             | attention mass on the photo      | Linf(.05)    | 800, .0025           |                    |
| VETO                  | -entropy of attention slices     | Linf(4/255)  | 100, 2/255           | momentum=.9        |
| FaceLock              | -distance of faces and pictures  | Linf(.015)   | 100, .005 falling    | random_start       |
"""

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from editproof.budgets import Budget, grey, on_grid
from editproof.errors import UserError
from editproof.randomness import Generators

Objective = Callable[[Tensor], Tensor]
Step = float | Callable[[int], float]
Paper = tuple[Budget, int, Step]  # a paper's budget, steps and step size
Callback = Callable[[int, int, float], None]


def pgd(
    objective: Objective,
    images: Tensor,
    budget: Budget,
    *,
    steps: int,
    step_size: Step,
    support: Tensor | None = None,
    start: Tensor | None = None,
    random_start: bool = False,
    samples: int = 1,
    momentum: float = 0.0,
    transform: Callable[[Tensor], Tensor] | None = None,
    generator: Generators | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Minimise `objective` within `budget` of `images` (B,3,H,W) in [0,1]; returns images on the 8-bit grid.

    objective: images -> one loss per image `(B,)`; it may draw anew at each call.
    step_size: a number, or a function of the step 0..steps-1, along `budget.steepest`.
    support: `(B,1,H,W)`, 1 where pixels may change; everywhere if None.
    start: images to start from, brought within the budget; from `images` if None.
    random_start: start at a random point of the budget (needs `generator`, one per image) instead of at the images.
    samples: the gradient is the mean over this many calls of the objective.
    momentum: share of the old direction that is kept; gradients are first scaled to a mean magnitude of 1 per image.
    transform: what happens to the photo before an editor sees it (JPEG, resizing ...), differentiable.
    callback: called after each step with (step from 1, steps, mean loss).
    """
    images = images.detach().float()
    allowed = torch.ones_like(images[:, :1]) if support is None else (support > 0).float()
    alike = grey(images)
    delta = torch.zeros_like(images)
    if start is not None:
        delta = (images + budget.project((start - images) * allowed)).clamp(0, 1) - images
    elif random_start:
        if generator is None:
            raise ValueError("random_start needs a generator for each image")
        delta = ((images + budget.random(images, generator) * allowed).clamp(0, 1) - images).detach()
    direction = torch.zeros_like(images)
    told = Told(steps, callback, late=images.is_cuda)
    for step in range(steps):
        gradient, loss = torch.zeros_like(images), torch.zeros(len(images), device=images.device)
        for _ in range(samples):
            with torch.enable_grad():
                moved = (images + delta).clamp(0, 1).requires_grad_()
                losses = objective(moved if transform is None else transform(moved))
                gradient += torch.autograd.grad(losses.sum(), moved)[0] / samples
            loss += losses.detach() / samples
        told.of(step + 1, loss, gradient)
        gradient = torch.where(alike, gradient.mean(1, keepdim=True), gradient) * allowed
        direction = momentum * direction + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-20)
        size = step_size(step) if callable(step_size) else step_size
        delta = budget.project(delta - size * budget.steepest(direction))
        delta = (images + delta).clamp(0, 1) - images
    told.all()
    return on_grid(images + delta, images, budget, support)


class Told:
    """Tells `callback` of each step, and raises UserError at a gradient that is not finite.

    Both wait for the device. `late`: a step is looked at when the next one has been launched, so a GPU stays busy.
    """

    def __init__(self, steps: int, callback: Callback | None, late: bool) -> None:
        self.steps, self.callback, self.late = steps, callback, late
        self.waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def of(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """A step from 1, its losses (B,) and its gradient."""
        news, copied = torch.stack([loss.mean(), torch.isfinite(gradient).all()]), None
        if self.late:
            news = torch.empty_like(news, device="cpu", pin_memory=True).copy_(news, non_blocking=True)
            copied = torch.cuda.current_stream(gradient.device).record_event()
        self.waiting.append((step, news, copied))
        self.all(1 if self.late else 0)

    def all(self, left: int = 0) -> None:
        """Look at all steps but for the last `left`."""
        while len(self.waiting) > left:
            step, news, copied = self.waiting.popleft()
            if copied is not None:
                copied.synchronize()  # of this step only: reading a number would wait for the next one, too
            loss, finite = news.tolist()
            if not finite:
                raise UserError(f"the gradient of step {step} is not finite: load the editor in float32 instead")
            if self.callback is not None:
                self.callback(step, self.steps, loss)


def default_step(step_size: Step | None, budget: Budget, steps: int, paper: Paper) -> Step:
    """`step_size` if given, the paper's step at the paper's budget and steps, otherwise 2.5 x eps / steps."""
    if step_size is not None:
        return step_size
    same = type(budget) is type(paper[0]) and math.isclose(budget.eps, paper[0].eps, rel_tol=1e-6)
    return paper[2] if same and steps == paper[1] else 2.5 * budget.eps / max(steps, 1)
