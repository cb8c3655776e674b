"""The tables that a report begins with: how many edits succeed, what is told apart, what transfers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from editproof.bench.estimates import Cell, Estimate, Summary, number, worst_counter, written
from editproof.bench.report.tables import Field, budgets_in
from editproof.bench.uncertainty import holm, paired
from editproof.bench.verdict import CONTROLS, above_floor, after_any, beaten_by, left_out, transfer

Lines = list[dict[str, Field]]
WHY = {"kept": "person kept", "obeyed": "prompt obeyed", "broken": "looks broken"}


def success_table(
    summary: Summary, rows: Sequence[Mapping[str, Any]], editor: str, methods: Sequence[str], visibility: Sequence[str]
) -> Lines:
    """A line for each method and budget: shares of edits that succeed, and why the others do not.

    Without a counter-attack, after the single one that helps most, and if every one is tried on each photo; then how
    many more fail than both floors let fail, the share of edits changed more than both floors, and how visible it is.
    """
    tried, exceeding = after_any(rows), above_floor(rows)
    lines: Lines = []
    for budget in budgets_in(summary, editor):
        for method in methods:
            cell = Cell(editor, method, budget, "none")
            found = summary.get(cell, {})
            if "success" not in found:
                continue
            worst = worst_counter(summary, cell, "success")
            line = {"method": Field(method), "budget": Field(budget), "edits succeed": share(found["success"])}
            if worst is not None:
                line["worst counter"] = share(worst[1], worst[0])
            line["all counters tried"] = share(tried.get(cell._replace(counter="any"), {}).get("success"))
            line["fail beyond both floors"] = share(beaten_by(summary, cell))
            line["changed beyond both floors"] = share(exceeding.get(cell))
            line |= {head: share(found.get(metric)) for metric, head in WHY.items()}
            line |= {m: Field(written(found[m]), found[m].mean) for m in visibility if m in found}
            lines.append(line)
    return lines


def share(estimate: Estimate | None, added: str = "") -> Field:
    """A share as a cell of a table."""
    return Field(written(estimate, share=True), math.nan if estimate is None else estimate.mean, False, added)


def test_table(summary: Summary, editor: str, methods: Sequence[str], metric: str) -> Lines:
    """Every two methods of one budget, without a counter-attack: their difference and whether it is one.

    Wilcoxon's signed-rank test over the photos that both have; the p-values of all pairs of a budget corrected by Holm.
    The difference is the mean over these photos; beside it, on how many of them the first method's value is higher:
    where a few photos rule the mean, the two say different things.
    """
    lines: Lines = []
    for budget in budgets_in(summary, editor):
        cells = {m: summary.get(Cell(editor, m, budget, "none"), {}).get(metric) for m in methods}
        known = {m: e.values for m, e in cells.items() if e is not None and not math.isnan(e.mean)}
        names = list(known)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        tests = [paired(known[a], known[b]) for a, b in pairs]
        for (a, b), test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
            shared = known[a].keys() & known[b].keys()
            difference = float(np.mean([known[a][photo] - known[b][photo] for photo in sorted(shared)] or [math.nan]))
            lines.append({
                "methods": Field(f"{a} - {b}"), "budget": Field(budget),
                "difference": Field(number(difference), difference),
                "p (Holm)": Field(f"{p:.3f}" if p >= 0.001 else "< 0.001", p),
                "first higher on": Field(f"{test.higher} of {test.photos}", test.higher),
            })  # fmt: skip
    return lines


def transfer_tables(summary: Summary, metric: str) -> dict[str, Lines]:
    """Attacked x tested editors, for each method and budget that attacks others than it is tested on; its title."""
    tables = {}
    for (method, budget), found in transfer(summary, metric).items():
        tested = sorted({name for row in found.values() for name in row})
        lines: Lines = []
        for attacked, row in found.items():
            line = {"attacked": Field(attacked)}
            line |= {f"tested on {name}": _cell(row.get(name), metric) for name in tested}
            others = left_out(found, attacked)
            line["mean of those not attacked"] = Field(_number(others, metric), others)
            lines.append(line)
        for control in CONTROLS:
            cells = {
                name: summary.get(Cell(name, control, "0" if control == "none" else budget, "none"), {})
                for name in tested
            }
            if any(metric in found for found in cells.values()):
                line = {"attacked": Field(f"({control})")}
                line |= {f"tested on {name}": _cell(found.get(metric), metric) for name, found in cells.items()}
                lines.append({**line, "mean of those not attacked": Field("-")})
        tables[f"{method}, {budget}: {metric}"] = lines
    return tables


def _cell(estimate: Estimate | None, metric: str) -> Field:
    return Field(written(estimate, share=metric == "success"), math.nan if estimate is None else estimate.mean)


def _number(value: float, metric: str) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f}\u00a0%" if metric == "success" else number(value)
