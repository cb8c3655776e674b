"""One row a method: its function and all that is known of it, written beside the function with `@method(...)`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from editproof.budgets import Budget, Linf, as_budget
from editproof.counters.transform import make_transform
from editproof.errors import UserError
from editproof.immunizer.network import embedded
from editproof.methods.asked import check_editor, check_setting, check_shared
from editproof.methods.checks import kept_pixels
from editproof.methods.sizes import at_all_sizes
from editproof.pgd import Callback, Objective, Paper, Step, default_step, pgd
from editproof.photo.given import as_images, as_mask
from editproof.randomness import generators
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor

SHARED = ("editor", "images", "mask", "prompt", "budget", "steps", "seed", "callback")
NEEDS = {  # what an editor has to be: in a table's words, and in a sentence about one that is not
    "none": ("none", ""),
    "any": ("any", ""),
    "masked": ("inpainting", "edits the whole picture"),
    "in_context": ("in-context", "does not read the photo as tokens"),
    "variational": ("variational", "has an autoencoder that gives one code, no distribution"),
}


@dataclass(frozen=True)
class Descent:
    """How a method optimises, the same settings for each that does.

    step_size: None is the paper's step at the paper's budget and steps, otherwise 2.5 x eps / steps.
    momentum: the share of the old direction that is kept.
    start: None (the photo, or a random point of the budget where the paper says so) or "immunizer", what the embedded
    one makes of the photo.
    transform: counters that the protection should survive, see `editproof.counters.transform.make_transform`.
    sizes: sides of squares, such as "512,768,1024", in whose area the editor may see the photo too: each step draws
    one; "all": the usual ones (see methods/sizes.py).
    """

    step_size: "Step | None" = None
    momentum: float = 0.0
    start: str | None = None
    transform: "Transform | None" = None
    sizes: str | None = None


@dataclass(frozen=True)
class Given:
    """What a method's function is given, checked: photos, what may change in them, how far and for how long."""

    method: "Method"
    editor: Any  # an editproof.editors.pipeline.Editor; None for methods that need none
    images: Tensor  # (B, 3, H, W) in [0, 1]
    mask: Tensor | None  # (1 or B, 1, H, W), 1 = the editor may repaint
    kept: Tensor | None  # (B, 1, H, W), 1 where the photo may change; None: everywhere
    prompt: str
    budget: Any  # a Budget; None for a one-pass network that is asked to keep to its own
    steps: int
    seed: int
    callback: Callback | None
    descent: Descent
    own: dict[str, Any] = field(default_factory=dict)  # the method's own settings
    asked: list[Objective] | None = None  # where `minimise` leaves the objective instead of descending

    @property
    def weight(self) -> Tensor | float:
        """What a pixel counts in a loss over what may change: `kept`, or 1."""
        return 1.0 if self.kept is None else self.kept


@dataclass(frozen=True)
class Method:
    """A protection. Called like a function: `(editor, images, *, mask, prompt, budget, steps, seed, callback, ...)`."""

    name: str
    function: Callable[..., Tensor]
    needs: Literal["none", "any", "masked", "in_context", "variational"] = "any"  # of an editor, see NEEDS
    paper: Paper | Callable[[int, int], Paper] | None = None  # where one optimises; may depend on (height, width)
    momentum: float = 0.0
    momentum_step: float | None = (
        None  # the step, in eps, where there is momentum and none is given; None: no such rule
    )
    fast: dict[str, Any] = field(default_factory=dict)  # --preset fast: settings that fit a CPU
    without_editor: str | None = None  # a setting that names what is attacked instead of an editor
    needs_faces: bool = False  # in every photo
    one_pass: bool = False  # a trained network's, chosen by the setting `weights`, or the one embedded for its name
    told: bool = False  # of one pass: its network was trained with masks told, and works worse without one
    required: Mapping[str, str] = field(default_factory=dict)  # settings without which it cannot run: what they may be
    first_block: bool = False  # the first block of an editor's transformer is enough (--plan first-block)
    compared: bool = False  # by `editproof compare` if no methods are named

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.function.__doc__ or ""

    @property
    def title(self) -> str:
        """What it does, and its paper: the first line of its file."""
        return (inspect.getdoc(inspect.getmodule(self.function)) or self.__doc__).splitlines()[0].rstrip(".")

    @property
    def settings(self) -> dict[str, inspect.Parameter]:
        """What it can be told beyond the shared arguments, by name."""
        shared = dict(inspect.signature(Descent).parameters) if self.paper else {}
        if shared:
            shared["momentum"] = shared["momentum"].replace(default=self.momentum)
        return shared | dict(list(inspect.signature(self.function).parameters.items())[1:])

    @property
    def steps(self) -> int:
        """The paper's steps; 1 where nothing is optimised."""
        return self.values(512, 512)[1] if self.paper else 1

    @property
    def __signature__(self) -> inspect.Signature:
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in self.settings.values()]
        shared = [parameter for name, parameter in _CALL.parameters.items() if name in SHARED]
        return inspect.Signature(
            [p.replace(default=self.steps) if p.name == "steps" else p for p in shared] + own, return_annotation=Tensor
        )

    def values(self, height: int, width: int) -> Paper:
        """The paper's budget, steps and step size for photos of this size."""
        assert self.paper is not None, f"{self.name} does not optimise"
        return self.paper(height, width) if callable(self.paper) else self.paper

    def step(self, asked: Step | None, momentum: float, budget: Budget, steps: int, height: int, width: int) -> Step:
        """The step size that is taken for photos of this size: the one asked for, or see `Descent`."""
        if asked is None and momentum > 0 and self.momentum_step is not None:
            return self.momentum_step * budget.eps
        return default_step(asked, budget, steps, self.values(height, width))

    def needs_editor(self, settings: Mapping[str, Any]) -> bool:
        """Whether it needs an editor when it is told these settings."""
        instead = self.without_editor is not None and settings.get(self.without_editor) is not None
        return self.needs != "none" and not instead

    def network(self, settings: Mapping[str, Any]) -> str | Path:
        """Where a one-pass method reads its network from: the setting `weights`, or the folder of its embedded one."""
        return settings.get("weights") or embedded(self.name)

    def check_required(self, settings: Mapping[str, Any]) -> None:
        """UserError if a setting is missing without which it cannot run."""
        for name, allowed in self.required.items():
            if settings.get(name) is None:
                raise UserError(f"method '{self.name}' needs {name}; allowed: {name}={allowed}")

    def works_on(self, editor: "Editor") -> bool:
        """Whether it can protect against an editor."""
        return self.needs in ("none", "any") or bool(getattr(editor, self.needs))

    def default_budget(self, height: int, width: int) -> Budget:
        """The budget that is kept to if none is given: the paper's, otherwise 8/255."""
        return self.values(height, width)[0] if self.paper else Linf(8 / 255)

    @undisturbed
    def __call__(
        self,
        editor: "Editor | None",
        images: Tensor,
        *,
        mask: Tensor | None = None,
        prompt: str = "",
        budget: Budget | Literal["default"] | None = "default",
        steps: int | None = None,
        seed: int = 0,
        callback: Callback | None = None,
        **settings: Any,
    ) -> Tensor:
        """Protect photos against an editor.

        Args:
            editor: What to protect against; methods that need none take None.
            images: (B, 3, H, W) in [0, 1], or what else as_images takes.
            mask: (1 or B, 1, H, W), 1 = the editor may repaint; only pixels with 0 change. None: all may change.
            prompt: What the editor is expected to be told.
            budget: How far a photo may change; by default the paper's, or 8/255. None: for a one-pass network the bound
                that it was trained with (no bound, if none), otherwise the default.
            steps: Of the optimisation; None is the paper's number. Without effect where nothing is optimised.
            seed: Each photo draws from a generator of its own, so that a result does not depend on its batch.
            callback: Told (step from 1, steps, loss) after each step.
            settings: The method's own, see `settings`.

        Returns:
            The protected photos, (B, 3, H, W) in [0, 1], on the 8-bit grid, within the budget.

        Raises:
            UserError: For an editor, a mask, photos or settings that the method cannot work with.
        """
        check_shared({"prompt": prompt, "seed": seed, "steps": steps, "callback": callback})
        check_editor(editor)
        self.check_required(settings)
        for name, value in settings.items():
            check_setting(self, name, value)
        images = as_images(images)
        mask = as_mask(mask, images)
        descent = Descent(
            **{"momentum": self.momentum, **{name: settings.pop(name) for name in _DESCENT if name in settings}}
        )
        if self.needs_editor(settings):
            self.check(editor)
        if budget == "default" or (budget is None and not self.one_pass):
            budget = self.default_budget(*images.shape[-2:])
        budget = as_budget(budget)
        given = Given(
            self, editor, images, mask, kept_pixels(images, mask), prompt, budget,
            self.steps if steps is None else steps, seed, callback, descent, settings,
        )  # fmt: skip
        return self.function(given, **settings)

    def check(self, editor: "Editor | None") -> None:
        """UserError if it cannot protect against this editor."""
        if editor is None:
            raise UserError(f"{self.name} needs an editor to attack: give one (see `editproof list editors`)")
        if not self.works_on(editor):
            kind, why_not = NEEDS[self.needs]
            raise UserError(f"{self.name} works on {kind} editors only, and {editor.name} {why_not}")


_CALL = inspect.signature(Method.__call__)
_DESCENT = tuple(inspect.signature(Descent).parameters)


def method(name: str, **known: Any) -> Callable[[Callable[..., Tensor]], Method]:
    """A decorator: the function below is the method `name`, and `known` are the other fields of its row."""
    return lambda function: Method(name, function, **known)


def minimise(
    objective: Objective,
    given: Given,
    *,
    random_start: bool = False,
    samples: int = 1,
    within: Any = None,
) -> Tensor:
    """PGD on what a method was given.

    Args:
        objective: Photos (B, 3, H, W) -> one loss each (B,); it may draw anew at each call.
        given: What the method's function was called with.
        random_start: Start at a random point of the budget instead of at the photos.
        samples: The gradient is the mean over this many calls of the objective.
        within: A budget of the method's own that keeps within the given one.

    Returns:
        The protected photos, (B, 3, H, W) in [0, 1], on the 8-bit grid, within the budget.
    """
    from editproof.methods.starts import first

    images, descent = given.images, given.descent
    if given.asked is not None:
        given.asked.append(objective)
        return images
    if descent.sizes is not None:
        objective = at_all_sizes(objective, given)
    return pgd(
        objective,
        images,
        within or given.budget,
        steps=given.steps,
        step_size=given.method.step(descent.step_size, descent.momentum, given.budget, given.steps, *images.shape[-2:]),
        support=given.kept,
        start=first(descent.start, images, given.mask, given.budget),
        random_start=random_start,
        samples=samples,
        momentum=descent.momentum,
        transform=make_transform(descent.transform, given.editor, given.seed),
        generator=generators(given.seed, len(images)),
        callback=given.callback,
    )
