"""What a benchmark's rows come to: means, ratios and shares with their uncertainty over photos.

A photo counts once, with the mean over its prompts and seeds: edits of one photo are no independent trials.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from editproof.bench.store import from_json
from editproof.bench.uncertainty import LEVEL, Floats, bootstrap, holm, paired, wilson
from editproof.metrics import METRICS

SIGNIFICANT = 1 - LEVEL
RATIOS = {"disruption": "region-ssim", "edit-disruption": "edit-ssim"}  # and the SSIM that their change is one minus
SHARES = ("success", "kept", "obeyed", "broken", "recognised", "fdfr", "fdfr-fault")  # 0 or 1 for each edit


class Cell(NamedTuple):
    """What a mean is of: all photos, prompts and seeds with these."""

    editor: str
    method: str
    budget: str
    counter: str


@dataclass(frozen=True)
class Estimate:
    """A mean over photos with its 95 % interval; the interval is nan for fewer than two photos.

    Of a ratio (`disruption`), `mean` is the ratio of the means over photos, and `median` that of the photos' ratios.
    `values` are those of the photos, for paired tests; of a ratio the changes, in units of the mean over photos of what
    another seed changes on the same editor after the same counter-attack: so their mean is the ratio of the means.
    """

    mean: float
    low: float
    high: float
    photos: int
    median: float = math.nan
    edits: int = 0
    values: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)


Summary = dict[Cell, dict[str, Estimate]]  # cell -> metric -> estimate
Values = dict[str, list[tuple[float, float]]]  # photo -> of each edit, what is summed and what it is divided by


def summarise(rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Every metric of every (editor, method, budget, counter), estimated over photos."""
    rows = list(rows)
    scales = _scales(rows)
    collected: dict[str, dict[Cell, Values]] = {}
    for row in rows:
        cell = Cell(*(row[name] for name in Cell._fields))
        for metric, value in row["metrics"].items():
            pair = _pair(row, metric, from_json(value), scales)
            collected.setdefault(metric, {}).setdefault(cell, {}).setdefault(row["photo"], []).append(pair)
    summary: Summary = {}
    for metric, cells in collected.items():
        for cell, estimate in _estimates(metric, cells).items():
            summary.setdefault(cell, {})[metric] = estimate
    return summary


def _edit_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells which edit of the original a row is compared with."""
    return tuple(row.get(name) for name in ("photo", "editor", "prompt", "seed", "counter"))


def _scales(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], float]:
    """What another seed changes, for each ratio and edit of an original, and under (ratio, editor) what it does mostly.

    Measured as `chance`, else told by the rows whose edit changed, best by the one that changed most (six digits are
    kept of each).
    """
    found, clearest = {}, dict[tuple[Any, ...], float]()
    for row in rows:
        for metric, similar in RATIOS.items():
            key, ratio = (metric, _edit_of(row)), from_json(row["metrics"].get(metric))
            chance = from_json(row["metrics"].get("chance")) if metric == "disruption" else math.nan
            if similar not in row["metrics"] or clearest.get(key) == math.inf:
                continue
            if not math.isnan(chance) or ratio == math.inf:
                found[key], clearest[key] = (0.0 if math.isnan(chance) else chance), math.inf
            elif ratio > clearest.get(key, 0.0):
                found[key], clearest[key] = (1 - from_json(row["metrics"][similar])) / ratio, ratio
    usual: dict[tuple[Any, ...], list[float]] = {}
    for (metric, edit), scale in found.items():
        usual.setdefault((metric, edit[1]), []).append(scale)
    return {**found, **{key: float(np.mean(scales)) for key, scales in usual.items()}}


def _pair(row: Mapping[str, Any], metric: str, value: float, scales: Mapping[Any, float]) -> tuple[float, float]:
    """A value as (what is summed, what it is divided by); of a ratio without its parts the ratio itself.

    Where no row tells what another seed changes in this edit, nothing changed it, and the editor's mean is taken.
    """
    similar = RATIOS.get(metric, "")
    scale = scales.get((metric, _edit_of(row)), scales.get((metric, row["editor"])))
    if similar not in row["metrics"] or scale is None:
        return value, 1.0
    return 1 - from_json(row["metrics"][similar]), scale


def _estimates(metric: str, collected: Mapping[Cell, Values]) -> dict[Cell, Estimate]:
    """The estimates of one metric in several cells; all share their resamples of photos."""
    cells = list(collected)
    photos = sorted({photo for values in collected.values() for photo in values})
    top, bottom = (np.full((len(cells), len(photos)), np.nan) for _ in range(2))
    edits = [0] * len(cells)
    for i, values in enumerate(collected.values()):
        for j, photo in enumerate(photos):
            known = [pair for pair in values.get(photo, []) if not math.isnan(pair[0])]
            edits[i] += len(known)
            if known:
                top[i, j], bottom[i, j] = np.mean(known, axis=0)
    mean, low, high = bootstrap(top, bottom)
    if metric in SHARES:
        low, high = wilson(top, edits)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = top / bottom
    units = _units(cells, bottom)
    made = {}
    for i, cell in enumerate(cells):
        there = ~np.isnan(ratios[i])
        median = float(np.median(ratios[i][there])) if metric in RATIOS and there.any() else math.nan
        of_photos = {
            photo: float(top[i, j]) / units[cell] for j, photo in enumerate(photos) if not math.isnan(top[i, j])
        }
        interval = float(low[i]), float(high[i])
        made[cell] = Estimate(float(mean[i]), *interval, len(of_photos), median, edits[i], of_photos)
    return made


def _units(cells: Sequence[Cell], scales: Floats) -> dict[Cell, float]:
    """For each cell the mean over photos of its scales (cells, photos), the same for all methods beside it; 1 if 0."""
    found: dict[Cell, float] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for i, cell in enumerate(cells):
        groups.setdefault((cell.editor, cell.counter), []).append(i)
    for members in groups.values():
        known = np.ma.masked_invalid(scales[members]).mean(0).compressed()
        unit = float(known.mean()) if len(known) else 1.0
        found |= {cells[i]: unit or 1.0 for i in members}
    return found


def higher_is_better(metric: str) -> bool:
    """Whether a larger value means a stronger protection, or for visibility a fainter one."""
    return METRICS[metric].stronger == "higher"


def best(estimates: Mapping[Any, Estimate], metric: str) -> Any | None:
    """The key of the best mean, if a paired test over photos tells it from each of the others; None if not, or alone.

    Wilcoxon's signed-rank test on the photos that both have, all its p-values corrected by Holm. A mean that is best by
    a few photos, while most are better with another, is not marked: the test has to point to it.
    """
    known = {key: value for key, value in estimates.items() if not math.isnan(value.mean)}
    if len(known) < 2 or len(known) < len(estimates):
        return None
    sign = 1 if higher_is_better(metric) else -1
    first = max(known, key=lambda key: sign * known[key].mean)
    tests = [paired(known[first].values, other.values) for key, other in known.items() if key != first]
    told = all(p < SIGNIFICANT for p in holm([test.p for test in tests]))
    return first if told and all(test.direction == sign for test in tests) else None


def worst_counter(summary: Summary, cell: Cell, metric: str) -> tuple[str, Estimate] | None:
    """The counter-attack after which least is left of a protection (by its mean), and what that is; `none` if equal."""
    sign = 1 if higher_is_better(metric) else -1
    found = {c.counter: e[metric] for c, e in summary.items() if c[:3] == cell[:3] and metric in e}
    found = {counter: estimate for counter, estimate in found.items() if not math.isnan(estimate.mean)}
    if not found:
        return None
    counter = min(found, key=lambda name: (sign * found[name].mean, name != "none"))
    return counter, found[counter]


def main_metric(metrics: Sequence[str]) -> str | None:
    """The metric that curves and heat maps are about: disruption, else the first of edits."""
    edits = [n for n in metrics if n in METRICS and METRICS[n].group not in ("visibility", "success")]
    return "disruption" if "disruption" in edits else edits[0] if edits else None


def known_metrics(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics in rows, in the order of the registry."""
    found = {name for row in rows for name in row["metrics"]}
    return [name for name in METRICS if name in found]


def written(estimate: Estimate | None, share: bool = False, with_median: bool = False) -> str:
    """An estimate as tables show it: "0.412 [0.331, 0.489]", ", median 0.340"; a share "31 % [24, 39]"."""
    if estimate is None or math.isnan(estimate.mean):
        return "-"
    if share:
        interval = "" if math.isnan(estimate.low) else f" [{percent(estimate.low)}, {percent(estimate.high)}]"
        return f"{percent(estimate.mean)}\u00a0%{interval}"
    interval = "" if math.isnan(estimate.low) else f" [{number(estimate.low)}, {number(estimate.high)}]"
    median = "" if math.isnan(estimate.median) or not with_median else f", median {number(estimate.median)}"
    return f"{number(estimate.mean)}{interval}{median}"


def percent(share: float) -> str:
    """A share in per cent: 31, but 99.6 where all but a few are, so that 100 is said of all only, and 0 of none."""
    rounded = f"{100 * share:.0f}"
    return f"{100 * share:.1f}" if rounded in ("0", "-0", "100", "-100") and share not in (-1, 0, 1) else rounded


def number(value: float) -> str:
    """A number with three digits: 36.1, 1.05, 0.412."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
