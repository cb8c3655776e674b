"""One editor's part of a benchmark: protect, attack the protection, edit, measure, write the rows."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from editproof.bench_clock import Clock, in_words
from editproof.bench_config import BenchConfig
from editproof.bench_data import BenchPhoto, mask_at, open_at, truth_at
from editproof.bench_methods import NO_BUDGET, NONE, MethodSpec, match_visibility, parse_bench_budget, parse_match
from editproof.bench_store import Key, Row, Store, digest, to_json
from editproof.budgets import L2, LEVELS, Budget, Linf, on_grid
from editproof.counters import Counter, parse_counter
from editproof.editors import EDITORS, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods.checks import NEEDS, works_on
from editproof.metrics import METRICS, Trial
from editproof.protection import budget_at, budget_in_effect, protect
from editproof.resolution import working_size

Progress = Callable[[str, float, float | None], None]


@dataclass
class Run:
    """What all parts of a run share."""

    config: BenchConfig
    store: Store
    photos: list[BenchPhoto]
    specs: list[MethodSpec]
    clock: Clock
    progress: Progress
    tell: Callable[[str], None]
    device: torch.device
    masks: str  # where they come from: files, centre or none
    batch: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    editors: dict[str, Editor] = field(default_factory=dict)  # loaded
    started: float = field(default_factory=time.perf_counter)

    def show(self, what: str) -> None:
        """Tell the progress bar."""
        self.progress(what, time.perf_counter() - self.started, self.clock.left())

    def editor(self, name: str) -> Editor:
        """The editor of this name, loaded once."""
        if name not in self.editors:
            self.show(f"load {editor_label(name)}")
            editor = load_editor(name, device=self.device, scheduler=self.config.scheduler)
            editor.size = self.config.size or editor.size
            self.editors[name] = editor
        return self.editors[name]


@dataclass(frozen=True)
class Chunk:
    """Photos of one size that are worked on together, as an editor is given them."""

    photos: list[BenchPhoto]
    prompts: list[tuple[str, ...]]
    originals: Tensor  # (B,3,h,w)
    names: list[str]  # of the originals in the cache
    masks: Tensor | None  # (B,1,h,w), 1 = may be repainted; None: the editor takes none
    edits: dict[tuple[int, int], tuple[Tensor, list[str]]] = field(default_factory=dict)  # of the originals


def editor_label(name: str) -> str:
    """How an editor is called in rows and reports: no path of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def prompts_for(config: BenchConfig, photos: Sequence[BenchPhoto], editor: str) -> list[tuple[str, ...]]:
    """Each photo's prompts for an editor: those for its name, its kind, or all; else the data's own.

    Raises UserError where there is none.
    """
    asked = config.prompts
    if isinstance(asked, dict):
        kind = EDITORS[editor].kind if editor in EDITORS else ""
        asked = asked.get(editor_label(editor)) or asked.get(kind) or asked.get("all")
        if asked is None:
            raise UserError(f"no prompts for editor '{editor}'; allowed: a list under its name, its kind, or all")
    found = [asked or photo.prompts for photo in photos]
    if () in found:
        raise UserError(f"photo '{photos[found.index(())].name}' has no prompts; allowed: --prompts FILE or --prompt TEXT")
    return found


def budgets_of(config: BenchConfig, spec: MethodSpec) -> tuple[str, ...]:
    """The budgets a method is run with, as they stand in the rows."""
    if spec.name == NONE:
        return (NO_BUDGET,)
    return config.budgets if config.match is None else (config.match,)


def can_protect(spec: MethodSpec, editor: Any) -> bool:
    """Whether a method works on an editor (anything with `masked` and `in_context`)."""
    return spec.name == NONE or works_on(spec.name, editor)


def keys_of(run: Run, name: str, spec: MethodSpec, budget: str, photo: BenchPhoto, prompts: Sequence[str]) -> Iterator[Key]:
    """The rows that a photo with one method and budget has on an editor."""
    for counter in run.config.counters:
        for seed in run.config.seeds:
            for prompt in prompts:
                yield Key(photo.name, spec.label, budget, editor_label(name), prompt, seed, counter)


def missing(run: Run, name: str, spec: MethodSpec, budget: str, chunk: Sequence[tuple[BenchPhoto, Any]]) -> set[Key]:
    """The rows that photos (each with its prompts) with one method and budget lack on an editor."""
    keys = (
        Key(photo.name, spec.label, budget, editor_label(name), prompt, seed, counter)
        for photo, prompts in chunk
        for counter in run.config.counters
        for seed in run.config.seeds
        for prompt in prompts
    )
    return {key for key in keys if not run.store.has(key, run.config.metrics)}


def works(spec: MethodSpec, editor: Any) -> bool:
    """Whether a method works on an editor (anything with `masked` and `in_context`)."""
    return spec.name == NONE or works_on(spec.name, editor)


def traits(run: Run, name: str) -> Any:
    """What `works` has to know of an editor, which is loaded for it only if it is not one of ours."""
    info = EDITORS.get(name)
    return SimpleNamespace(masked=info.masked, in_context=info.kind == "kontext") if info else run.editor(name)


def expect(run: Run, name: str) -> None:
    """Count what is still to be done on an editor, for the time that is left."""
    label, todo = editor_label(name), run.clock.todo
    pairs = list(zip(run.photos, prompts_for(run.config, run.photos, name), strict=True))
    for spec in run.specs:
        if (spec.on or name) in EDITORS and not works(spec, traits(run, spec.on or name)):
            continue
        for budget in budgets_of(run.config, spec):
            for pair in pairs:
                keys = missing(run, name, spec, budget, [pair])
                if keys and spec.name != NONE:
                    todo["protect", spec.label, spec.on or label] += 1
                for counter, _ in {(key.counter, key.seed) for key in keys}:
                    todo["counter", counter, label] += 1
                todo["edit", label] += len(keys)
                todo["metrics", label] += len(keys)


def bench_editor(run: Run, name: str) -> None:
    """Write the rows that are missing for one editor, which is loaded only if there are any."""
    specs = []
    for spec in run.specs:
        if works(spec, traits(run, spec.on or name)):
            specs.append(spec)
        else:
            kind, why = NEEDS[spec.name][1:]
            run.skipped.append({"method": spec.label, "editor": editor_label(name), "why": f"for {kind} editors; this one {why}"})
    prompts = prompts_for(run.config, run.photos, name)
    pairs = list(zip(run.photos, prompts, strict=True))
    if not any(missing(run, name, spec, budget, pairs) for spec in specs for budget in budgets_of(run.config, spec)):
        return
    editor = run.editor(name)
    counters = {text: parse_counter(text, editor) for text in run.config.counters}
    sizes: dict[tuple[int, int], list[tuple[BenchPhoto, tuple[str, ...]]]] = {}
    for photo, asked in pairs:
        sizes.setdefault(working_size(*photo.size, editor.size), []).append((photo, asked))
    for size, members in sizes.items():
        for start in range(0, len(members), run.batch):
            _bench_chunk(run, name, size, members[start : start + run.batch], specs, counters)
    run.editors.clear()  # the next one may need the memory
    if run.device.type == "cuda":
        torch.cuda.empty_cache()


def _bench_chunk(
    run: Run,
    name: str,
    size: tuple[int, int],
    members: list[tuple[BenchPhoto, tuple[str, ...]]],
    specs: Sequence[MethodSpec],
    counters: dict[str, Counter],
) -> None:
    """All methods and budgets on photos that are worked on together."""
    jobs = [(spec, budget) for spec in specs for budget in budgets_of(run.config, spec)]
    jobs = [(spec, budget) for spec, budget in jobs if missing(run, name, spec, budget, members)]
    if not jobs:
        return
    photos = [photo for photo, _ in members]
    masks = [mask_at(photo, size, run.masks) for photo in photos] if run.editor(name).masked else None
    originals = torch.stack([open_at(photo, size) for photo in photos])
    names = [digest("photo", image) for image in originals]
    _keep(run, names, originals)
    chunk = Chunk(
        photos, [prompts for _, prompts in members], originals, names, None if masks is None else torch.stack(masks)
    )
    for spec, budget in jobs:
        rows = _bench_method(run, name, chunk, spec, budget, missing(run, name, spec, budget, members), counters)
        where = photos[0].name if len(photos) == 1 else f"{photos[0].name} and {len(photos) - 1} more"
        run.tell(f"{editor_label(name)}, {spec.label}, {budget}: {rows} rows of {where}; {in_words(run.clock.left())}")


def _bench_method(
    run: Run, name: str, chunk: Chunk, spec: MethodSpec, budget: str, wanted: set[Key], counters: dict[str, Counter]
) -> int:
    """The rows of one method and budget that are wanted; returns how many were written."""
    config, label, n = run.config, editor_label(name), len(chunk.photos)
    protected, names, bounds = protect_chunk(run, name, chunk, spec, budget)
    seen = [metric for metric in config.metrics if METRICS[metric].group == "visibility"]
    rest = [metric for metric in config.metrics if metric not in seen]
    still = Trial(chunk.originals, protected, *[chunk.originals] * 3, [""] * n, chunk.masks)
    visible = measure(config, seen, still, run.device)
    for text, counter in counters.items():
        for seed in config.seeds:
            mine = {key for key in wanted if key.counter == text and key.seed == seed}
            if not mine:
                continue
            run.show(f"{text} on {spec.label}")
            with run.clock.measure(("counter", text, label), n, run.device):
                shown = counter(protected, seed=seed)
            for number in range(max(len(prompts) for prompts in chunk.prompts)):
                members = [i for i in range(n) if number < len(chunk.prompts[i])]
                asked = [chunk.prompts[i][number] for i in members]
                keys = [Key(chunk.photos[i].name, spec.label, budget, label, p, seed, text) for i, p in zip(members, asked)]
                if mine.isdisjoint(keys):
                    continue
                edit, edit_names = edit_originals(run, name, chunk, number, members, seed)
                other, _ = edit_originals(run, name, chunk, number, members, seed + 1)
                attacked, attacked_names = edit_pictures(run, name, chunk, shown[members], members, asked, seed)
                run.show(f"measure {spec.label}")
                truths = [truth_at(chunk.photos[i], p, edit.shape[-2:]) for i, p in zip(members, asked)]
                trial = Trial(
                    chunk.originals[members], protected[members], edit, attacked, other, asked,
                    None if chunk.masks is None else chunk.masks[members],
                    torch.stack(truths) if all(t is not None for t in truths) else None,  # type: ignore[arg-type]
                )  # fmt: skip
                with run.clock.measure(("metrics", label), len(members), run.device):
                    values = measure(config, rest, trial, run.device)
                rows: list[Row] = []
                pictures: list[Row] = []
                for j, (i, key) in enumerate(zip(members, keys, strict=True)):
                    found = {**visible[i], **values[j]}
                    rows.append({**key._asdict(), **bounds[i], "metrics": {m: to_json(found[m]) for m in config.metrics}})
                    pictures.append({
                        **key._asdict(), "original": chunk.names[i], "protected": names[i], "edit": edit_names[j],
                        "attacked": attacked_names[j],
                    })  # fmt: skip
                chosen = [j for j, key in enumerate(keys) if key in mine]
                run.store.add_rows([rows[j] for j in chosen], [pictures[j] for j in chosen])
    return len(wanted)


def protect_chunk(
    run: Run, name: str, chunk: Chunk, spec: MethodSpec, budget: str
) -> tuple[Tensor, list[str], list[dict[str, Any]]]:
    """The protected photos (B,3,h,w), their names in the cache, and of each the norm and eps it was held to."""
    config, kind = run.config, ("protect", spec.label, spec.on or editor_label(name))
    if spec.name == NONE:
        return chunk.originals, chunk.names, [{"norm": None, "eps": 0.0}] * len(chunk.names)
    against = run.editor(spec.on or name) if spec.needs_editor else None
    told = chunk.masks if spec.told else None
    model = None if against is None else [editor_label(against.name), str(against.dtype), against.size]

    def hashed(i: int, *more: Any) -> str:
        mask = None if told is None else told[i]
        return digest("protect", spec.identity, model, config.protect_seed, *more, chunk.originals[i], mask)

    def run_method(chosen: list[int], bound: Budget | None) -> Tensor:
        wanted = [hashed(i, repr(bound)) for i in chosen]
        found = run.store.load(wanted)
        if found is None:
            with run.clock.measure(kind, len(chosen), run.device, budget=budget):
                found = protect(
                    chunk.originals[chosen], method=spec.name, editor=against, budget=bound, device=run.device,
                    mask=None if told is None else told[chosen], seed=config.protect_seed,
                    callback=lambda step, steps, loss: run.show(f"protect with {spec.label}, step {step} of {steps}"),
                    **spec.settings,
                )  # fmt: skip
            run.store.save(wanted, found)
        else:
            run.clock.todo[kind] -= len(chosen)
        return found

    everyone = list(range(len(chunk.photos)))
    size = (chunk.originals.shape[-2], chunk.originals.shape[-1])
    if config.match is None:
        asked = budget_at(size, parse_bench_budget(budget), (512, 512))
        names = [hashed(i, repr(asked)) for i in everyone]
        bound = budget_in_effect(spec.name, asked, size, spec.settings)
        described = {"norm": None if bound is None else type(bound).__name__, "eps": None if bound is None else round(bound.eps, 6)}
        return run_method(everyone, asked), names, [described] * len(names)
    metric, target = parse_match(config.match)
    higher = METRICS[metric].stronger == "higher"

    def visibility(images: Tensor) -> Tensor:
        trial = Trial(chunk.originals, images, *[chunk.originals] * 3, [""] * len(images), chunk.masks)
        return torch.tensor([row[metric] for row in measure(config, [metric], trial, run.device)])

    protected, eps = match_visibility(
        lambda chosen, level: run_method(chosen, Linf(level / LEVELS)), chunk.originals, visibility, target,
        lambda values, wanted: values > wanted if higher else values < wanted, config.protect_seed,
    )  # fmt: skip
    names = [hashed(i, config.match) for i in everyone]
    _keep(run, names, protected)
    return protected, names, [{"norm": "Linf", "eps": round(e, 6)} for e in eps]


def edit_originals(
    run: Run, name: str, chunk: Chunk, number: int, members: list[int], seed: int
) -> tuple[Tensor, list[str]]:
    """The edits of the photos that have a prompt of this number, and their names in the cache; made once."""
    if (number, seed) not in chunk.edits:
        asked = [chunk.prompts[i][number] for i in members]
        chunk.edits[number, seed] = edit_pictures(run, name, chunk, chunk.originals[members], members, asked, seed, keep=True)
    return chunk.edits[number, seed]


def edit_pictures(
    run: Run,
    name: str,
    chunk: Chunk,
    images: Tensor,
    members: list[int],
    prompts: list[str],
    seed: int,
    keep: bool = False,
) -> tuple[Tensor, list[str]]:
    """What the editor makes of pictures, rounded to 8 bits as a file would, and their names in the cache."""
    editor, config, label = run.editor(name), run.config, editor_label(name)
    steps, guidance = config.edit_steps or editor.steps, editor.guidance if config.guidance is None else config.guidance
    masks = None if chunk.masks is None else chunk.masks[members]
    model = [label, str(editor.dtype), type(editor.pipe.scheduler).__name__, steps, guidance, seed]
    names = [
        digest("edit", model, prompt, image, None if masks is None else masks[i])
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True))
    ]
    found = run.store.load(names)
    if found is not None:
        run.clock.todo["edit", label] -= 0 if keep else len(members)
        return found, names
    with run.clock.measure(("edit", label), len(members), run.device):
        run.clock.todo["edit", label] += len(members) if keep else 0  # is not counted beforehand
        edited = editor.edit(
            images, prompts, mask=masks, steps=steps, guidance=guidance, seed=seed,
            callback=lambda step, steps: run.show(f"edit, step {step} of {steps}"),
        )  # fmt: skip
    edited = on_grid(edited.cpu(), edited.cpu())
    shown = {photo.name for photo in run.photos[: config.gallery]}
    kept = [j for j, i in enumerate(members) if keep or config.cache == "all" or chunk.photos[i].name in shown]
    if kept:
        run.store.save([names[j] for j in kept], edited[kept])
    return edited, names


def _keep(run: Run, names: list[str], images: Tensor) -> None:
    if run.store.load(names) is None:
        run.store.save(names, images)


def measure(
    config: BenchConfig, metrics: Sequence[str], trial: Trial, device: torch.device | str = "cpu"
) -> list[dict[str, float]]:
    """The metrics of each photo of a trial, taken on `device`. Raises UserError where one cannot be taken."""
    tensors = ("original", "protected", "edit", "attacked", "other", "mask", "truth")
    moved = {name: getattr(trial, name) for name in tensors}
    moved = {name: value if value is None else value.to(device) for name, value in moved.items()}
    trial = Trial(prompts=trial.prompts, **moved)
    sources = config.sources or {}
    values = {name: METRICS[name].measure(trial, sources.get(name)).tolist() for name in metrics}
    return [{name: values[name][i] for name in metrics} for i in range(len(trial.prompts))]
