"""What programs may ask for beside photos and masks: refused in one line before any work."""

from collections.abc import Mapping
from typing import Any

from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.parsing import LARGEST_SEED

SHARED = ("prompt", "seed", "steps", "callback")


def check_shared(asked: Mapping[str, Any]) -> None:
    """Raise UserError for a prompt, seed, number of steps or callback of another kind; what is missing is right."""
    prompt, seed, steps = asked.get("prompt", ""), asked.get("seed", 0), asked.get("steps")
    if not isinstance(prompt, str):
        raise UserError(f"prompt {prompt!r}; allowed: text")
    if not _is_whole(seed) or not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed {seed!r}; allowed: a whole number from 0 to {LARGEST_SEED}")
    if steps is not None and (not _is_whole(steps) or steps < 1):
        raise UserError(f"steps {steps!r}; allowed: a whole number of at least 1, or None")
    if asked.get("callback") is not None and not callable(asked["callback"]):
        raise UserError(f"callback {asked['callback']!r}; allowed: a function of step, steps and loss")


def check_editor(editor: object) -> None:
    """Raise UserError for an editor that is none, such as its name."""
    if editor is not None and not isinstance(editor, Editor):
        raise UserError(f"editor {editor!r}; allowed: what load_editor gives, or None")


def _is_whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)
