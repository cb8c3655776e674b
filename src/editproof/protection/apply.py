"""Protect photos at their own size: work at the editor's size, lift the perturbation, bound it again."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.budgets import L2, LEVELS, Budget, Linf, as_budget, check_budget, grey, norms
from editproof.editors import pick_device
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import digest
from editproof.immunizer.network import load_immunizer, trained_size, weights_file
from editproof.methods import METHODS, PRESETS
from editproof.methods.asked import SHARED, check_editor, check_setting, check_shared
from editproof.methods.method import Method
from editproof.photo.given import as_images, as_mask, is_one
from editproof.photo.masks import AUTO
from editproof.photo.reading import is_grey, to_levels
from editproof.protection.own_size import add
from editproof.resolution import working_copy, working_mask, working_size
from editproof.surroundings import undisturbed

SMALLEST = 64  # pixels along a side: the embedded network does not enlarge photos from here on
DEFAULT_METHOD = "immunizer"
CONTEXT_METHOD = "decontext"  # what is demonstrated against in-context editors
DEFAULT_EDITOR = "tiny-inpaint"
DEFAULT_BUDGET = Linf(8 / 255)


@undisturbed
def protect(
    images: Any,
    *,
    method: str = DEFAULT_METHOD,
    editor: Editor | None = None,
    mask: Any = None,
    budget: Budget | float | None = DEFAULT_BUDGET,
    device: str | torch.device | None = None,
    **settings: Any,
) -> Tensor:
    """Protect photos of any one size, each at its own size: the pixels that `editproof protect` writes for them.

    The method works on an anti-aliased copy at the editor's size; its perturbation is scaled up to the photos' own
    size, bounded again and added there. Grey photos stay grey.

    Args:
        images: (B, 3, H, W) in [0, 1], rounded to 8 bits, or what else `as_images` takes; of one photo without B,
            (3, H, W) comes back.
        method: a name in METHODS.
        editor: what load_editor gives. Without one, the methods that need none work at the size that the immunizer was
            trained at.
        mask: (1 or B, 1, H, W), 1 = the editor may repaint, which is not changed; or what else `as_mask` takes; "auto":
            all but the people that are found; None: everything is protected.
        budget: the largest change; a number is the eps of Linf. An L2 budget holds at the photos' own size. None: see
            budget_in_effect.
        device: for methods without an editor; None: the best there is.
        settings: what the method takes: prompt, steps, seed, callback, its own knobs.

    Raises:
        UserError: for photos, masks and settings that cannot be used, an unknown method, or a missing editor.
    """
    one, images, budget = is_one(images), as_images(images), as_budget(budget)
    check_editor(editor)
    check_shared(settings)
    check_steps(method, settings.get("steps"))
    method_settings(method, None, None, {name: value for name, value in settings.items() if name not in SHARED})
    if isinstance(mask, str) and mask == AUTO:
        from editproof.people.finding import find_people

        mask = find_people(images)
    else:
        mask = as_mask(mask, images)
    height, width = images.shape[-2:]
    size = size_to_work_at(method, editor, settings, (height, width))
    budget = budget_in_effect(method, budget, (height, width), settings)
    levels = [to_levels(image) for image in images]
    delta = perturbation(
        working_copy(torch.stack(levels).permute(0, 3, 1, 2), size),
        method=method,
        editor=editor,
        mask=None if mask is None else working_mask(mask, size),
        budget=budget_at(size, budget, (height, width)),
        device=device,
        **settings,
    )
    keep = [None] * len(images) if mask is None else list((mask < 0.5).expand(len(images), -1, -1, -1)[:, 0].cpu())
    results = [add(x, d, budget, k, is_grey(x)) for x, d, k in zip(levels, delta, keep, strict=True)]
    for result, original in zip(results, levels, strict=True):
        change = result.float() - original
        check_budget(budget, float(change.abs().max()), float(change.norm()) / LEVELS, "a photo")
    protected = torch.stack(results).permute(0, 3, 1, 2).to(images.device) / LEVELS
    return protected[0] if one else protected


def check_steps(method: str, steps: Any) -> None:
    """Raise UserError for steps, other than 1, of a method that optimises nothing."""
    if steps not in (None, 1) and get_method(method).paper is None:
        raise UserError(
            f"method '{method}' optimises nothing, so {steps} steps would change nothing; allowed: no --steps"
        )


def perturbation(
    small: Tensor,
    *,
    method: str,
    editor: Editor | None,
    mask: Tensor | None,
    budget: Budget | None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> Tensor:
    """What a method adds to photos at the size it works at: (B, 3, h, w) in [0, 1] -> the same shape, on the CPU.

    `mask` (1 or B, 1, h, w) and `budget` are those at that size. Raises UserError as protect does.
    """
    function = get_method(method)
    if editor is None and function.needs_editor(settings):
        raise UserError(f"method '{method}' needs an editor; allowed without one: {', '.join(without_editor())}")
    small = small.to(editor.device if editor is not None else pick_device(device))
    hole = None if mask is None else mask.expand(len(small), -1, -1, -1).to(small.device)
    delta = (function(editor, small, mask=hole, budget=budget, **settings) - small).float().cpu()
    if not bool(torch.isfinite(delta).all()):
        raise UserError(
            f"method '{method}' made numbers that are not finite, as damaged weights do; allowed: other weights"
        )
    which = grey(small).cpu()
    return torch.where(which, _in_grey(delta, budget), delta) if which.any() else delta


def _in_grey(delta: Tensor, budget: Budget | None) -> Tensor:
    """A perturbation (B, 3, h, w) of equal channels: their mean, as long as it was before as far as the budget allows.

    A grey photo stays grey.
    """
    mean = delta.mean(1, keepdim=True).expand_as(delta)
    longer = mean * (norms(delta) / norms(mean).clamp_min(1e-12)).clamp(max=3)
    if budget is not None:
        return budget.project(longer)
    reach = delta.abs().amax((1, 2, 3), keepdim=True)
    return longer.maximum(-reach).minimum(reach)


def size_to_work_at(
    method: str,
    editor: Editor | None,
    settings: Mapping[str, Any],
    photo: tuple[int, int],
    side: int | None = None,
) -> tuple[int, int]:
    """The size that a method works at, of a photo's own (both height, width).

    That is the editor's (see Editor.size_for), else the area of `side`, or if None of what its network was trained at,
    the immunizer for a method without a network. For embedded networks, photos from SMALLEST on are not enlarged: half
    of a fine pattern would be lost when it is made smaller again.
    """
    if editor is not None:
        return editor.size_for(*photo)
    row = get_method(method)
    if side is None:
        side = trained_size(row.network(settings) if row.one_pass else None)
        if not (row.one_pass and settings.get("weights")):
            side = min(side, max(SMALLEST, round(math.sqrt(photo[0] * photo[1]))))
    return working_size(*photo, side)


def budget_in_effect(
    method: str, budget: Budget | None, size: tuple[int, int], settings: Mapping[str, Any]
) -> Budget | None:
    """`budget`, or where that is None what the method then keeps to for photos of `size` (height, width).

    That is its paper's, for a one-pass network the bound that its weights were trained with (None if there is none),
    and 8/255 for noise.
    """
    if budget is not None:
        return budget
    if get_method(method).one_pass:
        eps = load_immunizer(get_method(method).network(settings)).trained_eps
        return None if eps is None else Linf(eps)
    return get_method(method).default_budget(*size)


def budget_at(size: tuple[int, int], budget: Budget | None, meant: tuple[int, int]) -> Budget | None:
    """A budget that is `meant` at one (height, width) at another `size`: L2 grows with the square root of the area."""
    if not isinstance(budget, L2):
        return budget
    return L2(budget.eps * (size[0] * size[1] / (meant[0] * meant[1])) ** 0.5)


def weights_digest(method: str, arguments: Mapping[str, Any]) -> str | None:
    """SHA-256 of the file that a one-pass method's network is read from; None for other methods. Raises UserError."""
    if not get_method(method).one_pass:
        return None
    file = weights_file(get_method(method).network(arguments))
    return _digest(file, file.stat().st_mtime_ns, file.stat().st_size)


@lru_cache(maxsize=8)
def _digest(file: Path, changed: int, size: int) -> str:
    return digest(file)


def get_method(name: str) -> Method:
    """The method with this name, or a UserError."""
    if name not in METHODS:
        raise UserError(f"method '{name}' is unknown; allowed: {', '.join(METHODS)}")
    return METHODS[name]


def without_editor() -> list[str]:
    """The methods that need no editor."""
    return [name for name, method in METHODS.items() if method.needs == "none"]


def default_budget(preset: str | None) -> Budget | None:
    """The budget where none is asked for: 8/255, or with a paper's preset None, the method's own."""
    return None if preset in ("paper", "paper-512") else DEFAULT_BUDGET


def own_knobs(method: str) -> dict[str, Any]:
    """What a method can be told beyond the shared settings: name -> default."""
    return {name: parameter.default for name, parameter in get_method(method).settings.items()}


def method_settings(method: str, preset: str | None, steps: int | None, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for a method: the preset's, then what was asked for.

    Raises UserError for unknown names, values of another kind, and what the method cannot do without.
    """
    if preset is not None and preset not in PRESETS:
        raise UserError(f"preset '{preset}' is unknown; allowed: {', '.join(PRESETS)}")
    for name in knobs:
        check_setting(METHODS[method], name, knobs[name])
    METHODS[method].check_required(knobs)
    preset_settings = METHODS[method].fast if preset in ("fast", "sizes") else {}
    if preset == "sizes" and METHODS[method].paper:
        preset_settings = {**preset_settings, "sizes": "all"}
    return {**preset_settings, **({} if steps is None else {"steps": steps}), **knobs}
