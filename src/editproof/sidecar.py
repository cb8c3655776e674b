"""What is said of a protected photo: the JSON beside it, and the claim."""

import inspect
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor

from editproof import __version__
from editproof.budgets import Budget
from editproof.editors import EDITORS
from editproof.protection import SHARED, get_method, own_knobs

CLAIM = (
    "Measured against {measured}: the effect on {unmeasured} is unknown until measured. "
    "Protection raises the cost of editing and never makes it impossible; "
    "a public one-pass network can be learnt and inverted."
)


def effective(method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that a method ran with, its defaults included, in what JSON can say."""
    defaults = {n: p.default for n, p in inspect.signature(get_method(method)).parameters.items() if n in SHARED[3:]}
    skipped = ("budget", "callback")
    shared = {n: v for n, v in {**defaults, **arguments}.items() if n in SHARED and n not in skipped}
    own = {n: v for n, v in {**own_knobs(method), **arguments}.items() if n not in SHARED}
    plain = {n: v if isinstance(v, int | float | str | None) else repr(v) for n, v in own.items()}
    return {**shared, "settings": plain}


def describe_budget(budget: Budget | None) -> dict[str, Any] | None:
    """A budget in what JSON can say; None is none."""
    return None if budget is None else {"norm": type(budget).__name__, "eps": budget.eps}


def protected_share(mask: Tensor | None) -> float:
    """The share of the picture that the editor may not repaint, and that is therefore protected."""
    return 1.0 if mask is None else round(1 - mask.mean().item(), 4)


def claim(editor: str) -> dict[str, Any]:
    """Where the effect of our methods and weights has been measured, of `editor`, and what may be said about it."""
    measured = [editor] if editor in EDITORS and EDITORS[editor].embedded else []
    return {
        "measured_against": measured,
        "claim": CLAIM.format(
            measured=f"the embedded editor {editor} only" if measured else "no editor yet",
            unmeasured="Stable Diffusion, FLUX or online services" if measured else "any editor",
        ),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on, without importing any of the packages."""
    found = {"editproof": __version__}
    for name in ("torch", "diffusers", "transformers", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found
