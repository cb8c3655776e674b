"""`editproof verify`: one editor measured as an attacker would use it, and a row for docs/leaderboard.md."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from editproof.bench.config import BenchConfig, editor_label, make_config
from editproof.bench.data import mask_at, mask_source, open_at, read_photos
from editproof.bench.demo import astronaut
from editproof.bench.estimates import number, summarise
from editproof.bench.methods import NONE, parse_bench_budget, parse_method
from editproof.bench.rows import works
from editproof.bench.store import read_rows
from editproof.editors import EDITORS, attacker_size, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic
from editproof.methods import METHODS
from editproof.methods.prompts import HELD_OUT, HELD_OUT_SCENES
from editproof.photo.reading import save_png
from editproof.protection.apply import DEFAULT_METHOD
from editproof.surroundings import undisturbed

ROW = "leaderboard.json"
COUNTERS = ("none", "jpeg:75", "resize:0.5")
SLOW = "photoguard-diffusion"  # left out unless it is named
SHOWN = (
    "psnr",
    "disruption",
    "edit-disruption",
    "edit-psnr",
    "recognised",
    "clip-t",
)  # in the table, where there are any


@dataclass(frozen=True)
class Cost:
    """What a verification is going to take here: seconds, bytes of memory at most so far, and what was counted."""

    seconds: float
    memory: int
    photos: int
    protections: int
    edits: int
    size: tuple[int, int]  # (height, width) at which the editor sees the first photo


@undisturbed
def prepare(
    editor: str,
    out: Path,
    *,
    data: Path | None,
    photos: int,
    prompts: int,
    seeds: int,
    methods: Sequence[str] | None,
    budget: str,
    preset: str | None,
    edit_steps: int | None,
    size: int | None,
    device: str | None,
) -> tuple[BenchConfig, Editor]:
    """The settings of the benchmark behind a verification, and the editor, loaded.

    Without `data`, scikit-image's astronaut (a photo in the public domain, with a mask) is written to `out` and taken.
    Without `methods`: none, noise, the autoencoder attack and those that `compare` takes, as far as they work on the
    editor. Prompts are held out: no method ever sees them. Seeds are 0, 1, ... Raises UserError.
    """
    loaded = load_editor(editor, device=device, size=size)
    if data is None:
        data, (photo, mask) = out / "photos", astronaut(512)
        save_png(data / "images" / "astronaut.png", photo[0])
        save_png(data / "masks" / "mask_astronaut.png", mask[0].expand(3, -1, -1))
    instructions = [text for pair in zip(*HELD_OUT.values(), strict=True) for text in pair]  # one of each group first
    asked = list(HELD_OUT_SCENES) if loaded.masked else instructions
    if not 1 <= prompts <= len(asked):
        raise UserError(f"prompts is {prompts}; allowed: 1 to {len(asked)}, as many as are held out")
    usual = [NONE, "noise", "autoencoder", *(name for name, row in METHODS.items() if row.compared and name != SLOW)]
    if methods is None:
        methods = [name for name in usual if works(parse_method(name, preset), loaded)]
        methods = [f"{name}:mask=told" if name == DEFAULT_METHOD and loaded.masked else name for name in methods]
    config = make_config({
        "data": str(data), "editors": [editor], "methods": list(methods), "budgets": [budget], "preset": preset,
        "prompts": asked[:prompts], "seeds": list(range(seeds)), "counters": list(COUNTERS), "limit": photos,
        "edit_steps": edit_steps or loaded.steps, "size": size, "device": device,
    })  # fmt: skip
    return config, loaded


@undisturbed
def probe(config: BenchConfig, editor: Editor) -> Cost:
    """How long a verification takes and how much memory, from two steps of each part on the first photo."""
    photos = read_photos(config.data, config.limit)
    first = photos[0]
    size = editor.size_for(*first.size)
    image = open_at(first, size)[None].to(editor.device)
    mask = None
    if editor.masked:
        mask = mask_at(first, size, mask_source(photos, config.masks))[None].to(editor.device)
    prompts, seeds, seconds = len(config.prompts or ()), len(config.seeds), 0.0
    specs = [parse_method(text, config.preset) for text in config.methods]
    for spec in specs:
        if spec.name == NONE:
            continue
        times = [time.perf_counter()]
        row = METHODS[spec.name]
        steps = int(spec.settings.get("steps") or row.steps)
        settings = {**spec.settings, **({"steps": 2} if row.paper else {})}
        row(
            editor if spec.needs_editor else None, image, mask=mask if spec.told else None,
            budget=parse_bench_budget(config.budgets[0]) or row.default_budget(*size),
            callback=partial(_note, times), **settings,
        )  # fmt: skip
        seconds += len(photos) * steps * (times[-1] - times[-2] if len(times) > 1 else time.perf_counter() - times[0])
    started = time.perf_counter()
    editor.edit(image, "a photo", mask=mask, steps=2)
    step = (time.perf_counter() - started) / 2
    originals = len(photos) * prompts * (seeds + 1) * len(config.counters)
    edits = originals + len(photos) * prompts * seeds * len(config.counters) * sum(spec.name != NONE for spec in specs)
    seconds += edits * step * int(config.edit_steps or editor.steps)
    editor.forget()
    on_gpu = editor.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(editor.device) if on_gpu else psutil.Process().memory_info().rss
    return Cost(seconds, memory, len(photos), len(photos) * sum(s.name != NONE for s in specs), edits, size)


def _note(times: list[float], step: int, steps: int, loss: float) -> None:
    times.append(time.perf_counter())


def write_row(folder: Path, config: BenchConfig) -> Path:
    """Write OUT/leaderboard.json from a finished run: one entry a method, with the environment it was measured in."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    summary, name = summarise(read_rows(folder / "results.jsonl")), config.editors[0]
    first = read_photos(config.data, 1)[0]
    known = EDITORS.get(name)
    specs = {spec.label: spec for spec in (parse_method(text, config.preset) for text in config.methods)}
    entries = []
    for cell, metrics in summary.items():
        entries.append({
            "method": cell.method, "budget": cell.budget, "counter": cell.counter,
            "settings": _plain(specs[cell.method].settings) if cell.method in specs else {},
            "metrics": {key: [_rounded(v) for v in (e.mean, e.low, e.high)] for key, e in metrics.items()},
        })  # fmt: skip
    row = {
        "editor": editor_label(name), "source": known.source if known and not known.embedded else editor_label(name),
        "embedded": bool(known and known.embedded), "attacker_size": list(reversed(attacker_size(name, *first.size))),
        "size": config.size, "photos": run["photos"], "data_sha256": run["data_sha256"], "prompts": config.prompts,
        "seeds": config.seeds, "preset": config.preset, "edit_steps": config.edit_steps,
        "environment": run["sessions"][-1], "entries": entries,
    }  # fmt: skip
    with atomic(folder / ROW) as file:
        file.write((json.dumps(row, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / ROW


def leaderboard(files: Iterable[Path]) -> str:
    """The Markdown table of docs/leaderboard.md: a line for each editor and method, without counter-attack."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(files)]
    there = {metric for row in rows for entry in row["entries"] for metric in entry["metrics"]}
    shown = [metric for metric in SHOWN if metric in there]
    lines = [["editor", "seen at", "photos", "method", "budget", *shown, "measured on"]]
    for row in rows:
        for entry in row["entries"]:
            if entry["counter"] == "none":
                lines.append([
                    f"`{row['editor']}`", "x".join(map(str, row["attacker_size"])), str(row["photos"]),
                    f"`{entry['method']}`", entry["budget"], *(_cell(entry["metrics"].get(metric)) for metric in shown),
                    f"{row['environment']['device']}, editproof {row['environment']['editproof']}",
                ])  # fmt: skip
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Sequence[float | None] | None) -> str:
    if found is None or found[0] is None:
        return "-"
    mean, low, high = (float("nan") if value is None else value for value in found)
    return number(mean) + (f" [{number(low)}, {number(high)}]" if low == low and high == high else "")


def _rounded(value: float) -> float | None:
    return round(value, 5) if value == value and abs(value) != float("inf") else None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings in what JSON can say, of files only the names."""
    said = {name: v if v is None or isinstance(v, bool | int | float | str) else str(v) for name, v in settings.items()}
    return {name: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v for name, v in said.items()}
