"""Intervals and paired tests of numbers that there is one of for each photo. Photos are the independent trials."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES, LEVEL = 5000, 0.95
FEW = 6  # photos: resamples of fewer cannot cover 95 %, and no paired test tells fewer apart
Floats = NDArray[np.float64]


class Paired(NamedTuple):
    """A paired test: its p-value, which side it points to (1 the first is larger, -1 the second, 0 neither), counts."""

    p: float
    direction: int
    photos: int  # that both have
    higher: int  # of them, where the first is


def bootstrap(
    values: Floats, scales: Floats | None = None, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[Floats, ...]:
    """Mean and bootstrap interval over photos of each row of values (cells, photos): three arrays (cells,).

    With `scales` of the same shape: the sum of the values over the sum of the scales. nan marks a photo without a
    value, which leaves it out. All rows share their resamples. The quantiles are further out than the level says, by as
    much as Student's t of so few photos is wider than the normal: Hesterberg's expanded percentiles (arXiv 1411.5279,
    section 4.1). A row of fewer than FEW photos has Student's interval of the linearised ratio instead, one with fewer
    than two values none (nan); one with an infinite value has an infinite mean and no interval.
    """
    scales = np.ones_like(values) if scales is None else scales
    there = ~np.isnan(values)
    filled, under = np.where(there, values, 0.0), np.where(there, scales, 0.0)
    finite, count = np.isfinite(filled).all(1), there.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, filled.sum(1) / under.sum(1), np.nan)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for row in np.flatnonzero(finite & (count > 1) & (count < FEW) & np.isfinite(mean)):
        reach = _student(filled[row][there[row]], under[row][there[row]], level)
        low[row], high[row] = mean[row] - reach, mean[row] + reach
    usable = np.flatnonzero(finite & (count >= FEW))
    n = values.shape[1]
    draws = np.random.default_rng(seed).integers(0, n, (resamples if len(usable) else 0, n))
    weights = np.array([np.bincount(draw, minlength=n) for draw in draws], dtype=float).reshape(-1, n).T
    for part in np.array_split(usable, max(1, len(usable) // 512)):  # bounds the memory
        if len(part) == 0:
            continue
        drawn = under[part] @ weights
        means = np.where(drawn > 0, filled[part] @ weights / np.where(drawn > 0, drawn, 1), np.nan)
        for row, resampled in zip(part, means, strict=True):
            if not np.isnan(resampled).all():
                tail = _expanded(int(count[row]), level)
                low[row], high[row] = np.nanquantile(resampled, [tail, 1 - tail])
    return mean, low, high


def _expanded(n: int, level: float) -> float:
    """The share of resamples beyond either end of an expanded percentile interval of n photos."""
    from scipy.stats import norm, t

    return float(norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1)))


def _student(values: Floats, scales: Floats, level: float) -> float:
    """Half the length of Student's interval of sum(values) / sum(scales), linearised; with scales of 1 of a mean."""
    from scipy.stats import t

    n = len(values)
    rest = values - values.sum() / scales.sum() * scales
    return float(t.ppf((1 + level) / 2, n - 1) * rest.std(ddof=1) / math.sqrt(n) / scales.mean())


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """The median and an interval between two of the values that covers it at least as often as `level` says.

    nan for its ends where there are too few values (fewer than six at 95 %).
    """
    from scipy.stats import binom

    ordered, n = np.sort(np.asarray(values, dtype=float)), len(values)
    rank = int(binom.ppf((1 - level) / 2, n, 0.5))
    low, high = (float(ordered[rank - 1]), float(ordered[n - rank])) if rank else (math.nan, math.nan)
    return float(np.median(ordered)), low, high


def wilson(shares: Floats, edits: Sequence[int], level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's interval for each row of shares (cells, photos), of `edits` edits in all: two arrays (cells,).

    Edits of one photo resemble each other, so they count as fewer: as many as would have the same variance if they were
    independent, less for what a variance of few photos may be wrong by (Korn and Graubard 1998), but at least as many
    as photos and at most as many as edits; where all photos agree, as many as photos. A bootstrap would give an
    interval without width there. A row with fewer than two values has none (nan).
    """
    from scipy.stats import norm, t

    z = norm.ppf((1 + level) / 2)
    low, high = np.full(len(shares), np.nan), np.full(len(shares), np.nan)
    for i, row in enumerate(shares):
        values = row[~np.isnan(row)]
        n = len(values)
        if n < 2:
            continue
        p, between = values.mean(), values.var(ddof=1) / n
        unsure = (z / t.ppf((1 + level) / 2, n - 1)) ** 2
        worth = float(np.clip(unsure * p * (1 - p) / between, n, max(n, edits[i]))) if between > 0 else n
        middle = (p + z**2 / (2 * worth)) / (1 + z**2 / worth)
        half = z / (1 + z**2 / worth) * math.sqrt(p * (1 - p) / worth + z**2 / (4 * worth**2))
        low[i], high[i] = max(0.0, middle - half), min(1.0, middle + half)
    return low, high


def share_difference(first: Floats, second: Floats, edits: tuple[int, int]) -> tuple[float, float, float]:
    """How much larger the first of two shares over the same photos (photos,) is, and the interval: mean, low, high.

    Newcombe's method for paired shares (1998, his tenth): Wilson's intervals of both, put together with the correlation
    of the photos' shares. So photos that all agree have an interval, too. nan for fewer than two photos.
    """
    (p, q), (lows, highs) = (first.mean(), second.mean()), wilson(np.stack([first, second]), edits)
    alike = 0.0  # a correlation of few photos, or of a share that does not vary, says nothing
    if len(first) >= FEW and first.std() > 0 and second.std() > 0:
        alike = float(np.corrcoef(first, second)[0, 1])

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * alike * a * b + b**2, 0.0))

    difference = float(p - q)
    low = difference - reach(p - lows[0], highs[1] - q)
    return difference, low, difference + reach(highs[0] - p, q - lows[1])


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> Paired:
    """Wilcoxon's signed-rank test on the photos that both have (1945; zeros are left out, p is 1 where all are).

    Differences are rounded to nine digits, so that ties are ties. An infinite one counts as larger than all others.
    """
    from scipy.stats import rankdata, wilcoxon

    shared = sorted(first.keys() & second.keys())
    apart = np.array([0.0 if first[name] == second[name] else first[name] - second[name] for name in shared])
    largest = np.abs(apart[np.isfinite(apart)]).max(initial=0.0)
    apart = np.clip(apart, -2 * largest - 1, 2 * largest + 1).round(9)
    higher, apart = int((apart > 0).sum()), apart[apart != 0]
    if not len(apart):
        return Paired(1.0, 0, len(shared), 0)
    direction = int(np.sign((rankdata(np.abs(apart)) * np.sign(apart)).sum()))
    with warnings.catch_warnings():  # of few photos; a large p-value says that well enough
        warnings.simplefilter("ignore")
        return Paired(float(wilcoxon(apart).pvalue), direction, len(shared), higher)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that a false alarm among all tests is as rare as in one of them alone (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
