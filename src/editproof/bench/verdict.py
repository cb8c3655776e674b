"""What a benchmark says in words and few numbers: how many edits succeed, above what floor, after which attack."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from editproof.bench.estimates import Cell, Estimate, Summary, bootstrap, summarise, worst_counter, written
from editproof.bench.methods import NO_BUDGET, NONE
from editproof.bench.store import from_json

FLOOR = "noise"  # the method that every table has as its control
CONTROLS = (NONE, FLOOR)
Row = Mapping[str, Any]
Matrix = dict[str, dict[str, Estimate]]  # attacked editor -> tested editor -> estimate


def after_any(rows: Iterable[Row]) -> Summary:
    """`success` of an attacker who tries every counter-attack on each photo and keeps the best edit.

    An edit (photo, prompt, seed) succeeds if it does after at least one of them, `none` included. The cells have the
    counter "any".
    """
    tried: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        value = from_json(row["metrics"].get("success"))
        key = tuple(row[name] for name in ("editor", "method", "budget", "photo", "prompt", "seed"))
        tried.setdefault(key, []).append(value)
    names = ("editor", "method", "budget", "photo", "prompt", "seed")
    best = [
        {**dict(zip(names, key, strict=True)), "counter": "any", "metrics": {"success": max(values)}}
        for key, values in tried.items()
        if not any(map(math.isnan, values))
    ]
    return summarise(best)


def above_floor(rows: Iterable[Row]) -> dict[Cell, Estimate]:
    """The share of edits that a protection changes more than both floors, for each cell (IPV-Bench's rule).

    The floors are what another seed changes in the edit of the original, and what noise of the same budget or
    visibility changes in the same edit. Cells whose rows have no noise beside them are left out.
    """
    rows = list(rows)
    changes = {(*_edit(row), row["method"], row["budget"]): _change(row) for row in rows}
    found = []
    for row in rows:
        noise = changes.get((*_edit(row), FLOOR, row["budget"]))
        change, chance = _change(row), from_json(row["metrics"].get("chance"))
        if noise is None or row["method"] in CONTROLS or any(map(math.isnan, (noise, change, chance))):
            continue
        found.append({**row, "metrics": {"success": float(change > max(noise, chance))}})  # any share will do
    return {cell: estimates["success"] for cell, estimates in summarise(found).items()}


def _edit(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("editor", "counter", "photo", "prompt", "seed"))


def _change(row: Row) -> float:
    return from_json(row["metrics"].get("change"))


def beaten_by(summary: Summary, cell: Cell) -> Estimate | None:
    """How many more edits fail than without a protection and with noise of the same budget, whichever lets fewer pass.

    A difference of shares over the photos that all have, with a bootstrap interval.
    """
    cells = (cell, cell._replace(method=NONE, budget=NO_BUDGET), cell._replace(method=FLOOR))
    found = [e["success"] for c in cells if "success" in (e := summary.get(c, {}))]
    if len(found) < len(cells) or cell.method in CONTROLS:
        return None
    mine, floor = found[0], min(found[1:], key=lambda estimate: estimate.mean)
    shared = sorted(mine.values.keys() & floor.values.keys())
    if not shared:
        return None
    values = np.array([[floor.values[photo] - mine.values[photo] for photo in shared]])
    mean, low, high = bootstrap(values)
    return replace(mine, mean=float(mean[0]), low=float(low[0]), high=float(high[0]), photos=len(shared))


def headline(summary: Summary, rows: Sequence[Row], editor: str, methods: Sequence[str]) -> list[str]:
    """Sentences on one editor that can be printed as they are: first the unprotected photos, then each method.

    Methods in the order given, each with its largest budget; the controls are told first.
    """
    plain = summary.get(Cell(editor, NONE, NO_BUDGET, "none"), {}).get("success")
    if plain is None or math.isnan(plain.mean):
        return [f"{editor}: {_why_unknown(summary, editor)}"]
    lines = [
        f"{editor}: of {plain.edits} edits of {plain.photos} unprotected photos {written(plain, share=True)} succeed."
    ]
    anything = after_any(row for row in rows if row["editor"] == editor)
    for method in sorted((m for m in methods if m != NONE), key=lambda m: m != FLOOR):
        budgets = [c.budget for c in summary if c.editor == editor and c.method == method and c.counter == "none"]
        for budget in dict.fromkeys(budgets):
            cell = Cell(editor, method, budget, "none")
            mine = summary[cell].get("success")
            if mine is None or math.isnan(mine.mean):
                continue
            who = "With random noise" if method == FLOOR else f"Protected by {method}"
            line = f"{who} ({budget}): {written(mine, share=True)}"
            others = {c: found for c, found in summary.items() if c.counter != "none"}
            worst = worst_counter(others, cell, "success")
            if worst is not None:
                line += f"; after {worst[0]} {written(worst[1], share=True)}"
            tried = anything.get(cell._replace(counter="any"), {}).get("success")
            if tried is not None and worst is not None and tried.mean > max(mine.mean, worst[1].mean):
                line += f"; if every counter-attack is tried {written(tried, share=True)}"
            lines.append(f"{line}.")
    return lines


def _why_unknown(summary: Summary, editor: str) -> str:
    metrics = {name for cell, found in summary.items() if cell.editor == editor for name in found}
    if "success" not in metrics:
        return "whether edits succeed was not measured (metric `success`, which needs the extra `faces`)."
    return (
        'whether edits succeed cannot be said: no prompt has a result that is known (such as "plain red background" or '
        '"make it black and white"), or no face was found in the photos. docs/metrics.md says what can be measured.'
    )


def transfer(
    summary: Summary, metric: str = "success", counter: str = "none"
) -> dict[tuple[str, str], dict[str, dict[str, Estimate]]]:
    """For each (method, budget): attacked editor -> tested editor -> estimate, from methods with `on=EDITOR`.

    Without `on=` a method attacks the editor that is tested. Only methods that were tested on more than one editor.
    """
    tables: dict[tuple[str, str], Matrix] = {}
    for cell, found in sorted(summary.items()):
        if cell.counter != counter or metric not in found or cell.method in CONTROLS:
            continue
        method, attacked = split_on(cell.method)
        table = tables.setdefault((method, cell.budget), {})
        table.setdefault(attacked or cell.editor, {})[cell.editor] = found[metric]
    return {key: table for key, table in tables.items() if any(a != t for a, row in table.items() for t in row)}


def split_on(label: str) -> tuple[str, str | None]:
    """A method's label without its `on=EDITOR`, and that editor; None if it has none."""
    parts = label.split(":")
    on = next((part.removeprefix("on=") for part in parts if part.startswith("on=")), None)
    return ":".join(part for part in parts if not part.startswith("on=")), on


def left_out(table: Matrix, attacked: str) -> float:
    """The mean over the editors that were tested but not attacked: what holds where nobody has looked."""
    others = [estimate.mean for tested, estimate in table.get(attacked, {}).items() if tested != attacked]
    others = [value for value in others if not math.isnan(value)]
    return sum(others) / len(others) if others else math.nan
