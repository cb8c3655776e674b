"""A benchmark's rows as a page that people can read: one HTML file that needs nothing else."""

import functools
import json
import re
import shlex
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jinja2
import yaml
from markupsafe import Markup, escape

from editproof.bench.config import MASKS, REFERENCES, editor_label
from editproof.bench.estimates import Summary, known_metrics, main_metric, number, summarise
from editproof.bench.report.charts import curves, legend
from editproof.bench.report.exports import comma_separated, latex, markdown
from editproof.bench.report.gallery import GAIN, gallery
from editproof.bench.report.tables import (
    first_counter,
    full_table,
    heat_maps,
    series,
    summary_table,
    time_table,
    to_csv,
)
from editproof.bench.report.verdicts import Lines, success_table, test_table, transfer_tables
from editproof.bench.store import Row, check_own, key_of, read_lines, read_rows
from editproof.bench.verdict import headline
from editproof.errors import UserError
from editproof.files import atomic
from editproof.metrics import METRICS
from editproof.parsing import parse_yaml

Settings = ParamSpec("Settings")
Read = TypeVar("Read")
VISIBILITY = ("psnr", "ssim", "lpips", "ciede2000")  # in the summary, and what protection is drawn against
NARROW = ("method", "budget", "edits succeed", "worst counter", "all counters tried")  # of success, in a terminal
BESIDE = ("prompt", "identity", "quality", "truth")  # groups of which the summary shows the first metric


def _damage_told(read: Callable[Settings, Read]) -> Callable[Settings, Read]:
    """A function of a benchmark's folder that tells in one line of files that somebody has changed."""

    @functools.wraps(read)
    def told(*arguments: Settings.args, **settings: Settings.kwargs) -> Read:
        try:
            return read(*arguments, **settings)
        except UserError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"'{arguments[0]}' has files that do not fit `editproof bench` ({what}); run it again"
            ) from error

    return told


@_damage_told
def write_report(folder: str | Path, photos: int | None = None) -> Path:
    """Write report.html, summary.csv, and tables.md, .tex and .csv for people to a benchmark's folder.

    `photos` in the galleries, None: as configured.

    Raises UserError if the folder holds no rows.
    """
    folder = Path(folder)
    check_own(folder, ("report.html", "summary.csv", "tables.md", "tables.tex", "tables.csv"))
    rows, config = _rows(folder), _read(folder / "config.yml", parse_yaml)
    summary, metrics = summarise(rows), known_metrics(rows)
    photos = int(config.get("gallery", 4)) if photos is None else photos
    page = _page(folder, rows, summary, metrics, config, photos)
    with atomic(folder / "summary.csv") as file:
        file.write(to_csv(summary, metrics).encode("utf-8", "replace"))
    for name, text in _tables(rows, summary, metrics, config, folder).items():
        with atomic(folder / name) as file:
            file.write(text.encode("utf-8", "replace"))
    with atomic(folder / "report.html") as file:
        file.write(page.encode("utf-8", "replace"))
    return folder / "report.html"


@_damage_told
def sentences(folder: str | Path) -> list[str]:
    """What a benchmark found, in sentences that can be printed: how many edits succeed on each editor."""
    rows, config = _rows(Path(folder)), _read(Path(folder) / "config.yml", parse_yaml)
    summary = summarise(rows)
    methods, editors = (_in_order(summary, config, name) for name in ("method", "editor"))
    return [line for editor in editors for line in headline(summary, rows, editor, methods)]


@_damage_told
def overview(folder: str | Path) -> dict[str, list[dict[str, str]]]:
    """The main tables for a terminal: title -> lines."""
    folder = Path(folder)
    rows = _rows(folder)
    summary, metrics = summarise(rows), known_metrics(rows)
    config = _read(folder / "config.yml", parse_yaml)
    return {
        title: [
            {
                head: " ".join(filter(None, (f.text + "*" * f.best, f.added)))
                for head, f in line.items()
                if "edits succeed" not in line or head in NARROW
            }
            for line in lines
        ]
        for title, lines in _main_tables(rows, summary, metrics, config, folder).items()
    }


def _main_tables(
    rows: list[Row], summary: Summary, metrics: list[str], config: dict[str, Any], folder: Path
) -> dict[str, Lines]:
    """The tables of success and of the main metric for each editor, and those of transfer: title -> lines."""
    methods, editors = (_in_order(summary, config, name) for name in ("method", "editor"))
    shown = [metric for metric in ("psnr",) if metric in metrics]
    tables: dict[str, Lines] = {}
    for editor in editors:
        mine = [row for row in rows if row["editor"] == editor]
        if lines := success_table(summary, mine, editor, methods, shown):
            tables[f"{editor}: edits that succeed, share [95 % interval over photos]"] = lines
        tables[f"{editor}: mean [95 % interval over photos], * the best where a paired test says so"] = summary_table(
            summary, editor, methods, shown, main_metric(metrics), _timings(folder)
        )
    for metric in _told(metrics):
        for title, lines in transfer_tables(summary, metric).items():
            tables[f"attacked and tested: {title}"] = lines
    return tables


def _told(metrics: list[str]) -> list[str]:
    """The metrics that methods are compared by: success, and the main one of edits."""
    main = main_metric(metrics)
    return [name for name in ("success", main) if name in metrics]


def _tables(
    rows: list[Row], summary: Summary, metrics: list[str], config: dict[str, Any], folder: Path
) -> dict[str, str]:
    """The main tables as Markdown, LaTeX and CSV: file name -> text."""
    tables = _main_tables(rows, summary, metrics, config, folder)
    return {
        "tables.md": "\n".join(f"**{title}**\n\n{markdown(lines)}" for title, lines in tables.items()),
        "tables.tex": "\n".join(latex(lines, title) for title, lines in tables.items()),
        "tables.csv": "\n".join(f"{title}\n{comma_separated(lines)}" for title, lines in tables.items()),
    }


def _page(
    folder: Path, rows: list[Row], summary: Summary, metrics: list[str], config: dict[str, Any], photos: int
) -> str:
    main, timings, run = main_metric(metrics), _timings(folder), _read(folder / "run.json", json.loads)
    methods, names = (_in_order(summary, config, name) for name in ("method", "editor"))
    by_key = {key_of(row): row for row in rows}
    settings = {name: value for name, value in config.items() if name not in ("published", "prompts")}
    return _template().render(
        folder=folder.resolve().name, main=main, metrics=metrics, METRICS=METRICS, run=run,
        editors=[_editor(name, rows, summary, metrics, config, timings) for name in names],
        sentences=[line for name in names for line in headline(summary, rows, name, methods)],
        transfer={title: lines for m in _told(metrics) for title, lines in transfer_tables(summary, m).items()},
        facts=_facts(rows), counter=first_counter(summary, names[0]),
        strips=gallery(folder, by_key, methods, photos), gain=GAIN, full=full_table(summary, metrics),
        reference=REFERENCES.get(config.get("reference", ""), ""),
        masks=MASKS.get(run.get("masks", ""), "none, as no editor takes one"), number=number,
        settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100),
        prompts=sorted({row["prompt"] for row in rows}), time=time_table(timings), published=config.get("published"),
        rerun=f"editproof bench --config config.yml --data {shlex.quote(str(config.get('data', 'DIR')))} --out OUT",
        measured=lambda key: number(by_key[key]["metrics"].get(main) or float("nan")) if main else "",
    )  # fmt: skip


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = breakable
    return environment.from_string((files("editproof") / "assets" / "report.html.j2").read_text(encoding="utf-8"))


def _editor(
    name: str, rows: list[Row], summary: Summary, metrics: list[str], config: dict[str, Any], timings: list[Row]
) -> dict[str, Any]:
    """What the page shows of one editor."""
    main = main_metric(metrics)
    methods, counters = (_in_order(summary, config, kind) for kind in ("method", "counter"))
    visibility = [m for m in VISIBILITY if m in metrics]
    beside = [next((m for m in metrics if METRICS[m].group == group), None) for group in BESIDE]
    columns = [*visibility, *(m for m in beside if m and m != main)]
    drawn = {m: series(summary, name, methods, m, main) for m in visibility} if main else {}
    return {
        "name": name,
        "success": success_table(summary, [r for r in rows if r["editor"] == name], name, methods, visibility),
        "tests": {metric: test_table(summary, name, methods, metric) for metric in _told(metrics)},
        "lines": summary_table(summary, name, methods, columns, main, timings),
        "curves": [curves(points, axis(metric), axis(main)) for metric, points in drawn.items() if main],
        "legend": legend(next(iter(drawn.values()), {})),
        "heats": {metric: heat_maps(summary, name, methods, counters, metric) for metric in _told(metrics)},
    }  # fmt: skip


def axis(metric: str) -> str:
    """A metric with what is better, for an axis."""
    better = "fainter" if METRICS[metric].group == "visibility" else "stronger"
    return f"{metric}{' (dB)' if metric.endswith('psnr') else ''}, {METRICS[metric].stronger} is {better}"


def breakable(text: str) -> Markup:
    """A name that may be broken after its punctuation."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[-:+=/_])", text))


def _facts(rows: list[Row]) -> dict[str, int]:
    facts = {"rows": len(rows)}
    for name in ("photo", "method", "editor", "budget", "prompt", "seed", "counter"):
        facts[f"{name}s"] = len({row[name] for row in rows} - ({"0"} if name == "budget" else set()))
    return facts


def _in_order(summary: Summary, config: dict[str, Any], name: str) -> list[str]:
    """The methods, editors or counters that there are rows of, in the order of the settings."""
    found = list(dict.fromkeys(getattr(cell, name) for cell in sorted(summary)))
    asked = [editor_label(str(text)) for text in config.get(f"{name}s", [])]
    return sorted(found, key=lambda text: asked.index(text) if text in asked else len(asked))


def _timings(folder: Path) -> list[Row]:
    return read_lines(folder / "timings.jsonl")


def _rows(folder: Path) -> list[Row]:
    rows = read_rows(folder / "results.jsonl")
    if not rows:
        raise UserError(f"'{folder}' holds no results.jsonl with rows; allowed: a folder that `editproof bench` wrote")
    for name in {metric for row in rows for metric in row["metrics"]} - set(METRICS):
        raise UserError(f"'{folder}/results.jsonl' has the unknown metric '{name}'; allowed: {', '.join(METRICS)}")
    return rows


def _read(path: Path, parse: Any) -> dict[str, Any]:
    """A YAML or JSON file that a report can do without."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
