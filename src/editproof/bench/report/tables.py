"""The tables of a benchmark, for the terminal, the report, the README and other programs."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from editproof.bench.estimates import (
    SHARES,
    Cell,
    Estimate,
    Summary,
    best,
    higher_is_better,
    number,
    worst_counter,
    written,
)
from editproof.bench.report.charts import Point
from editproof.bench.store import Row


class Field(NamedTuple):
    """A cell of a table: what it says, the number to sort by, whether it is the best, what is added to it."""

    text: str
    value: float = math.nan
    best: bool = False
    added: str = ""


@dataclass(frozen=True)
class HeatMap:
    """What counter-attacks leave at one budget: for each method (its name, an estimate and its share of the scale)."""

    budget: str
    counters: list[str]
    lines: list[tuple[str, list[tuple[Estimate, float] | None]]]


def summary_table(
    summary: Summary, editor: str, methods: Sequence[str], metrics: Sequence[str], main: str | None, timings: list[Row]
) -> list[dict[str, Field]]:
    """A line for each budget and method on an editor: heading -> field.

    The main metric without a counter-attack and as the strongest one leaves it, then the others without. The best is
    marked where a paired test tells it from all others (estimates.best).
    """
    lines = []
    counter = first_counter(summary, editor)
    for budget in budgets_in(summary, editor):
        rivals = [m for m in methods if Cell(editor, m, budget, counter) in summary]
        worst = {m: worst_counter(summary, Cell(editor, m, budget, ""), main) for m in rivals} if main else {}
        most = best({m: found[1] for m, found in worst.items() if found}, main) if main else None
        for method in rivals:
            line = {"method": Field(method), "budget": Field(budget, sum(size_of(budget)))}
            for metric in dict.fromkeys([*([main] if main else []), *metrics]):
                found = {m: e[metric] for m in rivals if metric in (e := summary[Cell(editor, m, budget, counter)])}
                line[metric] = field(found.get(method), best(found, metric) == method, with_median=metric == main)
                if metric == main and (left := worst.get(method)):
                    line[f"{main}, worst counter"] = field(left[1], most == method, left[0])
            seconds = seconds_per_photo(timings, method, editor)
            line["s/photo"] = Field(number(seconds), seconds)
            lines.append(line)
    return lines


def heat_maps(
    summary: Summary, editor: str, methods: Sequence[str], counters: Sequence[str], metric: str
) -> list[HeatMap]:
    """Tables method x counter, one for each budget; the scale is the same for all."""
    cells = {cell: e[metric] for cell, e in summary.items() if cell.editor == editor and metric in e}
    known = [e.mean for e in cells.values() if math.isfinite(e.mean)]
    low, high = min([0.0, *known]), max([1e-9, *known])

    def shaded(estimate: Estimate | None) -> tuple[Estimate, float] | None:
        if estimate is None:
            return None
        share = (estimate.mean - low) / (high - low) if math.isfinite(estimate.mean) else 0.0
        return estimate, round(share if higher_is_better(metric) else 1 - share, 3)

    maps = []
    budgets = budgets_in(summary, editor)
    for budget in [b for b in budgets if b != "0"] or budgets:
        lines = []
        for method in methods:
            found = [cells.get(Cell(editor, method, "0" if method == "none" else budget, c)) for c in counters]
            if any(estimate is not None and estimate.mean != 0 for estimate in found):  # 0 is no protection at all
                lines.append((method, [shaded(estimate) for estimate in found]))
        maps.append(HeatMap(budget, list(counters), lines))
    return maps


def series(summary: Summary, editor: str, methods: Sequence[str], x: str, y: str) -> dict[str, list[Point]]:
    """For each method its points (one a budget) of two metrics, without a counter-attack."""
    counter = first_counter(summary, editor)
    return {
        method: [
            Point(budget, e[x], e[y])
            for budget in budgets_in(summary, editor)
            if x in (e := summary.get(Cell(editor, method, budget, counter), {})) and y in e
        ]
        for method in methods
        if method != "none"
    }


def full_table(summary: Summary, metrics: Sequence[str]) -> list[tuple[Cell, list[Field]]]:
    """Everything: each cell with all its metrics."""
    cells = sorted(summary, key=lambda c: (c.editor, size_of(c.budget), c.method, c.counter != "none", c.counter))
    return [(cell, [field(summary[cell].get(metric), share=metric in SHARES) for metric in metrics]) for cell in cells]


def to_csv(summary: Summary, metrics: Sequence[str]) -> str:
    """Everything for other programs: one line for each cell and metric."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow([*Cell._fields, "metric", "mean", "low", "high", "photos", "median", "edits"])
    for cell in sorted(summary):
        for metric in metrics:
            if metric in summary[cell]:
                e = summary[cell][metric]
                numbers = (f"{v:.6g}" for v in (e.mean, e.low, e.high))
                median = "" if math.isnan(e.median) else f"{e.median:.6g}"
                out.writerow([*cell, metric, *numbers, e.photos, median, e.edits])
    return file.getvalue()


def time_table(timings: list[Row]) -> list[dict[str, Any]]:
    """Where the time went: for each kind of work its photos, seconds and peak memory (MiB), the longest first."""
    kinds: dict[str, list[Row]] = {}
    for line in timings:
        kinds.setdefault(" / ".join(line["kind"]), []).append(line)
    found = []
    for kind, lines in kinds.items():
        photos, seconds = sum(t["photos"] for t in lines), sum(t["seconds_per_photo"] * t["photos"] for t in lines)
        found.append({
            "what": kind, "photos": photos, "seconds": seconds, "each": seconds / photos,
            "memory": max(t["peak_memory_bytes"] for t in lines) / 2**20, "device": lines[-1]["device"],
        })  # fmt: skip
    return sorted(found, key=lambda line: -line["seconds"])


def seconds_per_photo(timings: list[Row], method: str, editor: str) -> float:
    """Mean seconds of protecting a photo; nan if it was not timed."""
    mine = [t for t in timings if t["kind"] == ["protect", method, editor]]
    photos = sum(t["photos"] for t in mine)
    return sum(t["seconds_per_photo"] * t["photos"] for t in mine) / photos if photos else math.nan


def field(estimate: Estimate | None, is_best: bool = False, added: str = "", **how: bool) -> Field:
    """An estimate as a cell of a table, written as `estimates.written` is told."""
    return Field(written(estimate, **how), math.nan if estimate is None else estimate.mean, is_best, added)


def budgets_in(summary: Summary, editor: str) -> list[str]:
    """The budgets on an editor, the smallest first."""
    return sorted({cell.budget for cell in summary if cell.editor == editor}, key=size_of)


def size_of(budget: str) -> tuple[int, float]:
    """To sort budgets by: Linf, L2, then what was matched or is the papers'."""
    top, _, bottom = budget.removeprefix("l2:").partition("/")
    try:
        return int(budget.startswith("l2:")), float(top) / float(bottom or 1)
    except ValueError:
        return 2, 0.0


def first_counter(summary: Summary, editor: str) -> str:
    """The counter of main columns: none, or where that was not measured the first."""
    counters = sorted({cell.counter for cell in summary if cell.editor == editor})
    return "none" if "none" in counters else counters[0]
