"""What a benchmark protects with: a method and its settings in one text, a budget, or a visibility to be matched."""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.bench.config import check_editor_name
from editproof.budgets import L2, LEVELS, Budget, Linf
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.metrics import METRICS
from editproof.parsing import parse_eps, parse_number, parse_settings
from editproof.pgd import Callback
from editproof.protection.apply import DEFAULT_METHOD, get_method, method_settings, protect, weights_digest
from editproof.randomness import generators, rand

NONE = "none"  # the photo as it is: what a counter-attack alone does to an edit
NO_BUDGET = "0"
PROTECT_SEED = 1_000_000  # apart from those of edits, so that no method has seen the noise of an edit
PAPER = "paper"
HIGHEST_LEVEL = 64  # of 255: how far the search for a visibility goes
CALLS = ("steps", "samples", "timesteps", "denoising_steps")  # settings that multiply what a method costs
TOLD = {"told": True, "untold": False}


@dataclass(frozen=True)
class MethodSpec:
    """A method with its settings, as written: "immunizer", "photoguard-encoder:steps=100:on=tiny-inpaint"."""

    label: str  # the text, of files in it only the names
    name: str
    settings: dict[str, Any]  # the method's keyword arguments
    on: str | None  # the editor to protect against; None: the one that is tested
    told: bool  # the method is told what an inpainting editor will repaint
    identity: tuple[Any, ...]  # what its result depends on

    @property
    def needs_editor(self) -> bool:
        """Whether an editor has to be loaded to protect."""
        return self.name != NONE and METHODS[self.name].needs_editor(self.settings)

    @property
    def calls(self) -> float:
        """About how often a network is called for a photo, a backward pass counting twice: to tell the time left."""
        parameters = inspect.signature(METHODS[self.name]).parameters
        default = {name: parameter.default for name, parameter in parameters.items()}
        found = {name: self.settings.get(name, default.get(name, 1)) for name in CALLS}
        return 1.0 if found["steps"] == 1 else 3.0 * math.prod(found.values())


def parse_method(text: str, preset: str | None) -> MethodSpec:
    """The method of a text NAME[:setting=value...]. Raises UserError for what it does not know.

    Beside a method's own settings and its steps: prompt= (what it is told will be asked for; nothing if not given),
    mask=told or mask=untold, on=EDITOR. Without mask= every method is told the mask, but for the default, which can do
    without.
    """
    name, *pairs = re.split(r":(?=[a-z_]+=)", text)  # a setting may hold a colon: transform=jpeg-diff:75
    settings = parse_settings(pairs)
    if name == NONE:
        if settings:
            raise UserError(f"method '{text}': '{NONE}' has no settings")
        return MethodSpec(text, name, {}, None, False, (name,))
    method = get_method(name)
    on, prompt = settings.pop("on", None), str(settings.pop("prompt", ""))
    told = settings.pop("mask", "untold" if name == DEFAULT_METHOD else "told")
    if told not in TOLD:
        raise UserError(f"method '{text}': mask={told}; allowed: {' or '.join(TOLD)}")
    if on is not None:
        check_editor_name(str(on))
        if not method.needs_editor(settings):
            raise UserError(f"method '{text}' uses no editor; allowed: no on=")
    steps = settings.pop("steps", None)
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise UserError(f"method '{text}': steps={steps}; allowed: a whole number of at least 1")
    label = ":".join(part if "=" not in part else _short(part) for part in text.split(":"))
    arguments = {"prompt": prompt, **method_settings(name, preset, steps, settings)}
    return MethodSpec(label, name, arguments, on, TOLD[told], (name, arguments, weights_digest(name, arguments)))


def protect_with(
    spec: MethodSpec,
    images: Tensor,
    editor: Editor | None,
    *,
    mask: Tensor | None,
    budget: Budget | None,
    seed: int = PROTECT_SEED,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Photos (B,3,H,W) in [0,1] protected as a text says, against an editor; `none` leaves them as they are.

    mask (B,1,H,W), 1 = the editor may repaint, reaches the method only where it is told.
    """
    if spec.name == NONE:
        return images
    return protect(
        images, method=spec.name, editor=editor if spec.needs_editor else None, budget=budget, device=device,
        mask=mask if spec.told else None, seed=seed, callback=callback, **spec.settings,
    )  # fmt: skip


def _short(pair: str) -> str:
    name, _, value = pair.partition("=")
    return f"{name}={Path(value).name}" if Path(value).is_absolute() else pair


def parse_bench_budget(text: str) -> Budget | None:
    """ "8/255" or "0.03" (Linf), "l2:8" (at 512x512), "paper" (None). Raises UserError for anything else."""
    if text == PAPER:
        return None
    if text.startswith("l2:"):
        try:
            return L2(parse_number(text[3:], "budget", math.inf))
        except UserError:
            raise UserError(f"budget '{text}' is no L2 budget; allowed: l2: and a number above 0") from None
    return Linf(parse_eps(text, "budget"))


def parse_match(text: str) -> tuple[str, float]:
    """ "psnr=32" -> ("psnr", 32.0), for the metrics of visibility. Raises UserError for anything else."""
    name, _, value = text.partition("=")
    metric = METRICS.get(name)
    allowed = [known for known, info in METRICS.items() if info.group == "visibility"]
    if metric is None or metric.group != "visibility":
        raise UserError(f"match '{text}': unknown metric '{name}'; allowed: {', '.join(allowed)}")
    try:
        target = float(value)
    except ValueError:
        target = math.nan
    if not metric.low < target < metric.high:
        raise UserError(f"match '{text}'; allowed: {name}= a number between {metric.low:g} and {metric.high:g}")
    return name, target


def match_visibility(
    protect: Callable[[list[int], int], Tensor],
    originals: Tensor,
    measure: Callable[[Tensor], Tensor],
    target: float,
    fainter: Callable[[Tensor, float], Tensor],
    seed: int,
) -> tuple[Tensor, list[float]]:
    """Protected photos that are as visible as `target`, each for itself, and the eps that took (B, in [0,1]).

    protect: (photos by number, level) -> those protected within Linf(level / 255). measure: all photos (B,3,H,W) ->
    (B,). fainter: (values, target) -> where a photo is less visible than wanted.

    The lowest level at which a photo is visible enough is searched by bisection, up to HIGHEST_LEVEL. Its perturbation
    is then bounded again, to a level between two whole ones: as many pixels, drawn once, are held to the lower one as
    it takes.
    """
    n = len(originals)
    low, high = [0] * n, [HIGHEST_LEVEL + 1] * n  # too faint, visible enough (or never tried)
    results = originals.clone()
    levels = [8] * n
    while open_ones := [i for i in range(n) if high[i] - low[i] > 1]:
        for level in sorted({levels[i] for i in open_ones}):
            chosen = [i for i in open_ones if levels[i] == level]
            tried = originals.clone()
            tried[chosen] = protect(chosen, level)
            faint = fainter(measure(tried), target)
            for i in chosen:
                if faint[i]:
                    low[i] = level
                    results[i] = tried[i] if level == HIGHEST_LEVEL else results[i]
                else:
                    high[i], results[i] = level, tried[i]
        for i in open_ones:  # twice as high until one is visible enough, then the middle
            known = high[i] <= HIGHEST_LEVEL
            levels[i] = (low[i] + high[i]) // 2 if known else min(2 * low[i], HIGHEST_LEVEL)
    top = torch.tensor([min(level, HIGHEST_LEVEL) for level in high], dtype=torch.float32).view(-1, 1, 1, 1)
    order = rand(originals.shape[1:], generators(seed, 1))  # the same for all photos
    lower, upper = torch.zeros_like(top), top
    bound = top
    for _ in range(16):
        faint = fainter(measure(_bounded(results, originals, bound, order)), target).view(-1, 1, 1, 1)
        lower, upper = torch.where(faint, bound, lower), torch.where(faint, upper, bound)
        bound = (lower + upper) / 2
    return _bounded(results, originals, upper, order), (upper.flatten() / LEVELS).tolist()


def _bounded(images: Tensor, originals: Tensor, bound: Tensor, order: Tensor) -> Tensor:
    """`images` within `bound` (B,1,1,1, in levels) of `originals`; of 7.3, three tenths of the values may move by 8."""
    reach = (bound + order).floor().minimum(bound.ceil())
    levels = ((images - originals) * LEVELS).round()
    return ((originals * LEVELS).round() + levels.maximum(-reach).minimum(reach)) / LEVELS
