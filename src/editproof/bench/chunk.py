"""What a benchmark does to a chunk of photos: protect, move, edit, measure, each kept in the cache."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import torch
from torch import Tensor

from editproof.bench.clock import Clock
from editproof.bench.config import BenchConfig, editor_label
from editproof.bench.data import BenchPhoto, truth_at
from editproof.bench.methods import NONE, MethodSpec, match_visibility, parse_bench_budget, parse_match, protect_with
from editproof.bench.store import Store, digest
from editproof.bench.weights import embedded_in
from editproof.budgets import LEVELS, Budget, Linf, on_grid
from editproof.counters import COUNTERS, Counter, move_mask, parse_chain
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.metrics import METRICS, Trial
from editproof.metrics.trying import edit_as_file
from editproof.protection.apply import budget_at, budget_in_effect

Progress = Callable[[str, float, float | None], None]  # what goes on, seconds so far, seconds left


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
    workers: int
    weights: dict[str, str] = field(default_factory=dict)  # see weights_of
    skipped: list[dict[str, str]] = field(default_factory=list)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)  # (editor, method) -> why; "": it runs
    editors: dict[tuple[int, str], Editor] = field(default_factory=dict)  # loaded, by thread and name
    stopped: threading.Event = field(default_factory=threading.Event)
    loading: threading.Lock = field(default_factory=threading.Lock)
    started: float = field(default_factory=time.perf_counter)

    def show(self, what: str) -> None:
        """Tell the progress bar; raises Stopped if the run is to end."""
        if self.stopped.is_set():
            raise Stopped
        self.progress(what, time.perf_counter() - self.started, self.left())

    def left(self) -> float | None:
        """Seconds until everything is done, None as long as too little is known."""
        left = self.clock.left()
        return None if left is None else left / self.workers

    def editor(self, name: str) -> Editor:
        """The editor of this name, loaded once by each worker: pipelines keep state while they work."""
        own = threading.get_ident(), name
        if own not in self.editors:
            with self.loading:
                self.show(f"load {editor_label(name)}")
                editor = load_editor(name, device=self.device, scheduler=self.config.scheduler, size=self.config.size)
            self.editors[own] = editor
        return self.editors[own]


class Stopped(Exception):
    """Another worker has failed, or the user has had enough."""


@dataclass(frozen=True)
class Chunk:
    """Photos of one size that are worked on together, as an editor is given them."""

    photos: list[BenchPhoto]
    prompts: list[tuple[str, ...]]
    originals: Tensor  # (B,3,h,w)
    names: list[str]  # of the originals in the cache
    masks: Tensor | None  # (B,1,h,w), 1 = may be repainted; None: the editor takes none
    people: Tensor | None  # (B,1,h,w), 1 = the person, where the editor takes no mask
    edits: dict[tuple[int, int], tuple[Tensor, list[str]]] = field(default_factory=dict)  # of the originals
    others: dict[tuple[Any, ...], "Chunk"] = field(default_factory=dict)  # the same photos after a counter, or moved


def moves_of(counter: str) -> tuple[tuple[int, str, float], ...]:
    """The parts of a counter that move what is in the picture: their place in the chain, name and strength."""
    chain = enumerate(parse_chain(counter))
    return tuple((i, part.name, part.strength) for i, part in chain if COUNTERS[part.name].moves)


def move(counter: str, images: Tensor, seed: int) -> Tensor:
    """Pictures (B,3,h,w) moved as the counter moves them with this seed, and not attacked otherwise."""
    for number, name, strength in moves_of(counter):
        images = COUNTERS[name].make(strength, None)(images, seed=seed + number)
        images = on_grid(images, images)
    return images


def moved_chunk(chunk: Chunk, counter: str, seed: int) -> Chunk:
    """The photos and masks as a counter moves them: the edit of a flipped photo is compared with that of the flipped
    original. The chunk itself for a counter that leaves everything in its place."""
    moves = moves_of(counter)
    return chunk if not moves else _like(chunk, counter, seed, moves, lambda: move(counter, chunk.originals, seed))


def reference_chunk(run: Run, chunk: Chunk, text: str, counter: Counter, seed: int) -> Chunk:
    """The photos of which the edits are the reference: after the counter too, or only moved as it moves them."""
    if run.config.reference == "untouched" or text == "none":
        return moved_chunk(chunk, text, seed)
    return _like(chunk, text, seed, text, lambda: attack(run, counter, chunk.originals, seed))


def attack(run: Run, counter: Counter, images: Tensor, seed: int) -> Tensor:
    """Pictures (B,3,h,w) after a counter, computed where the editor computes."""
    return counter(images.to(run.device), seed=seed).to(images.device)


def _like(chunk: Chunk, counter: str, seed: int, what: Any, make: Callable[[], Tensor]) -> Chunk:
    if (what, seed) not in chunk.others:
        originals = make()
        masks = None if chunk.masks is None else move_mask(counter, chunk.masks, seed=seed)
        people = None if chunk.people is None else move_mask(counter, chunk.people, seed=seed)
        names = [digest("photo", image) for image in originals]
        chunk.others[what, seed] = Chunk(chunk.photos, chunk.prompts, originals, names, masks, people)
    return chunk.others[what, seed]


def truths(chunk: Chunk, members: list[int], prompts: list[str], counter: str, seed: int) -> Tensor | None:
    """What the edits should be (B,3,h,w), moved as the counter moves; None unless the data says it for all of them."""
    size = (chunk.originals.shape[-2], chunk.originals.shape[-1])
    found = [truth_at(chunk.photos[i], prompt, size) for i, prompt in zip(members, prompts, strict=True)]
    known = [truth for truth in found if truth is not None]
    return move(counter, torch.stack(known), seed) if len(known) == len(found) else None


def photos_only(chunk: Chunk, protected: Tensor) -> Trial:
    """For the metrics of visibility, which do not look at edits."""
    images = chunk.originals
    return Trial(images, protected, images, images, images, [""] * len(images), chunk.masks)


def protect_chunk(
    run: Run, name: str, chunk: Chunk, spec: MethodSpec, budget: str
) -> tuple[Tensor, list[str], list[dict[str, Any]]]:
    """The protected photos (B,3,h,w), their names in the cache, and of each the norm and eps it was held to."""
    config, kind = run.config, ("protect", spec.label, spec.on or editor_label(name))
    if spec.name == NONE:
        return chunk.originals, chunk.names, [{"norm": None, "eps": 0.0}] * len(chunk.names)
    against = run.editor(spec.on or name) if spec.needs_editor else None
    told = chunk.masks if spec.told else None
    network = embedded_in(spec)
    weights = run.weights.get(network or editor_label(spec.on or name))
    model = None if against is None else [editor_label(against.name), str(against.dtype), against.side or against.size]
    model = [model, weights] if model is not None or network is not None else None

    def hashed(i: int, *more: Any) -> str:
        mask = None if told is None else told[i]
        return digest("protect", spec.identity, model, config.protect_seed, *more, chunk.originals[i], mask)

    def run_method(chosen: list[int], bound: Budget | None) -> Tensor:
        wanted = [hashed(i, repr(bound)) for i in chosen]
        found = run.store.load(wanted)
        if found is None:
            with run.clock.measure(kind, len(chosen), run.device, budget=budget):
                found = protect_with(
                    spec, chunk.originals[chosen], against, mask=None if told is None else told[chosen], budget=bound,
                    seed=config.protect_seed, device=run.device,
                    callback=lambda step, steps, loss: run.show(f"protect with {spec.label}, step {step} of {steps}"),
                )  # fmt: skip
            run.store.save(wanted, found)
        else:
            run.clock.expect(kind, -len(chosen))
        return found

    everyone = list(range(len(chunk.photos)))
    size = (chunk.originals.shape[-2], chunk.originals.shape[-1])
    if config.match is None:
        asked = budget_at(size, parse_bench_budget(budget), (512, 512))
        names = [hashed(i, repr(asked)) for i in everyone]
        bound = budget_in_effect(spec.name, asked, size, spec.settings)
        described = {
            "norm": None if bound is None else type(bound).__name__,
            "eps": None if bound is None else round(bound.eps, 6),
        }
        return run_method(everyone, asked), names, [described] * len(names)
    metric, target = parse_match(config.match)
    higher = METRICS[metric].stronger == "higher"

    def visibility(images: Tensor) -> Tensor:
        return torch.tensor([row[metric] for row in measure(config, [metric], photos_only(chunk, images), run.device)])

    protected, eps = match_visibility(
        lambda chosen, level: run_method(chosen, Linf(level / LEVELS)), chunk.originals, visibility, target,
        lambda values, wanted: values > wanted if higher else values < wanted, config.protect_seed,
    )  # fmt: skip
    names = [hashed(i, config.match) for i in everyone]
    run.store.keep(names, protected)
    return protected, names, [{"norm": "Linf", "eps": round(e, 6)} for e in eps]


def edit_originals(
    run: Run, name: str, chunk: Chunk, number: int, members: list[int], seed: int
) -> tuple[Tensor, list[str]]:
    """The edits of the photos that have a prompt of this number, and their names in the cache; made once."""
    if (number, seed) not in chunk.edits:
        asked = [chunk.prompts[i][number] for i in members]
        chunk.edits[number, seed] = edit_pictures(
            run, name, chunk, chunk.originals[members], members, asked, seed, keep=True
        )
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
    model = [
        label, run.weights.get(label), str(editor.dtype), type(editor.pipe.scheduler).__name__, steps, guidance, seed,
    ]  # fmt: skip
    names = [
        digest("edit", model, prompt, image, None if masks is None else masks[i])
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True))
    ]
    found = run.store.load(names)
    if found is not None:
        run.clock.expect(("edit", label), 0 if keep else -len(members))
        return found, names
    with run.clock.measure(("edit", label), len(members), run.device):
        run.clock.expect(("edit", label), len(members) if keep else 0)  # these are not counted beforehand
        edited = edit_as_file(
            editor, images, prompts, mask=masks, steps=steps, guidance=guidance, seed=seed,
            callback=lambda step, steps: run.show(f"edit, step {step} of {steps}"),
        )  # fmt: skip
    shown = {photo.name for photo in run.photos[: config.gallery]}
    kept = [j for j, i in enumerate(members) if keep or config.cache == "all" or chunk.photos[i].name in shown]
    if kept:
        run.store.save([names[j] for j in kept], edited[kept])
    return edited, names


def measure(
    config: BenchConfig, metrics: Sequence[str], trial: Trial, device: torch.device | str = "cpu"
) -> list[dict[str, float]]:
    """The metrics of each photo of a trial, taken on `device`; nan for those of a truth that is not known.

    Raises UserError where one cannot be taken.
    """
    pictures: dict[str, Any] = {name: value for name, value in vars(trial).items() if isinstance(value, Tensor)}
    trial = replace(trial, **{name: value.to(device) for name, value in pictures.items()})
    sources = config.sources or {}
    values = {
        name: [nan] * len(trial.prompts)
        if METRICS[name].group == "truth" and trial.truth is None
        else METRICS[name].measure(trial, sources.get("obeyed" if name == "success" else name)).tolist()
        for name in metrics
    }
    return [{name: values[name][i] for name in metrics} for i in range(len(trial.prompts))]
