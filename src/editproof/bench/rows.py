"""One editor's part of a benchmark: what is missing, in chunks of photos, row by row."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from editproof.bench.chunk import (
    Chunk,
    Run,
    attack,
    edit_originals,
    edit_pictures,
    measure,
    moved_chunk,
    photos_only,
    protect_chunk,
    reference_chunk,
    truths,
)
from editproof.bench.clock import in_words
from editproof.bench.config import BenchConfig, editor_label
from editproof.bench.data import BenchPhoto, mask_at, open_at
from editproof.bench.methods import NO_BUDGET, NONE, MethodSpec
from editproof.bench.store import Key, Row, digest, to_json
from editproof.counters import Counter, counter_label, parse_counter
from editproof.editors import EDITORS, attacker_size
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.methods.checks import why_not_on
from editproof.methods.method import NEEDS
from editproof.metrics import METRICS, Trial
from editproof.resolution import working_size


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
        raise UserError(
            f"photo '{photos[found.index(())].name}' has no prompts; allowed: --prompts FILE or --prompt TEXT"
        )
    return found


def budgets_of(config: BenchConfig, spec: MethodSpec) -> tuple[str, ...]:
    """The budgets a method is run with, as they stand in the rows."""
    if spec.name == NONE:
        return (NO_BUDGET,)
    return config.budgets if config.match is None else (config.match,)


def missing(run: Run, name: str, spec: MethodSpec, budget: str, chunk: Sequence[tuple[BenchPhoto, Any]]) -> set[Key]:
    """The rows that photos (each with its prompts) with one method and budget lack on an editor."""
    keys = (
        Key(photo.name, spec.label, budget, editor_label(name), prompt, seed, counter)
        for photo, prompts in chunk
        for counter in map(counter_label, run.config.counters)
        for seed in run.config.seeds
        for prompt in prompts
    )
    return {key for key in keys if not run.store.has(key, run.config.metrics)}


def works(spec: MethodSpec, editor: Any) -> bool:
    """Whether a method works on an editor (anything with `masked`, `in_context` and `variational`)."""
    return spec.name == NONE or METHODS[spec.name].works_on(editor)


def traits(run: Run, name: str) -> Any:
    """What has to be known of an editor, which is loaded for it only if it is not one of ours."""
    info = EDITORS.get(name)
    if info is None:
        return run.editor(name)
    side = run.config.size
    size_for = partial(attacker_size, name) if side is None else partial(working_size, side=side)
    return SimpleNamespace(
        masked=info.masked, in_context=info.in_context, variational=info.variational, size_for=size_for
    )


def why_left_out(run: Run, name: str, spec: MethodSpec) -> str:
    """Why a method is left out on an editor, with all photos, so that methods are compared on the same; else ""."""
    key = (name, spec.label)
    if key not in run.left_out:
        run.left_out[key] = _why_left_out(run, name, spec)
    return run.left_out[key]


def _why_left_out(run: Run, name: str, spec: MethodSpec) -> str:
    if not works(spec, traits(run, spec.on or name)):
        kind, why = NEEDS[METHODS[spec.name].needs]
        return f"for {kind} editors; this one {why}"
    if spec.name != NONE and METHODS[spec.name].needs_faces:
        editor = traits(run, name)
        for photo in run.photos:
            size = editor.size_for(*photo.size)
            mask = mask_at(photo, size, run.masks)[None] if editor.masked and spec.told else None
            if why := why_not_on(METHODS[spec.name], open_at(photo, size)[None], mask):
                return f"{photo.name}: {why}"
    return ""


def expect(run: Run, name: str) -> None:
    """Count what is still to be done on an editor, for the time that is left."""
    label, count = editor_label(name), run.clock.expect
    pairs = list(zip(run.photos, prompts_for(run.config, run.photos, name), strict=True))
    for spec in run.specs:
        if name in EDITORS and (spec.on or name) in EDITORS and why_left_out(run, name, spec):
            continue
        for budget in budgets_of(run.config, spec):
            for pair in pairs:
                keys = missing(run, name, spec, budget, [pair])
                if keys and spec.name != NONE:
                    count(("protect", spec.label, spec.on or label), 1, spec.calls)
                for counter, _ in {(key.counter, key.seed) for key in keys}:
                    count(("counter", counter, label), 1)
                count(("edit", label), len(keys), run.config.edit_steps or Editor.steps)
                count(("metrics", label), len(keys))


def bench_editor(run: Run, name: str) -> None:
    """Write the rows that are missing for one editor, which is loaded only if there are any."""
    specs = []
    for spec in run.specs:
        if why := why_left_out(run, name, spec):
            run.skipped.append({"method": spec.label, "editor": editor_label(name), "why": why})
        else:
            specs.append(spec)
    prompts = prompts_for(run.config, run.photos, name)
    pairs = list(zip(run.photos, prompts, strict=True))
    if not any(missing(run, name, spec, budget, pairs) for spec in specs for budget in budgets_of(run.config, spec)):
        return
    editor = run.editor(name)
    large = getattr(editor, "batch", run.batch) == 1  # has no room for a second photo
    batch = 1 if large and run.config.batch is None else run.batch
    sizes: dict[tuple[int, int], list[tuple[BenchPhoto, tuple[str, ...]]]] = {}
    for photo, asked in pairs:
        sizes.setdefault(editor.size_for(*photo.size), []).append((photo, asked))
    chunks = [
        partial(_bench_chunk, run, name, size, members[start : start + batch], specs)
        for size, members in sizes.items()
        for start in range(0, len(members), batch)
    ]
    work(run, chunks)
    run.editors.clear()  # the next one may need the memory
    if run.device.type == "cuda":
        torch.cuda.empty_cache()


def work(run: Run, chunks: Sequence[Callable[[], None]]) -> None:
    """Do all chunks, as many at a time as there are workers, each of which computes with one thread of its own.

    On a CPU that is faster than one chunk with all threads, much so where cores are shared. The first error, or
    Ctrl-C, ends all workers at their next step.
    """
    if run.workers == 1 or len(chunks) < 2:
        for chunk in chunks:
            chunk()
        return
    threads = torch.get_num_threads()

    def one_thread(chunk: Callable[[], None]) -> None:
        torch.set_num_threads(1)
        chunk()

    with ThreadPoolExecutor(run.workers) as pool:
        try:
            for done in as_completed([pool.submit(one_thread, chunk) for chunk in chunks]):
                done.result()
        except BaseException:
            run.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(threads)


def _bench_chunk(
    run: Run,
    name: str,
    size: tuple[int, int],
    members: list[tuple[BenchPhoto, tuple[str, ...]]],
    specs: Sequence[MethodSpec],
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
    run.store.keep(names, originals)
    people = people_at(photos, originals, size) if masks is None and wants_people(run.config) else None
    asked = [prompts for _, prompts in members]
    chunk = Chunk(photos, asked, originals, names, None if masks is None else torch.stack(masks), people)
    counters = {counter_label(text): parse_counter(text, run.editor(name), run.editor) for text in run.config.counters}
    for spec, budget in jobs:
        rows = _bench_method(run, name, chunk, spec, budget, missing(run, name, spec, budget, members), counters)
        where = photos[0].name if len(photos) == 1 else f"{photos[0].name} and {len(photos) - 1} more"
        run.tell(f"{editor_label(name)}, {spec.label}, {budget}: {rows} rows of {where}; {in_words(run.left())}")


def wants_people(config: BenchConfig) -> bool:
    """Whether a metric looks at where the people are."""
    return any(METRICS[name].group == "success" for name in config.metrics)


def people_at(photos: Sequence[BenchPhoto], originals: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Where the people are (B,1,h,w), 1 = a person: what the photos' masks keep, or who is found."""
    from editproof.people.finding import find_people

    return torch.stack([
        1 - (mask_at(photo, size, "files") if photo.mask is not None else find_people(image[None])[0])
        for photo, image in zip(photos, originals, strict=True)
    ])  # fmt: skip


def _bench_method(
    run: Run, name: str, chunk: Chunk, spec: MethodSpec, budget: str, wanted: set[Key], counters: dict[str, Counter]
) -> int:
    """The rows of one method and budget that are wanted; returns how many were written."""
    config, label, n = run.config, editor_label(name), len(chunk.photos)
    protected, names, bounds = protect_chunk(run, name, chunk, spec, budget)
    seen = [metric for metric in config.metrics if METRICS[metric].group == "visibility"]
    rest = [metric for metric in config.metrics if metric not in seen]
    visible = measure(config, seen, photos_only(chunk, protected), run.device)
    for text, counter in counters.items():
        for seed in config.seeds:
            mine = {key for key in wanted if key.counter == text and key.seed == seed}
            if not mine:
                continue
            run.show(f"{text} on {spec.label}")
            with run.clock.measure(("counter", text, label), n, run.device):
                shown = attack(run, counter, protected, seed)
            like, reference = moved_chunk(chunk, text, seed), reference_chunk(run, chunk, text, counter, seed)
            for number in range(max(len(prompts) for prompts in chunk.prompts)):
                members = [i for i in range(n) if number < len(chunk.prompts[i])]
                asked = [chunk.prompts[i][number] for i in members]
                keys = [
                    Key(chunk.photos[i].name, spec.label, budget, label, p, seed, text)
                    for i, p in zip(members, asked, strict=True)
                ]
                if mine.isdisjoint(keys):
                    continue
                edit, edit_names = edit_originals(run, name, reference, number, members, seed)
                other, _ = edit_originals(run, name, reference, number, members, seed + 1)
                attacked, attacked_names = edit_pictures(run, name, like, shown[members], members, asked, seed)
                run.show(f"measure {spec.label}")
                trial = Trial(
                    like.originals[members], protected[members], edit, attacked, other, asked,
                    None if like.masks is None else like.masks[members],
                    truths(chunk, members, asked, text, seed), shown[members],
                    None if like.people is None else like.people[members],
                )  # fmt: skip
                with run.clock.measure(("metrics", label), len(members), run.device):
                    values = measure(config, rest, trial, run.device)
                rows: list[Row] = []
                pictures: list[Row] = []
                for j, (i, key) in enumerate(zip(members, keys, strict=True)):
                    found = {**visible[i], **values[j]}
                    rows.append(
                        {**key._asdict(), **bounds[i], "metrics": {m: to_json(found[m]) for m in config.metrics}}
                    )
                    pictures.append({
                        **key._asdict(), "original": chunk.names[i], "protected": names[i], "edit": edit_names[j],
                        "attacked": attacked_names[j],
                    })  # fmt: skip
                chosen = [j for j, key in enumerate(keys) if key in mine]
                run.store.add_rows([rows[j] for j in chosen], [pictures[j] for j in chosen])
    return len(wanted)
