"""What a benchmark says in words and few numbers: how many edits succeed, above what floor, after which attack."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from editproof.bench.estimates import Cell, Estimate, Summary, summarise, worst_counter, written
from editproof.bench.methods import HIGHEST_LEVEL, NO_BUDGET, NONE, parse_match
from editproof.bench.store import from_json
from editproof.bench.uncertainty import share_difference
from editproof.budgets import LEVELS
from editproof.errors import UserError
from editproof.metrics import METRICS

FLOOR = "noise"  # the method that every table has as its control
CONTROLS = (NONE, FLOOR)
Row = Mapping[str, Any]
Matrix = dict[str, dict[str, Estimate]]  # attacked editor -> tested editor -> estimate


def is_noise(method: str) -> bool:
    """Whether a method, as rows name it, is the control, however it is told of masks."""
    return method.split(":")[0] == FLOOR


def is_control(method: str) -> bool:
    """Whether a method, as rows name it, protects nothing."""
    return method.split(":")[0] in CONTROLS


def after_any(rows: Iterable[Row]) -> Summary:
    """`success` of an attacker who tries every counter-attack on each photo and keeps the best edit.

    An edit (photo, prompt, seed) succeeds if it does after at least one of them, `none` included. The cells have the
    counter "any". Edits that not every counter-attack of the editor was tried on yet are left out.
    """
    rows = list(rows)
    tried: dict[tuple[Any, ...], list[float]] = {}
    counters: dict[str, set[str]] = {}
    for row in rows:
        counters.setdefault(row["editor"], set()).add(row["counter"])
        value = from_json(row["metrics"].get("success"))
        key = tuple(row[name] for name in ("editor", "method", "budget", "photo", "prompt", "seed"))
        tried.setdefault(key, []).append(value)
    names = ("editor", "method", "budget", "photo", "prompt", "seed")
    best = [
        {**dict(zip(names, key, strict=True)), "counter": "any", "metrics": {"success": max(values)}}
        for key, values in tried.items()
        if len(values) == len(counters[key[0]]) and not any(map(math.isnan, values))
    ]
    return summarise(best)


def above_floor(rows: Iterable[Row]) -> dict[Cell, Estimate]:
    """The share of edits that a protection changes more than both floors, for each cell (IPV-Bench's rule).

    The floors are, over all seeds of the same photo, prompt and counter-attack, the most that another seed changes in
    the edit of the original, and the most that noise of the same budget or visibility does. With k seeds, a protection
    that does what another draw does exceeds both in about one of 2 k + 1 edits. Cells whose rows have no noise beside
    them are left out.
    """
    rows = list(rows)
    floors: dict[Any, list[float]] = {}
    for row in rows:
        floors.setdefault(_edits(row), []).append(from_json(row["metrics"].get("chance")))
        if is_noise(row["method"]):
            floors.setdefault((*_edits(row), row["budget"]), []).append(_change(row))
    found = []
    for row in rows:
        noise, change = floors.get((*_edits(row), row["budget"])), _change(row)
        beside = [change, *floors[_edits(row)], *(noise or [])]
        if noise is not None and not is_control(row["method"]) and not any(map(math.isnan, beside)):
            found.append({**row, "metrics": {"success": float(change > max(beside[1:]))}})  # any share will do
    return {cell: estimates["success"] for cell, estimates in summarise(found).items()}


def _edits(row: Row) -> tuple[Any, ...]:
    """What tells of which photo, prompt and counter-attack a row is, whatever the seed."""
    return tuple(row[name] for name in ("editor", "counter", "photo", "prompt"))


def _change(row: Row) -> float:
    return from_json(row["metrics"].get("change"))


def beaten_by(summary: Summary, cell: Cell) -> Estimate | None:
    """How many more edits fail than without a protection and with noise of the same budget, whichever lets fewer pass.

    A difference of shares over the photos that all have, with an interval (uncertainty.share_difference).
    """
    noises = [c for c in summary if is_noise(c.method) and c == cell._replace(method=c.method)]
    cells = [cell, cell._replace(method=NONE, budget=NO_BUDGET), *noises]
    mine, *floors = (summary.get(c, {}) for c in cells)
    if is_control(cell.method) or not noises or any("success" not in found for found in (mine, *floors)):
        return None
    own, floor = mine["success"], min((found["success"] for found in floors), key=lambda found: found.mean)
    shared = sorted(own.values.keys() & floor.values.keys())
    if not shared:
        return None
    shares = [np.array([estimate.values[photo] for photo in shared]) for estimate in (floor, own)]
    edits = [round(estimate.edits * len(shared) / estimate.photos) for estimate in (floor, own)]
    mean, low, high = share_difference(shares[0], shares[1], (edits[0], edits[1]))
    return replace(own, mean=mean, low=low, high=high, photos=len(shared), values={})


def unmatched(rows: Iterable[Row]) -> list[str]:
    """Sentences on methods that could not be made as visible as was asked for, so that they are compared too faint."""
    missed: dict[tuple[str, str, str], dict[str, bool]] = {}
    for row in rows:
        try:
            metric, target = parse_match(row["budget"])
        except UserError:
            continue
        value, higher = from_json(row["metrics"].get(metric)), METRICS[metric].stronger == "higher"
        at_end = (row.get("eps") or 0) >= HIGHEST_LEVEL / LEVELS - 1e-5
        faint = at_end and (value > target if higher else value < target)
        missed.setdefault((row["editor"], row["method"], row["budget"]), {})[row["photo"]] = faint
    return [
        f"{editor}: {sum(photos.values())} of {len(photos)} photos protected by {method} could not be made as visible "
        f"as {budget}, so they are compared fainter than the others."
        for (editor, method, budget), photos in missed.items()
        if any(photos.values())
    ]


def headline(summary: Summary, rows: Sequence[Row], editor: str, methods: Sequence[str]) -> list[str]:
    """Sentences on one editor that can be printed as they are: first the unprotected photos, then each method.

    Methods in the order given, each with its largest budget; the controls are told first.
    """
    plain = summary.get(Cell(editor, NONE, NO_BUDGET, "none"), {}).get("success")
    faint = unmatched(row for row in rows if row["editor"] == editor)
    if plain is None or math.isnan(plain.mean):
        return [f"{editor}: {_why_unknown(summary, editor)}", *faint]
    lines = [
        f"{editor}: of {plain.edits} edits of {plain.photos} unprotected photos {written(plain, share=True)} succeed."
    ]
    anything = after_any(row for row in rows if row["editor"] == editor)
    for method in sorted((m for m in methods if m != NONE), key=lambda m: not is_noise(m)):
        budgets = [c.budget for c in summary if c.editor == editor and c.method == method and c.counter == "none"]
        for budget in dict.fromkeys(budgets):
            cell = Cell(editor, method, budget, "none")
            mine = summary[cell].get("success")
            if mine is None or math.isnan(mine.mean):
                continue
            who = "With random noise" if is_noise(method) else f"Protected by {method}"
            line = f"{who} ({budget}): {written(mine, share=True)}"
            others = {c: found for c, found in summary.items() if c.counter != "none"}
            worst = worst_counter(others, cell, "success")
            if worst is not None:
                line += f"; after {worst[0]} {written(worst[1], share=True)}"
            tried = anything.get(cell._replace(counter="any"), {}).get("success")
            if tried is not None and worst is not None and tried.mean > max(mine.mean, worst[1].mean):
                line += f"; if every counter-attack is tried {written(tried, share=True)}"
            lines.append(f"{line}.")
    return [*lines, *faint]


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
        if cell.counter != counter or metric not in found or is_control(cell.method):
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
