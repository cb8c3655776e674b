"""What is asked of a protection, for photos and clips alike: checked, written down, and made ready to run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editproof.budgets import Budget
from editproof.editors import check_plan, check_size, load_editor
from editproof.errors import UserError
from editproof.protection.apply import (
    DEFAULT_BUDGET,
    DEFAULT_EDITOR,
    DEFAULT_METHOD,
    get_method,
    method_settings,
)
from editproof.protection.task import Task


@dataclass(frozen=True)
class Asked:
    """How to protect, as protect_photos is told."""

    method: str = DEFAULT_METHOD
    editor: str | None = None
    scheduler: str | None = None
    plan: str | None = None
    compile: bool = True
    mask: str | Path | None = None
    invert_mask: bool = False
    budget: Budget | None = DEFAULT_BUDGET
    prompt: str = ""
    steps: int | None = None
    preset: str | None = None
    seed: int = 0
    device: str | None = None
    knobs: Mapping[str, Any] | None = None
    size: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The method's keyword arguments. Raises UserError."""
        return method_settings(self.method, self.preset, self.steps, self.knobs or {})


def check_asked(asked: Asked) -> None:
    """Raise UserError for settings that a method does not have, and for an editor, scheduler or plan without effect."""
    method, editor = asked.method, asked.editor
    method_settings(method, asked.preset, asked.steps, asked.knobs or {})
    needs_editor = get_method(method).needs != "none"
    if editor is not None and not needs_editor and editor != DEFAULT_EDITOR:
        raise UserError(f"method '{method}' uses no editor, so '{editor}' would change nothing; allowed: no --editor")
    for option, value in (("scheduler", asked.scheduler), ("plan", asked.plan)):
        if value is not None and not needs_editor:
            raise UserError(
                f"method '{method}' uses no editor, so {option} '{value}' would change nothing; allowed: no --{option}"
            )
    check_plan(asked.plan, method, get_method(method).first_block)
    check_size(asked.size)


def written(asked: Asked, mask: str | None, **more: Any) -> dict[str, Any]:
    """What is asked, in what JSON can say; `mask` says which it is."""
    budget = asked.budget
    return {
        "method": asked.method, "editor": asked.editor, "scheduler": asked.scheduler, "plan": asked.plan, "mask": mask,
        "invert_mask": asked.invert_mask, "budget": None if budget is None else [type(budget).__name__, budget.eps],
        "prompt": asked.prompt, "seed": asked.seed, "size": asked.size,
        "settings": {name: _plain(value) for name, value in asked.settings.items()}, **more,
    }  # fmt: skip


def load_task(asked: Asked, **more: Any) -> Task:
    """The task, its editor loaded; `more` are fields of Task."""
    settings, loaded = asked.settings, None
    if get_method(asked.method).needs != "none":
        loaded = load_editor(
            asked.editor or DEFAULT_EDITOR,
            device=asked.device,
            scheduler=asked.scheduler,
            plan=asked.plan,
            compile=asked.compile,
            size=asked.size,
        )
    return Task(
        method=asked.method, editor=loaded, side=asked.size, budget=asked.budget,
        arguments={"prompt": asked.prompt, "seed": asked.seed, **settings},
        against=loaded.name if loaded is not None else settings.get("weights") or DEFAULT_EDITOR,
        preset=asked.preset, device=asked.device, mask=asked.mask, invert_mask=asked.invert_mask, **more,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
