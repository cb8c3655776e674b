"""Means with their uncertainty over photos: what a benchmark's rows come to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editproof.bench.store import from_json
from editproof.metrics import METRICS

RESAMPLES, LEVEL = 5000, 0.95
Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """What a mean is of: all photos, prompts and seeds with these."""

    editor: str
    method: str
    budget: str
    counter: str


@dataclass(frozen=True)
class Estimate:
    """A mean over photos with its 95 % interval; the interval is nan for fewer than two photos."""

    mean: float
    low: float
    high: float
    photos: int


Summary = dict[Cell, dict[str, Estimate]]  # cell -> metric -> estimate


def bootstrap(values: Floats, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> tuple[Floats, ...]:
    """Mean and percentile bootstrap interval of each row of values (cells, photos): three arrays (cells,).

    nan marks a photo without a value, which leaves it out. All rows share their resamples. A row with fewer than two
    values has no interval (nan); one with an infinite value has an infinite mean.
    """
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    finite = np.isfinite(filled).all(1)
    count = there.sum(1)
    mean = np.where(count > 0, filled.sum(1) / np.maximum(count, 1), np.nan)
    n = values.shape[1]
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    weights = np.stack([np.bincount(draw, minlength=n) for draw in draws], axis=1).astype(float)  # (photos, resamples)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    usable = np.flatnonzero(finite & (count > 1))
    for part in np.array_split(usable, max(1, len(usable) // 512)):  # bounds the memory
        if len(part) == 0:
            continue
        drawn = there[part] @ weights
        means = np.where(drawn > 0, filled[part] @ weights / np.maximum(drawn, 1), np.nan)
        low[part], high[part] = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return mean, low, high


def summarise(rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Every metric of every (editor, method, budget, counter), estimated over photos.

    A photo counts once, with the mean over its prompts and seeds.
    """
    collected: dict[str, dict[Cell, dict[str, list[float]]]] = {}
    for row in rows:
        cell = Cell(*(row[name] for name in Cell._fields))
        for metric, value in row["metrics"].items():
            collected.setdefault(metric, {}).setdefault(cell, {}).setdefault(row["photo"], []).append(from_json(value))
    summary: Summary = {}
    for metric, cells in collected.items():
        photos = sorted({photo for found in cells.values() for photo in found})
        table = np.full((len(cells), len(photos)), np.nan)
        column = {photo: i for i, photo in enumerate(photos)}
        for i, found in enumerate(cells.values()):
            for photo, values in found.items():
                known = [value for value in values if not math.isnan(value)]
                table[i, column[photo]] = sum(known) / len(known) if known else np.nan
        counts = (~np.isnan(table)).sum(1)
        for cell, mean, low, high, count in zip(cells, *bootstrap(table), counts, strict=True):
            summary.setdefault(cell, {})[metric] = Estimate(float(mean), float(low), float(high), int(count))
    return summary


def higher_is_better(metric: str) -> bool:
    """Whether a larger value means a stronger protection, or for visibility a fainter one."""
    return METRICS[metric].stronger == "higher"


def best(estimates: Mapping[Any, Estimate], metric: str) -> Any | None:
    """The key of the best mean, if its interval lies apart from all others; None if it does not, or is alone."""
    sign = 1 if higher_is_better(metric) else -1
    known = {key: value for key, value in estimates.items() if not math.isnan(value.low)}
    if len(known) < 2 or len(known) < len(estimates):
        return None
    first = max(known, key=lambda key: sign * known[key].mean)
    edge = known[first].low if sign > 0 else -known[first].high
    others = [other.high if sign > 0 else -other.low for key, other in known.items() if key != first]
    return first if all(edge > other for other in others) else None


def worst_counter(summary: Summary, cell: Cell, metric: str) -> tuple[str, Estimate] | None:
    """The counter-attack after which least is left of a protection (by its mean), and what that is."""
    sign = 1 if higher_is_better(metric) else -1
    found = {c.counter: e[metric] for c, e in summary.items() if c[:3] == cell[:3] and metric in e}
    found = {counter: estimate for counter, estimate in found.items() if not math.isnan(estimate.mean)}
    if not found:
        return None
    counter = min(found, key=lambda name: sign * found[name].mean)
    return counter, found[counter]


def main_metric(metrics: Sequence[str]) -> str | None:
    """The metric that tables and curves are about: disruption, else the first of edits."""
    edits = [name for name in metrics if name in METRICS and METRICS[name].group != "visibility"]
    return "disruption" if "disruption" in edits else edits[0] if edits else None


def known_metrics(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics in rows, in the order of the registry."""
    found = {name for row in rows for name in row["metrics"]}
    return [name for name in METRICS if name in found]


def written(estimate: Estimate | None) -> str:
    """An estimate as tables show it: "0.412 [0.331, 0.489]"."""
    if estimate is None or math.isnan(estimate.mean):
        return "-"
    if math.isnan(estimate.low):
        return number(estimate.mean)
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def number(value: float) -> str:
    """A number with three digits: 36.1, 1.05, 0.412."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
