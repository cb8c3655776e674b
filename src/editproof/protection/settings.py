"""How to protect photos and clips: one object, checked when it is made, and the task that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any

import torch

from editproof.budgets import Budget, as_budget
from editproof.editors import check_plan, check_size, load_editor, pick_device
from editproof.errors import UserError
from editproof.immunizer.network import ready_immunizer
from editproof.methods import PRESET_SIZES
from editproof.methods.asked import check_shared
from editproof.photo.formats import chosen_format
from editproof.photo.masks import check_inverted
from editproof.photo.metadata import KEEP, check_metadata
from editproof.protection.apply import (
    DEFAULT_BUDGET,
    DEFAULT_EDITOR,
    DEFAULT_METHOD,
    budget_in_effect,
    check_steps,
    get_method,
    method_settings,
    weights_digest,
)
from editproof.protection.task import MEANT, Task
from editproof.surroundings import undisturbed

TRUTH, FILE, TEXT = "True or False", "the path of a file, or None", "a name, or None"
KINDS: dict[str, tuple[type | UnionType, str]] = {  # of settings that nothing else looks at so soon
    "method": (str, "a name"), "device": (str | torch.device | None, TEXT), "mask": (str | Path | None, FILE),
    "credentials": (str | Path | None, FILE), "knobs": (Mapping | None, "names with values, or None"),
    "invert_mask": (bool, TRUTH), "compile": (bool, TRUTH), "force": (bool, TRUTH),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProtectSettings:
    """How to protect photos and clips.

    Args:
        method: A name in METHODS.
        editor: To protect against: a name in EDITORS, a hub id or a folder; None: tiny-inpaint, for methods that need
            one.
        scheduler: A name in SCHEDULERS; None: the one that the editor came with.
        plan: Where weights are, a name in PLANS; None: what fits.
        compile: Whether a GPU records what gradients take.
        mask: A file (white = the editor may repaint), "auto" (people are kept), or None: everything is protected.
        invert_mask: Black = the editor may repaint.
        budget: The largest change; a number is the eps of Linf. An L2 budget is meant at 512x512 and scaled with each
            photo's size. None: the method's own (see `budget_in_effect`).
        prompt: What the editor is expected to be told.
        steps: Of the optimisation; None: the preset's, otherwise the paper's.
        preset: A name in PRESETS, or None.
        seed: Same seed, same machine: same result.
        device: "cuda", "mps" or "cpu"; None: the best there is.
        knobs: The method's own settings.
        force: Protect again what is protected already.
        format: Of photos: a name in FORMATS, or "same": the photo's own.
        quality: Of lossy formats, 1 to 100.
        credentials: A PEM file to sign results with.
        metadata: "keep", "no-place" (without coordinates and names of places) or "strip" (nothing but a photo's colour
            profile, a clip's languages and the times of its chapters).
        size: Photos are worked on at the area of size x size pixels; None: at the size at which the editor sees them
            (see `editproof.editors.attacker_size`), or at the preset's.

    Raises:
        UserError: For settings that a method does not have, or that would change nothing.
    """

    method: str = DEFAULT_METHOD
    editor: str | None = None
    scheduler: str | None = None
    plan: str | None = None
    compile: bool = True
    mask: str | Path | None = None
    invert_mask: bool = False
    budget: Budget | float | None = DEFAULT_BUDGET
    prompt: str = ""
    steps: int | None = None
    preset: str | None = None
    seed: int = 0
    device: str | None = None
    knobs: Mapping[str, Any] | None = None
    force: bool = False
    format: str = "png"
    quality: int | None = None
    credentials: str | Path | None = None
    metadata: str = KEEP
    size: int | None = None

    limit: Budget | None = field(init=False, repr=False, compare=False)  # `budget`, as a Budget

    def __post_init__(self) -> None:
        for name, (kind, allowed) in KINDS.items():
            if not isinstance(value := getattr(self, name), kind) or value == "":
                raise UserError(f"{name} {value!r}; allowed: {allowed}")
        method = get_method(self.method)
        check_shared({"prompt": self.prompt, "seed": self.seed, "steps": self.steps})
        method_settings(self.method, self.preset, self.steps, self.knobs or {})
        check_steps(self.method, self.steps)
        if self.size is None:
            object.__setattr__(self, "size", PRESET_SIZES.get(self.preset or ""))
        object.__setattr__(self, "limit", as_budget(self.budget))
        unused = "" if self.needs_editor else f"method '{self.method}' uses no editor, so"
        if unused and self.editor not in (None, DEFAULT_EDITOR):
            raise UserError(f"{unused} '{self.editor}' would change nothing; allowed: no --editor")
        for option in ("scheduler", "plan"):
            if unused and getattr(self, option) is not None:
                raise UserError(
                    f"{unused} {option} '{getattr(self, option)}' would change nothing; allowed: no --{option}"
                )
        if self.plan is not None:
            check_plan(self.plan, self.method, method.first_block)
        if self.size is not None:
            check_size(self.size)
        object.__setattr__(self, "format", chosen_format(self.format, self.quality))  # jpg is jpeg
        check_metadata(self.metadata)
        if self.invert_mask:
            check_inverted(self.mask, self.invert_mask)

    @cached_property
    def needs_editor(self) -> bool:
        """Whether an editor has to be loaded."""
        return get_method(self.method).needs_editor(self.knobs or {})

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The method's keyword arguments: prompt, seed, and what the preset, `steps` and `knobs` say."""
        own = method_settings(self.method, self.preset, self.steps, self.knobs or {})
        return {"prompt": self.prompt, "seed": self.seed, **own}

    def as_json(self, mask: str | None, **more: Any) -> dict[str, Any]:
        """All that a result depends on, in what JSON can say; `mask` says which it is."""
        budget, arguments = self.limit, self.arguments
        weights = weights_digest(self.method, arguments)
        return {
            "method": self.method, "editor": self.editor, "scheduler": self.scheduler, "plan": self.plan, "mask": mask,
            "invert_mask": self.invert_mask,
            "budget": None if budget is None else [type(budget).__name__, budget.eps],
            "prompt": self.prompt, "seed": self.seed, "size": self.size, "weights_sha256": weights,
            "settings": {n: _in_json(v) for n, v in arguments.items() if n not in ("prompt", "seed")}, **more,
        }  # fmt: skip


@undisturbed
def load_task(settings: ProtectSettings, request: Mapping[str, Any] | None = None, **more: Any) -> Task:
    """The task: the editor loaded, its budget resolved. `request` and `more` are fields of Task."""
    loaded = None
    if settings.needs_editor:
        loaded = load_editor(
            settings.editor or DEFAULT_EDITOR,
            device=settings.device,
            scheduler=settings.scheduler,
            plan=settings.plan,
            compile=settings.compile,
            size=settings.size,
        )
    told = settings.arguments
    if told.get("bits", 32) != 32:  # of a one-pass network, which not every machine can: said before any photo
        ready_immunizer(told.get("weights"), told.get("batch_norm"), pick_device(settings.device), told["bits"])
    budget = budget_in_effect(settings.method, settings.limit, MEANT, settings.arguments)
    return Task(settings, loaded, budget, request=request, **more)


def _in_json(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
