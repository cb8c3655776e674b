"""Tables in README.md and docs/*.md from the committed rows: between these two lines, everything is made here.

    <!-- table: robustness rows=own editor=tiny-inpaint budget=8/255 counters=none,jpeg:75,resize:0.5 -->
    <!-- /table -->

    python benchmarks/tables.py            # writes them
    python benchmarks/tables.py --check    # exit code 1 if a table is not that of the rows

rows=NAME: results/NAME.jsonl or results/NAME.jsonl.gz, what `editproof bench` wrote as results.jsonl.

kind        a line for each      columns                                          settings
summary     method and budget    main metric, what the worst counter leaves of    rows, editor; budgets, metrics, main
                                 it, other metrics
robustness  method               counters                                         rows, editor, budget; counters, metric
"""

import argparse
import re
import sys
from pathlib import Path

from editproof.bench.estimates import Cell, Summary, best, summarise
from editproof.bench.report.exports import markdown
from editproof.bench.report.tables import Field, budgets_in, field, summary_table
from editproof.bench.store import read_rows
from editproof.errors import UserError
from editproof.methods import METHODS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<kind>\w+) (?P<settings>[^>]*?) -->\n)(?P<table>.*?)(<!-- /table -->)", re.DOTALL)
ORDER = ("none", *METHODS)


def main() -> int:
    """Write the tables, or check them: 0 if all are those of the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something would change")
    check = parser.parse_args().check
    stale = []
    try:
        for path in documents():
            text = path.read_text(encoding="utf-8")
            made = with_tables(text, ROOT / "benchmarks" / "results")
            if made != text:
                stale.append(path.relative_to(ROOT).as_posix())
                if not check:
                    path.write_text(made, encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'not those of the rows' if check else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if check and stale else 0


def documents() -> list[Path]:
    """The files that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def with_tables(text: str, results: Path) -> str:
    """A document with every table as the rows have it. Raises UserError for a marker that cannot be followed."""
    summaries: dict[str, Summary] = {}

    def table(block: re.Match[str]) -> str:
        settings = dict(pair.partition("=")[::2] for pair in block["settings"].split())
        name = settings.pop("rows", "")
        if block["kind"] not in KINDS:
            raise UserError(f"table '{block['kind']}' is unknown; allowed: {', '.join(KINDS)}")
        if name not in summaries:
            summaries[name] = _summary(results, name)
        try:
            lines = KINDS[block["kind"]](summaries[name], **settings)
        except (TypeError, KeyError) as error:
            raise UserError(f"table '{block['kind']} {block['settings']}' cannot be made: {error}") from None
        return f"{block[1]}{markdown(lines)}{block[5]}"

    return BLOCK.sub(table, text)


def _summary(results: Path, name: str) -> Summary:
    for path in (results / f"{name}.jsonl", results / f"{name}.jsonl.gz"):
        if path.is_file():
            return summarise(read_rows(path))
    raise UserError(f"rows '{name}': '{results}' has no {name}.jsonl or {name}.jsonl.gz")


def methods_in(summary: Summary, editor: str) -> list[str]:
    """The methods on an editor, controls first."""
    found = sorted({cell.method for cell in summary if cell.editor == editor})
    if not found:
        raise KeyError(f"no rows of editor {editor}")
    return sorted(found, key=lambda m: (ORDER.index(m.split(":")[0]) if m.split(":")[0] in ORDER else 99, m))


def summary(
    found: Summary, editor: str, budgets: str = "", metrics: str = "psnr", main: str = "disruption"
) -> list[dict[str, Field]]:
    """Each method and budget: the main metric, what the worst counter leaves of it, and others."""
    wanted = budgets.split(",") if budgets else budgets_in(found, editor)
    kept = {cell: e for cell, e in found.items() if cell.budget in wanted}
    lines = summary_table(kept, editor, methods_in(found, editor), metrics.split(","), main, [])
    return [{head: item for head, item in line.items() if head != "s/photo"} for line in lines]


def robustness(
    found: Summary, editor: str, budget: str, counters: str = "", metric: str = "disruption"
) -> list[dict[str, Field]]:
    """Each method: the metric after each counter-attack; the photo without a protection unless that is 0 throughout."""
    there = list(dict.fromkeys(cell.counter for cell in found if cell.editor == editor))
    lines: dict[str, dict[str, Field]] = {method: {"method": Field(method)} for method in methods_in(found, editor)}
    for counter in counters.split(",") if counters else sorted(there, key=lambda c: (c != "none", c)):
        cells = {m: Cell(editor, m, "0" if m == "none" else budget, counter) for m in lines}
        column = {m: found[cell][metric] for m, cell in cells.items() if cell in found}
        if not column:
            raise KeyError(f"no rows with counter {counter}")
        for method in lines:
            lines[method][counter] = field(column.get(method), best(column, metric) == method)
    if all(item.value == 0 for item in list(lines.get("none", {}).values())[1:]):
        lines.pop("none", None)
    return list(lines.values())


KINDS = {"summary": summary, "robustness": robustness}


if __name__ == "__main__":
    raise SystemExit(main())
