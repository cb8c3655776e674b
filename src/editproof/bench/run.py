"""The benchmark: protect photos, attack the protection, edit, measure; a row for each combination, resumable.

Photos go through in chunks that depend on the data and the batch size only, and a chunk is always worked on whole, so
that a run which was killed and went on has the same rows, to the last bit, as one that was not.
"""

import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from editproof.bench.chunk import Progress, Run, measure
from editproof.bench.clock import Clock
from editproof.bench.config import (
    FAST_EDIT_STEPS,
    FIXED,
    BenchConfig,
    check_editor_name,
    editor_label,
    published_form,
)
from editproof.bench.data import BenchPhoto, fingerprint, mask_source, open_at, read_photos
from editproof.bench.methods import NONE, MethodSpec, parse_bench_budget, parse_match, parse_method
from editproof.bench.rows import bench_editor, expect, prompts_for
from editproof.bench.store import Store, check_own, read_lines
from editproof.bench.weights import weights_of
from editproof.counters import counter_text, named_editors
from editproof.editors import EDITORS, SCHEDULERS, pick_device
from editproof.errors import UserError
from editproof.files import atomic, check_folder
from editproof.methods import ready
from editproof.metrics import METRICS, Trial
from editproof.parsing import parse_yaml
from editproof.people import faces
from editproof.protection.report import versions
from editproof.randomness import same_bits
from editproof.resolution import working_size
from editproof.surroundings import undisturbed


@undisturbed
def run_bench(
    config: BenchConfig,
    out: str | Path,
    *,
    progress: Progress = lambda what, done, left: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the missing rows of a benchmark to `out`, where a run that was stopped goes on.

    `progress` is told what goes on, the seconds so far and those left (None: not known yet), `tell` of each piece that
    is done. Raises UserError before any work for settings, data, metrics or counters that cannot be used, and where
    `out` holds rows of other settings or photos.
    """
    out = Path(out)
    check_folder(out)
    check_own(out)
    config = resolve(config)
    specs = _specs(config)
    device = pick_device(config.device)
    photos = read_photos(config.data, config.limit)
    matched = () if config.match is None else (parse_match(config.match)[0],)  # whether it was reached is told
    config = replace(config, metrics=tuple(dict.fromkeys((*(config.metrics or default_metrics(photos)), *matched))))
    masked = [name for name in config.editors if name not in EDITORS or EDITORS[name].masked]
    source = mask_source(photos, config.masks) if masked else "none"
    for name in config.editors:
        prompts_for(config, photos, name)
    check_metrics(config, photos)
    batch = config.batch or (16 if device.type == "cuda" else 1)
    others = (*(spec.on for spec in specs if spec.on), *(n for text in config.counters for n in named_editors(text)))
    workers = config.workers or default_workers({*config.editors, *others}, device)
    weights = weights_of(specs, (*config.editors, *others))
    with Store(out) as store, same_bits(device):
        info: dict[str, Any] = {
            "photos": len(photos),
            "data_sha256": fingerprint(photos),
            "masks": source,
            "batch": batch,
            "weights": weights,
        }
        info["sessions"] = _check_same(store, config, info)
        info["sessions"] += [session for session in [environment(device)] if session not in info["sessions"]]
        _write_settings(store, config, info)
        try:
            clock = Clock(store.add_timing, read_lines(out / "timings.jsonl"))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"'{out / 'timings.jsonl'}' has lines that are no timings of `editproof bench`") from None
        run = Run(config, store, photos, specs, clock, progress, tell, device, source, batch, workers, weights)
        try:
            for name in config.editors:
                expect(run, name)
            for name in config.editors:
                bench_editor(run, name)
        except BaseException:
            if not store.rows:  # settings that nothing came of are not to be gone on with
                for name in ("config.yml", "run.json"):
                    (out / name).unlink(missing_ok=True)
            raise
        store.write_json("run.json", {**info, "skipped": run.skipped})
        store.sort()


def _specs(config: BenchConfig) -> list[MethodSpec]:
    """The methods of a benchmark, each once. Raises UserError."""
    specs = [parse_method(text, config.preset) for text in config.methods]
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"method '{label}' is there twice; allowed: once, or with other settings")
    return specs


def _write_settings(store: Store, config: BenchConfig, info: dict[str, Any]) -> None:
    """config.yml, from which the run can be made again, and run.json, what its settings came to."""
    with atomic(store.folder / "config.yml") as file:
        file.write(b"# editproof bench --config config.yml --data DIR --out OUT\n")
        file.write(yaml.safe_dump(published_form(config), sort_keys=False, allow_unicode=True, width=110).encode())
    store.write_json("run.json", {**info, "skipped": []})


def resolve(config: BenchConfig) -> BenchConfig:
    """The settings with every list filled in, each thing in its one way of writing. Raises UserError."""
    if config.match is not None:
        parse_match(config.match)
    else:
        for text in config.budgets:
            parse_bench_budget(text)
    for name in (*config.metrics, *(config.sources or {})):
        if name not in METRICS:
            if name == "fid":
                raise UserError(
                    "metric 'fid' is of sets, not of a photo; allowed: `editproof fid OUT` once the run is done"
                )
            raise UserError(f"metric '{name}' is unknown; allowed: {', '.join(METRICS)}")
    for name in config.sources or {}:
        if METRICS[name].source is None and METRICS[name].extra is None and METRICS[name].can_use is None:
            raise UserError(f"metric '{name}' has no model, so a source changes nothing; allowed: no source for it")
    for text in config.counters:
        for name in named_editors(text):
            check_editor_name(name)
    if config.scheduler is not None and config.scheduler not in SCHEDULERS:
        raise UserError(f"scheduler '{config.scheduler}' is unknown; allowed: {', '.join(SCHEDULERS)}")
    labels = [editor_label(name) for name in config.editors]
    if len(set(labels)) < len(labels):
        raise UserError(
            f"editors {', '.join(labels)}: two have the same name; allowed: folders with names of their own"
        )
    methods = config.methods or (NONE, *ready())
    return replace(
        config,
        methods=against_all(methods, config.editors) if config.transfer else methods,
        transfer=False,  # now the methods say it
        counters=tuple(dict.fromkeys(counter_text(text) for text in config.counters)),
        edit_steps=config.edit_steps or (FAST_EDIT_STEPS if config.preset == "fast" else None),
    )


def against_all(methods: Sequence[str], editors: Sequence[str]) -> tuple[str, ...]:
    """Every method that needs an editor once for each editor to attack, `on=` it; the others as they are."""
    found: list[str] = []
    for text in methods:
        spec = parse_method(text, None)
        found += [f"{text}:on={editor}" for editor in editors] if spec.needs_editor and spec.on is None else [text]
    return tuple(dict.fromkeys(found))


def default_workers(editors: Iterable[str], device: torch.device) -> int:
    """On a CPU one for each thread of PyTorch's, up to 8, if all editors are embedded, so small enough for copies."""
    small = all(name in EDITORS and EDITORS[name].embedded for name in editors)
    return min(torch.get_num_threads(), 8) if device.type == "cpu" and small else 1


def default_metrics(photos: Sequence[BenchPhoto]) -> tuple[str, ...]:
    """All metrics that need nothing installed or downloaded, and those of success where the extra `faces` is there.

    Those of the truth only where the data has it; none that is taken only where it is named.
    """
    truths = any(photo.truths for photo in photos)
    return tuple(
        name
        for name, info in METRICS.items()
        if (info.extra is None or (info.group == "success" and faces.installed()))
        and info.source is None
        and not info.named
        and (truths or info.group != "truth")
    )


def check_metrics(config: BenchConfig, photos: Sequence[BenchPhoto]) -> None:
    """Take every metric once, of one photo and itself, so that what is missing is known before any work."""
    for name in config.metrics:
        if METRICS[name].group == "truth" and not any(photo.truths for photo in photos):
            raise UserError(f"metric '{name}' needs to know what an edit should be; allowed: data with \"truths\"")
    first = open_at(photos[0], working_size(*photos[0].size, config.size or 256))[None]
    measure(config, config.metrics, Trial(first, first, first, first, 1 - first, ["a photo"], None, first))


def environment(device: torch.device) -> dict[str, Any]:
    """What a session runs on; nothing that names the machine."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return {**versions(), "system": system, "device": f"{device.type} ({name})"}


def _check_same(store: Store, config: BenchConfig, info: dict[str, Any]) -> list[dict[str, Any]]:
    """The sessions of the run that is gone on with.

    Raises UserError where its rows were made with settings or photos that would give others now.
    """
    try:
        old = parse_yaml((store.folder / "config.yml").read_text(encoding="utf-8"))
        told = json.loads((store.folder / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return []
    if not store.rows or not isinstance(old, dict) or not isinstance(told, dict):
        return []
    new = published_form(config)
    for name in FIXED:
        if old.get(name) != new.get(name):
            raise UserError(
                f"'{store.folder}' holds rows made with {name} {old.get(name)}, this is {name} {new.get(name)}; "
                "allowed: the same, or another --out"
            )
    if told.get("data_sha256") != info["data_sha256"]:
        raise UserError(f"'{store.folder}' holds rows of other photos or masks; allowed: the same, or another --out")
    before = told.get("weights")
    for name, known in (before if isinstance(before, dict) else {}).items():
        if known and info["weights"].setdefault(name, known) != known:
            raise UserError(
                f"'{store.folder}' holds rows made with other weights of {name}; allowed: the same, or another --out"
            )
    sessions = told.get("sessions")
    return sessions if isinstance(sessions, list) else []
