"""What a benchmark's rows come to: means, ratios and shares with their uncertainty over photos, and paired tests.

A photo counts once, with the mean over its prompts and seeds: edits of one photo are no independent trials.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editproof.bench.store import from_json
from editproof.metrics import METRICS

RESAMPLES, LEVEL = 5000, 0.95
SIGNIFICANT = 1 - LEVEL
Floats = NDArray[np.float64]
RATIOS = {"disruption": "region-ssim", "edit-disruption": "edit-ssim"}  # and the SSIM that their change is one minus
SHARES = ("success", "kept", "obeyed", "broken", "recognised", "fdfr")  # 0 or 1 for each edit


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
    `values` are those of the photos, for paired tests; of a ratio the changes, whose scale is the same for all methods.
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
        for cell, estimate in zip(cells, _estimates(metric, list(cells.values())), strict=True):
            summary.setdefault(cell, {})[metric] = estimate
    return summary


def _edit_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells which edit of the original a row is compared with."""
    return tuple(row.get(name) for name in ("photo", "editor", "prompt", "seed", "counter"))


def _scales(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], float]:
    """What another seed changes, for each ratio and edit of an original; told by every row whose edit changed."""
    found = {}
    for row in rows:
        for metric, similar in RATIOS.items():
            ratio = from_json(row["metrics"].get(metric))
            if similar in row["metrics"] and 0 < ratio < math.inf:
                found[metric, _edit_of(row)] = (1 - from_json(row["metrics"][similar])) / ratio
            elif similar in row["metrics"] and ratio == math.inf:
                found[metric, _edit_of(row)] = 0.0
    return found


def _pair(row: Mapping[str, Any], metric: str, value: float, scales: Mapping[Any, float]) -> tuple[float, float]:
    """A value as (what is summed, what it is divided by); of a ratio without its parts the ratio itself."""
    similar = RATIOS.get(metric, "")
    scale = scales.get((metric, _edit_of(row)))
    if similar not in row["metrics"] or scale is None:
        return value, 1.0
    return 1 - from_json(row["metrics"][similar]), scale


def _estimates(metric: str, cells: Sequence[Values]) -> list[Estimate]:
    """The estimates of one metric in several cells; all share their resamples of photos."""
    photos = sorted({photo for cell in cells for photo in cell})
    top, bottom = (np.full((len(cells), len(photos)), np.nan) for _ in range(2))
    edits = [0] * len(cells)
    for i, cell in enumerate(cells):
        for j, photo in enumerate(photos):
            known = [pair for pair in cell.get(photo, []) if not math.isnan(pair[0])]
            edits[i] += len(known)
            if known:
                top[i, j], bottom[i, j] = np.mean(known, axis=0)
    mean, low, high = bootstrap(top, bottom)
    if metric in SHARES:
        low, high = wilson(top, edits)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = top / bottom
    made = []
    for i in range(len(cells)):
        there = ~np.isnan(ratios[i])
        median = float(np.median(ratios[i][there])) if metric in RATIOS and there.any() else math.nan
        values = {photo: float(top[i, j]) for j, photo in enumerate(photos) if not math.isnan(top[i, j])}
        interval = float(low[i]), float(high[i])
        made.append(Estimate(float(mean[i]), *interval, len(values), median, edits[i], values))
    return made


def bootstrap(
    values: Floats, scales: Floats | None = None, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[Floats, ...]:
    """Mean and percentile bootstrap interval of each row of values (cells, photos): three arrays (cells,).

    With `scales` of the same shape: the sum of the values over the sum of the scales. nan marks a photo without a
    value, which leaves it out. All rows share their resamples. A row with fewer than two values has no interval (nan);
    one with an infinite value has an infinite mean.
    """
    scales = np.ones_like(values) if scales is None else scales
    there = ~np.isnan(values)
    filled, under = np.where(there, values, 0.0), np.where(there, scales, 0.0)
    finite = np.isfinite(filled).all(1)
    count = there.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, filled.sum(1) / under.sum(1), np.nan)
    n = values.shape[1]
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    weights = np.stack([np.bincount(draw, minlength=n) for draw in draws], axis=1).astype(float)  # (photos, resamples)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    usable = np.flatnonzero(finite & (count > 1))
    for part in np.array_split(usable, max(1, len(usable) // 512)):  # bounds the memory
        if len(part) == 0:
            continue
        drawn = under[part] @ weights
        means = np.where(drawn > 0, filled[part] @ weights / np.where(drawn > 0, drawn, 1), np.nan)
        if not np.isnan(means).all():
            low[part], high[part] = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return mean, low, high


def wilson(shares: Floats, edits: Sequence[int], level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's interval for each row of shares (cells, photos), of `edits` edits in all: two arrays (cells,).

    Edits of one photo resemble each other, so they count as fewer: as many as would have the same variance if they were
    independent, between the number of photos and that of edits; where all photos agree, the number of photos. A
    bootstrap would give an interval without width there.
    """
    from scipy.stats import norm

    z = norm.ppf((1 + level) / 2)
    low, high = np.full(len(shares), np.nan), np.full(len(shares), np.nan)
    for i, row in enumerate(shares):
        values = row[~np.isnan(row)]
        n = len(values)
        if n < 2:
            continue
        p, between = values.mean(), values.var(ddof=1) / n
        effective = float(np.clip(p * (1 - p) / between, n, max(n, edits[i]))) if between > 0 else n
        middle = (p + z**2 / (2 * effective)) / (1 + z**2 / effective)
        half = z / (1 + z**2 / effective) * math.sqrt(p * (1 - p) / effective + z**2 / (4 * effective**2))
        low[i], high[i] = max(0.0, middle - half), min(1.0, middle + half)
    return low, high


def higher_is_better(metric: str) -> bool:
    """Whether a larger value means a stronger protection, or for visibility a fainter one."""
    return METRICS[metric].stronger == "higher"


def best(estimates: Mapping[Any, Estimate], metric: str) -> Any | None:
    """The key of the best mean, if a paired test over photos tells it from each of the others; None if not, or alone.

    Wilcoxon's signed-rank test on the photos that both have, all its p-values corrected by Holm.
    """
    known = {key: value for key, value in estimates.items() if not math.isnan(value.mean)}
    if len(known) < 2 or len(known) < len(estimates):
        return None
    sign = 1 if higher_is_better(metric) else -1
    first = max(known, key=lambda key: sign * known[key].mean)
    tests = [paired(known[first], other) for key, other in known.items() if key != first]
    return first if all(p < SIGNIFICANT for p in holm(tests)) else None


def paired(a: Estimate, b: Estimate) -> float:
    """The p-value of Wilcoxon's signed-rank test on the photos that two estimates share; 1 where none differs."""
    from scipy.stats import wilcoxon

    shared = sorted(a.values.keys() & b.values.keys())
    pairs = [(a.values[photo], b.values[photo]) for photo in shared]
    apart = [x - y for x, y in pairs if x != y and math.isfinite(x - y)]  # an equal pair says nothing
    if not apart:
        return 1.0
    with warnings.catch_warnings():  # of few photos; a large p-value says that well enough
        warnings.simplefilter("ignore")
        return float(wilcoxon(apart).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that a false alarm among all tests is as rare as in one of them alone (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


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
        interval = "" if math.isnan(estimate.low) else f" [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
        return f"{100 * estimate.mean:.0f}\u00a0%{interval}"
    interval = "" if math.isnan(estimate.low) else f" [{number(estimate.low)}, {number(estimate.high)}]"
    median = "" if math.isnan(estimate.median) or not with_median else f", median {number(estimate.median)}"
    return f"{number(estimate.mean)}{interval}{median}"


def number(value: float) -> str:
    """A number with three digits: 36.1, 1.05, 0.412."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
