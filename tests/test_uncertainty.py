"""Intervals and paired tests, held against scipy's on known numbers."""

import math

import numpy as np
import pytest
import scipy.stats

from editproof.bench.uncertainty import bootstrap, holm, median_interval, paired, share_difference, wilson

UP = [0.1 * i for i in range(9)]


def named(values: list[float]) -> dict[str, float]:
    """Of a photo for each value."""
    return {str(number): value for number, value in enumerate(values)}


def interval_of(successes: int, n: int) -> tuple[float, float]:
    found = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


@pytest.mark.parametrize("n", [6, 12, 40])
def test_bootstrap_agrees_with_scipys_at_the_expanded_level(n: int) -> None:
    """With 12 photos 96.8 % is asked of the resamples, with 40 95.5: Student's t for the normal, n - 1 for n."""
    values = np.random.default_rng(1).normal(3, 2, (2, n))
    mean, low, high = bootstrap(values)
    level = 1 - 2 * scipy.stats.norm.cdf(-math.sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1))
    assert level > 0.95 and (n > 12 or level > 0.965)
    for i in range(2):
        theirs = scipy.stats.bootstrap(
            (values[i],), np.mean, method="percentile", confidence_level=level, n_resamples=20000, rng=0
        )
        assert mean[i] == pytest.approx(values[i].mean())
        width = theirs.confidence_interval.high - theirs.confidence_interval.low
        assert low[i] == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
        assert high[i] == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_few_photos_have_students_interval() -> None:
    """Resamples of two photos lie between them, which covers the mean half of the time."""
    values = np.array([[0.2, 0.5, 0.9, 0.3, math.nan], [1.0, 3.0, math.nan, math.nan, math.nan]])
    _, low, high = bootstrap(values)
    for i, row in enumerate(values):
        theirs = scipy.stats.ttest_1samp(row[~np.isnan(row)], 0).confidence_interval()
        assert (low[i], high[i]) == pytest.approx((theirs.low, theirs.high))
    tops, scales = np.array([[2.0, 3.0, 5.0, 1.0]]), np.array([[1.0, 2.0, 2.0, 1.0]])
    mean, low, high = bootstrap(tops, scales)
    theirs = scipy.stats.ttest_1samp(tops[0] - mean[0] * scales[0], 0).confidence_interval()
    assert mean[0] == pytest.approx(11 / 6) and (low[0] + high[0]) / 2 == pytest.approx(mean[0])
    assert high[0] - low[0] == pytest.approx((theirs.high - theirs.low) / scales.mean())


def test_what_has_no_interval() -> None:
    nan = math.nan
    table = np.array([[2.0, 2.0, 2.0], [5.0, nan, nan], [nan, nan, nan], [1.0, math.inf, 2.0]])
    mean, low, high = bootstrap(table)
    assert mean[:2].tolist() == [2, 5] and math.isnan(mean[2]) and mean[3] == math.inf
    assert (low[0], high[0]) == (2, 2)
    assert all(math.isnan(edge[i]) for edge in (low, high) for i in (1, 2, 3))


def test_intervals_cover() -> None:
    """Of 400 samples of eight photos, about 95 % of the intervals hold the true mean; plain percentiles hold 88 %."""
    values = np.random.default_rng(3).normal(1, 1, (400, 8))
    _, low, high = bootstrap(values, resamples=1000)
    assert 0.92 <= ((low <= 1) & (high >= 1)).mean() <= 0.98


def test_wilson_of_one_edit_a_photo_is_scipys() -> None:
    low, high = wilson(np.array([[1.0] * 9 + [0.0] * 21]), [30])
    assert (low[0], high[0]) == pytest.approx(interval_of(9, 30))


def test_wilson_of_photos_that_agree_counts_the_photos() -> None:
    """A bootstrap would say [1, 1]; of 120 edits that were independent, it would be from .97."""
    low, high = wilson(np.stack([np.ones(24), np.zeros(24)]), [120, 120])
    assert (low[0], high[0]) == pytest.approx(interval_of(24, 24)) and (low[1], high[1]) == pytest.approx(
        interval_of(0, 24)
    )


def test_wilson_counts_edits_as_what_they_are_worth() -> None:
    halves = np.array([[0.5, 0.25, 0.75, 0.5, 0.25, 0.75] * 4])  # photos that differ less than their edits
    low, high = wilson(halves, [96])
    p, n = halves.mean(), 24
    unsure = (scipy.stats.norm.ppf(0.975) / scipy.stats.t.ppf(0.975, n - 1)) ** 2
    worth = min(96, unsure * p * (1 - p) / (halves.var(ddof=1) / n))
    assert worth == 96 and (low[0], high[0]) == pytest.approx(interval_of(48, 96))
    apart = np.array([[1.0] * 12 + [0.0] * 12])  # all edits of a photo alike: four a photo are worth no more than one
    assert np.concatenate(wilson(apart, [96])) == pytest.approx(interval_of(12, 24))
    mixed = np.array([[1.0, 0.75, 0.25, 0.0, 0.5, 1.0, 0.5, 0.25] * 3])
    low, high = wilson(mixed, [96])
    assert interval_of(51, 96)[0] > low[0] > interval_of(13, 24)[0]  # between independent edits and photos


def test_a_difference_of_shares_has_an_interval_where_all_photos_agree() -> None:
    """Newcombe's: from the limits of both shares. A bootstrap of the differences would say [1, 1]."""
    mean, low, high = share_difference(np.ones(12), np.zeros(12), (36, 36))
    edge = 1 - interval_of(12, 12)[0]
    assert mean == 1 and (low, high) == pytest.approx((1 - math.hypot(edge, edge), 1))
    mean, low, high = share_difference(np.ones(12), np.ones(12), (36, 36))
    assert mean == 0 and (low, high) == pytest.approx((-edge, edge))
    assert all(math.isnan(edge) for edge in share_difference(np.ones(1), np.zeros(1), (3, 3))[1:])


def test_a_difference_of_shares_is_newcombes() -> None:
    """One edit a photo: a table of pairs (both 8, first only 9, second only 1, neither 6)."""
    first = np.array([1.0] * 8 + [1.0] * 9 + [0.0] * 1 + [0.0] * 6)
    second = np.array([1.0] * 8 + [0.0] * 9 + [1.0] * 1 + [0.0] * 6)
    mean, low, high = share_difference(first, second, (24, 24))
    (l1, u1), (l2, u2) = interval_of(17, 24), interval_of(9, 24)
    p, q = 17 / 24, 9 / 24
    phi = (8 * 6 - 9 * 1) / math.sqrt(17 * 7 * 9 * 15)
    below = (p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2
    above = (u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2
    assert (mean, low, high) == pytest.approx((p - q, p - q - math.sqrt(below), p - q + math.sqrt(above)))


def test_paired_tests_are_scipys() -> None:
    more = [v + 0.01 * (i + 1) for i, v in enumerate(UP)]
    found = paired(named(UP), named(more))
    assert found.p == pytest.approx(scipy.stats.wilcoxon(UP, more).pvalue) and found[1:] == (-1, 9, 0)
    assert paired(named(UP), named(UP)) == (1, 0, 9, 0) and paired(named(UP), {}) == (1, 0, 0, 0)
    assert paired(named(UP), {"0": 5.0, "3": -5.0}).photos == 2


def test_ties_are_ties() -> None:
    """Thirds of three seeds: 1 - 2/3 and 2/3 - 1/3 differ in the last digit, and are one third both."""
    first = [1.0, 2 / 3, 2 / 3, 1.0, 1 / 3, 1 / 3, 1.0, 2 / 3, 2 / 3, 1 / 3]
    second = [2 / 3, 1 / 3, 0.0, 0.0, 0.0, 2 / 3, 2 / 3, 1 / 3, 1.0, 1 / 3]
    thirds = [round(3 * (a - b)) for a, b in zip(first, second, strict=True)]
    theirs = scipy.stats.wilcoxon([third for third in thirds if third]).pvalue
    assert paired(named(first), named(second)).p == pytest.approx(theirs)
    assert scipy.stats.wilcoxon([a - b for a, b in zip(first, second, strict=True) if a != b]).pvalue != theirs


def test_an_infinite_difference_is_the_largest() -> None:
    """An edit that a method leaves as it was has infinite PSNR: that speaks against the method most of all."""
    still = [math.inf] * 6 + [30.0, 31.0]
    changed = [20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 30.5, 30.9]
    found = paired(named(still), named(changed))
    theirs = scipy.stats.wilcoxon([99.0] * 6 + [-0.5, 0.1]).pvalue
    assert found.p == pytest.approx(theirs) and found.direction == 1 and found.higher == 7
    assert paired(named([math.inf] * 8), named([math.inf] * 8)) == (1, 0, 8, 0)


def test_an_interval_of_a_median_lies_between_two_of_the_values() -> None:
    """Of 16, the 4th and the 13th: more than 12 or fewer than 4 fall below the median with 2 * .0106."""
    assert median_interval([float(i) for i in range(16, 0, -1)]) == (8.5, 4, 13)
    assert 2 * scipy.stats.binom.cdf(3, 16, 0.5) < 0.05 < 2 * scipy.stats.binom.cdf(4, 16, 0.5)
    assert median_interval([1, 2, 3, 4, 5, 99]) == (3.5, 1, 99)
    assert all(math.isnan(end) for end in median_interval([1, 2, 3, 4, 5])[1:])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]
