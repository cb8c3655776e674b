"""What programs may ask of a method beside photos and masks: the rest is refused in one line before any work."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editproof.counters.transform import check_transform
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods.sizes import check_sizes
from editproof.parsing import check_seed

if TYPE_CHECKING:
    from editproof.methods.method import Method

MOST = 1_000_000  # of a setting that is a number
SHARED = ("prompt", "seed", "steps", "callback")


def check_shared(asked: Mapping[str, Any]) -> None:
    """Raise UserError for a prompt, seed, number of steps or callback of another kind; what is missing is right."""
    prompt, seed, steps = asked.get("prompt", ""), asked.get("seed", 0), asked.get("steps")
    if not isinstance(prompt, str):
        raise UserError(f"prompt {prompt!r}; allowed: text")
    check_seed(seed)
    if steps is not None and (not _is_whole(steps) or steps < 1):
        raise UserError(f"steps {steps!r}; allowed: a whole number of at least 1, or None")
    if asked.get("callback") is not None and not callable(asked["callback"]):
        raise UserError(f"callback {asked['callback']!r}; allowed: a function of step, steps and loss")


def check_editor(editor: object) -> None:
    """Raise UserError for an editor that is none, such as its name."""
    if editor is not None and not isinstance(editor, Editor):
        raise UserError(f"editor {editor!r}; allowed: what load_editor gives, or None")


def check_setting(method: "Method", name: str, value: Any) -> None:
    """Raise UserError for a setting that a method has not, or a value that it is not annotated to take: counts are
    above 0, other numbers at least 0."""
    if name not in method.settings:
        allowed = ", ".join(method.settings) or "none"
        raise UserError(f"method '{method.name}' has no setting '{name}'; allowed: {allowed}")
    annotation = method.settings[name].annotation
    kind, _, optional = (annotation.__name__ if isinstance(annotation, type) else str(annotation)).partition(" | ")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    allowed, usable = {
        "int": ("a whole number above 0", number and isinstance(value, int) and value > 0),
        "float": (f"a number from 0 to {MOST:,}", number and 0 <= value <= MOST),
        "Step": (f"a number from 0 to {MOST:,}", callable(value) or (number and 0 <= value <= MOST)),
        "Transform": ("counters, such as none,jpeg-diff:75", callable(value) or isinstance(value, str)),
        "str": ("text", isinstance(value, str | Path)),
        "bool": ("True or False", isinstance(value, bool)),
    }.get(kind.strip("'\""), ("what it is annotated with", True))  # other kinds are the method's own to check
    if name == "sizes" and isinstance(value, str):
        check_sizes(value)
    if kind == "Transform" and isinstance(value, str):
        check_transform(value)
    if not usable and not (optional.startswith("None") and value is None):
        raise UserError(f"setting {name}={value!r} of '{method.name}' cannot be used; allowed: {allowed}")


def _is_whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)
