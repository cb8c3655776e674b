"""How a button's long work and the page meet: who asks, what went wrong, and the Stop button."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.texts import language_of, say
from editproof.app.visits import Visit, keep, visit
from editproof.app.work import TAKEN, Stopped, Told

COMPUTE = "compute"  # Gradio's name for all long work; work.follow lets one at a time compute
Updates = dict[Any, Any]  # component -> its update
Work = Callable[..., Generator[Updates, None, None]]  # (visit, *values) -> updates of the page


def here(request: gr.Request, root: Path) -> Visit:
    """The visit of whoever asks, in their language."""
    mine = visit(request.session_hash, root)
    mine.language = language_of(request)
    return mine


def start_and_stop(
    start: gr.Button, stop: gr.Button, status: gr.HTML, work: Work, inputs: Sequence[Any], outputs: Sequence[Any],
    root: Path,
) -> Any:  # fmt: skip
    """Make `start` run `work` on the inputs' values and `stop` end it; `stop` is shown while it runs."""

    def run(request: gr.Request, *values: Any) -> Generator[Updates, None, None]:
        mine = here(request, root)
        yield from between(start, stop, status, mine, work(mine, *values))

    def halt(request: gr.Request) -> Updates:
        mine = here(request, root)
        mine.stop()
        return {status: words.said(say(mine.language, "stopped")), **_idle(start, stop)}

    event = start.click(
        run, list(inputs), [status, start, stop, *outputs], concurrency_id=COMPUTE, concurrency_limit=TAKEN,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    stop.click(halt, None, [status, start, stop], cancels=[event], queue=False, api_visibility="private")
    return event


def between(
    start: gr.Button, stop: gr.Button, status: gr.HTML, visit: Visit, working: Generator[Updates, None, None]
) -> Generator[Updates, None, None]:
    """The updates of some work, between those that show and hide Stop; what goes wrong is said in `status`."""
    running = {start: gr.update(interactive=False), stop: gr.update(visible=True)}
    yield {status: words.bar(Told(say(visit.language, "starting"), 0.0, None), visit.language), **running}
    try:
        yield from working
    except Stopped:
        yield {status: words.said(say(visit.language, "stopped"))}
    except Exception as error:
        yield {status: words.problem(words.explain(error, visit.uploads))}
    yield _idle(start, stop)


def _idle(start: gr.Button, stop: gr.Button) -> Updates:
    return {start: gr.update(interactive=True), stop: gr.update(visible=False)}


def quick(work: Callable[..., Updates], status: gr.HTML, root: Path) -> Callable[..., Updates]:
    """A handler of (visit, *values) -> updates that takes no turn; what goes wrong is said in `status`."""

    def run(request: gr.Request, *values: Any) -> Updates:
        mine = here(request, root)
        try:
            return work(mine, *values)
        except Exception as error:
            return {status: words.problem(words.explain(error, mine.uploads))}

    return run


def in_turn(work: Callable[..., Updates], status: gr.HTML, results: Sequence[Any]) -> Callable[..., Updates]:
    """`work` (visit, *values) -> updates, one after the other for each visit, as it changes what is chosen.

    Where a protection runs, or began after the visitor asked, the answer leaves its status and results alone: a late
    answer would wipe them off.
    """

    def run(mine: Visit, *values: Any) -> Updates:
        before = mine.running
        busy = before is not None and before.thread.is_alive()
        with mine.looking:
            updates = work(mine, *values)
        if busy or mine.running is not before:
            updates = {part: update for part, update in updates.items() if part not in results}
            updates[status] = gr.update()
        return updates

    return run


def pointed(work: Callable[..., Updates], status: gr.HTML, root: Path) -> Callable[..., Updates]:
    """As quick, for a click on a picture: a handler of (visit, (x, y)) -> updates."""
    handle = quick(work, status, root)

    def run(request: gr.Request, where: gr.SelectData) -> Updates:
        return handle(request, where.index)

    return run


def own(file: gr.File, root: Path) -> None:
    """What is dropped on `file` belongs to the visitor from then on, so that it stays as long as they do."""

    def remember(path: str | None, request: gr.Request) -> None:
        keep(visit(request.session_hash, root), [path] if path else [])

    file.change(remember, [file], None, api_visibility="private", show_progress="hidden")
