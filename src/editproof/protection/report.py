"""What is said of a protected photo: the JSON beside it, which stays private, and the claim."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from editproof import __version__
from editproof.budgets import Budget
from editproof.editors import EDITORS
from editproof.errors import AlreadyProtected
from editproof.methods.method import SHARED
from editproof.protection.apply import budget_at, budget_in_effect, get_method, own_knobs

PROTECTION = 1  # raised where the same photo, settings and weights come out otherwise than before
LONGEST = 4_000_000  # bytes of a report
CLAIM = (
    "Measured against {measured}: the effect on {unmeasured} is unknown until measured. "
    "Protection raises the cost of editing and never makes it impossible; "
    "a public one-pass network can be learnt and inverted."
)


def effective(
    method: str, arguments: Mapping[str, Any], budget: Budget | None, size: tuple[int, int], working: tuple[int, int]
) -> dict[str, Any]:
    """Every setting that a method ran with, its defaults included, in what JSON can say.

    The budget is that at the photo's own `size`, the step size that at the `working` size (both height, width); of a
    step size that changes it is the first and the last.
    """
    row = get_method(method)
    defaults = {"prompt": "", "steps": row.steps, "seed": 0}
    skipped = ("budget", "callback")
    shared = {n: v for n, v in {**defaults, **arguments}.items() if n in SHARED and n not in skipped}
    own = {n: v for n, v in {**own_knobs(method), **arguments}.items() if n not in SHARED}
    own = {n: str(v) if isinstance(v, Path) else v for n, v in own.items()}
    budget = budget_in_effect(method, budget, size, arguments)
    working_budget = budget_at(working, budget, size)
    if row.paper and working_budget is not None:
        step = row.step(own["step_size"], own["momentum"], working_budget, shared["steps"], *working)
        own["step_size"] = [step(0), step(shared["steps"] - 1)] if callable(step) else step
    described = None if budget is None else {"norm": type(budget).__name__, "eps": budget.eps}
    return {"budget": described, **shared, "settings": own}


def protected_share(mask: Tensor | None) -> float:
    """The share of the picture that the editor may not repaint, and that is therefore protected."""
    return 1.0 if mask is None else round(1 - mask.double().mean().item(), 6)


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


def read_report(path: Path) -> dict[str, Any]:
    """The report in a file; empty where there is none."""
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:  # a pipe would keep us waiting
            return {}
        report = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(report, dict) or not {"photo", "protected", "measured_against"} <= report.keys():
        return {}
    named = all(isinstance(report[key], str) and Path(report[key]).name for key in ("photo", "protected"))
    return report if named else {}  # others write JSON, too


def check_unprotected(photo: Path, marked: bool, what: str = "photo") -> None:
    """Raise AlreadyProtected if a photo (`what` it is called) is marked, or protected as a report beside it says."""
    report = photo.with_suffix(".json")
    if marked:
        raise AlreadyProtected(f"{what} '{photo}' is protected already (it holds the mark); allowed: --force")
    if report != photo and read_report(report).get("protected") == photo.name:
        raise AlreadyProtected(
            f"{what} '{photo}' is protected already (so says '{report.name}' beside it); allowed: --force"
        )
