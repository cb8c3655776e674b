"""The first tab: drop photos, see and choose what is protected, protect, download. The work outlives a reload."""

import zipfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, between, in_turn, pointed, quick, start_and_stop
from editproof.app.parts import Texts
from editproof.app.protect_layout import layout
from editproof.app.seeing import (
    keep_painted,
    masks_for,
    nothing_seen,
    show_part,
    show_person_clicked,
    show_strength,
    show_who,
)
from editproof.app.texts import say
from editproof.app.visits import Visit, keep, leave
from editproof.app.work import Running, watch
from editproof.protection.apply import DEFAULT_METHOD

EXAMPLE_SIDE = 512  # pixels
MORE = ("how", "other", "editor", "format", "again", "seed", "metadata")  # remembered once they were used


@dataclass(frozen=True)
class Outcome:
    """What the last run gave: results (their numbers in Visit.results), what was wrong, and the file to download."""

    numbers: Sequence[int]
    wrong: Sequence[str]
    download: Path | None


def build(root: Path, texts: Texts, methods: list[tuple[str, str]], editors: list[str]) -> tuple[list[Any], Any]:
    """The tab's components and what they do; returns what brings a visitor's work back: its outputs and itself."""
    ui = layout(texts, methods, editors)
    seen = [ui.status, ui.note, ui.which, ui.found, ui.who, ui.painter, ui.level, ui.looks, ui.over, ui.example]
    given = [ui.photos, ui.region, ui.which, ui.strength]
    result = [ui.download, ui.after, ui.picked, ui.slider, ui.details, ui.facts, ui.change, ui.reports]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def act(work: Any, handler: Any = quick) -> Any:
        return handler(in_turn(partial(work, ui), ui.status, result), ui.status, root)

    strength: dict[str, Any] = {
        "fn": act(show_strength), "inputs": [ui.strength, ui.how, ui.other], "outputs": seen, **private
    }  # fmt: skip
    for event, shows in ((ui.photos.change, look_at_new), (ui.region.input, look), (ui.which.input, look)):
        event(act(shows), given, [*seen, *result], **private).then(**strength)
    ui.found.select(act(show_person_clicked, pointed), None, seen, **private).then(**strength)
    ui.who.input(act(show_who), [ui.who], seen, **private).then(**strength)
    ui.painted.click(act(keep_painted), [ui.painter], [ui.status], **private)
    for event in (ui.strength.change, ui.how.change, ui.other.change):
        event(**strength, trigger_mode="always_last")
    ui.how.input(None, None, [ui.other], js="() => ''", **private)  # the later choice holds
    ui.other.input(None, [ui.other], [ui.how], js=f"(other) => other ? null : {DEFAULT_METHOD!r}", **private)
    asked = [ui.photos, ui.region, ui.painter, ui.strength]
    asked += [ui.how, ui.other, ui.editor, ui.format, ui.again, ui.seed, ui.metadata]
    start_and_stop(ui.start, ui.stop, ui.status, partial(work, ui), asked, result, root)
    ui.picked.input(act(show), [ui.picked], [ui.status, *result], **private)
    ui.example.click(act(example), None, [ui.status, ui.photos], **private)
    ui.over.click(forget, None, None, **private).then(None, None, None, js="() => editproofForget()", **private)

    def resume(visit: Visit) -> Generator[Updates, None, None]:
        with visit.looking:
            updates = as_it_was(ui, visit)
        yield updates
        if visit.running is not None and visit.running.thread.is_alive():
            yield from between(ui.start, ui.stop, ui.status, visit, finish(ui, visit))

    return [*asked, ui.which, ui.start, ui.stop, *seen, *result], resume


def look_at_new(ui: SimpleNamespace, visit: Visit, paths: list[str] | None, *given: Any) -> Updates:
    """As look, but silent where a page that was opened again has filled in the photos by itself: all of it is told.

    A second answer would load the painter again while it loads, and what was painted could get lost.
    """
    if paths and paths == visit.told:  # Gradio says so more than once
        return {ui.status: gr.update()}
    visit.told = []
    return look(ui, visit, paths, *given)


def look(ui: SimpleNamespace, visit: Visit, paths: list[str] | None, region: str, which: int | None, strength: float,
) -> Updates:  # fmt: skip
    """Photos were chosen or taken away, or another part or photo: show it. An earlier result goes with its photos."""
    paths = paths or []
    keep(visit, paths)
    new = paths != visit.chosen.get("photos", [])
    which = which if which is not None and which < len(paths) and not new else 0
    visit.chosen |= {"photos": paths, "region": region, "which": which, "strength": strength}
    hidden: Updates = {}
    if new:
        visit.latest = None
        hidden = no_result(ui)
    try:
        return {**hidden, **show_part(ui, visit)}
    except Exception as error:
        wrong = words.problem(words.explain(error, visit.uploads))
        return {**hidden, **nothing_seen(ui, visit), ui.note: "", ui.over: gr.update(visible=True), ui.status: wrong}


def no_result(ui: SimpleNamespace) -> Updates:
    """The page without a result."""
    return {one: gr.update(visible=False) for one in (ui.download, ui.after, ui.picked, ui.slider, ui.details)}


def work(
    ui: SimpleNamespace, visit: Visit, paths: list[str] | None, region: str, painted: Any, strength: float,
    how: str | None, other: str | None, *more: Any,
) -> Generator[Updates, None, None]:  # fmt: skip
    """Protect what was chosen; goes on if the page is closed meanwhile."""
    from editproof.app.protecting import Choices, protect_all

    keep(visit, paths or [])
    choices = Choices(region, painted, strength, words.method_of(how, other), *more)
    masks = masks_for(visit, paths or []) if choices.region == words.PERSON else {}
    with visit.looking:
        new = (paths or []) != visit.chosen.get("photos", [])
        which = 0 if new else visit.chosen.get("which", 0)
        visit.chosen |= {"photos": paths or [], "region": region, "which": which, "strength": strength}
        visit.chosen |= dict(zip(MORE, (how, other, *more), strict=True))
        visit.latest = None
    yield no_result(ui)

    def job(progress: Any) -> Outcome:
        done, wrong = protect_all(visit, paths or [], choices, progress, masks)
        numbers = range(len(visit.results), len(visit.results) + len(done))
        visit.results += done
        visit.latest = outcome = Outcome(numbers, wrong, _to_download(done) if done else None)
        return outcome

    visit.running = Running(visit, job)
    yield from finish(ui, visit)


def finish(ui: SimpleNamespace, visit: Visit) -> Generator[Updates, None, None]:
    """Show how far the work is, then what came of it."""
    outcome = yield from watch(visit.running, lambda told: {ui.status: words.bar(told, visit.language)})
    yield show_outcome(ui, visit, outcome)


def show_outcome(ui: SimpleNamespace, visit: Visit, outcome: Outcome) -> Updates:
    """What a run gave: the download, a choice of what is looked at, the first result."""
    if not outcome.numbers:
        return {ui.status: words.problem(*outcome.wrong)}
    done = [visit.results[number] for number in outcome.numbers]
    count, name = len(done), done[0].file.name
    label = say(visit.language, "download" if count == 1 else "download_all", name=name, count=count)
    finished = say(visit.language, "done_1" if count == 1 else "done_n", count=count)
    return {
        ui.status: words.problem(*outcome.wrong) if outcome.wrong else words.said(finished),
        ui.download: gr.update(value=str(outcome.download), visible=True, label=label),
        ui.after: gr.update(visible=True),
        ui.picked: gr.update(
            choices=[(result.file.name, number) for number, result in zip(outcome.numbers, done, strict=True)],
            value=outcome.numbers[0], visible=count > 1,
        ),
        ui.reports: [str(result.file.with_suffix(".json")) for result in done],
        ui.details: gr.update(visible=True),
        **show(ui, visit, outcome.numbers[0]),
    }  # fmt: skip


def show(ui: SimpleNamespace, visit: Visit, number: int) -> Updates:
    """One of the results."""
    from editproof.app.protecting import facts

    result = visit.results[number]
    return {
        ui.slider: gr.update(value=(result.before, result.after), visible=True),
        ui.facts: facts(result, visit.language),
        ui.change: gr.update(value=result.change, visible=True),
    }


def as_it_was(ui: SimpleNamespace, visit: Visit) -> Updates:
    """A visitor's choices and results, for a page that was opened again."""
    chosen = visit.chosen
    if not chosen.get("photos"):
        return {ui.status: ""}
    visit.told = chosen["photos"]
    updates = look(ui, visit, chosen["photos"], chosen["region"], chosen["which"], chosen["strength"])
    names = [name for name in ("photos", "region", "strength", *MORE) if name in chosen]
    updates |= {getattr(ui, name): gr.update(value=chosen[name]) for name in names}
    looks = show_strength(ui, visit, chosen["strength"], chosen.get("how"), chosen.get("other"))
    return updates | looks | (show_outcome(ui, visit, visit.latest) if visit.latest else {})


def forget(request: gr.Request) -> None:
    """Delete a visitor's photos and results at once."""
    leave(request.session_hash)


def example(ui: SimpleNamespace, visit: Visit) -> Updates:
    """Choose the example."""
    return {ui.photos: [str(example_photo(visit))]}


def example_photo(visit: Visit) -> Path:
    """The photograph of `make demo` (NASA, public domain), as a file of this visitor's."""
    from editproof.bench.demo import astronaut
    from editproof.photo.reading import save_png

    path = visit.folder / "astronaut.png"
    if not path.is_file():
        save_png(path, astronaut(EXAMPLE_SIDE)[0][0])
    return path


def _to_download(done: list[Any]) -> Path:
    """The protected photo, or a ZIP of all of them."""
    if len(done) == 1:
        return done[0].file
    archive, taken = done[0].file.parent.parent / "protected-photos.zip", set[str]()
    with zipfile.ZipFile(archive, "w") as file:
        for number, result in enumerate(done, 1):
            name = result.file.name if result.file.name not in taken else f"{number}-{result.file.name}"
            taken.add(name)
            file.write(result.file, name)
    return archive
