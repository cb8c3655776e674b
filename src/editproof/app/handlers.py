"""How a button's long work and the page meet: who asks, what went wrong, and the Stop button."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.visits import keep, visit
from editproof.app.work import TAKEN, Stopped

COMPUTE = "compute"  # Gradio's name for all long work; work.follow lets one at a time compute
STOPPED = "Stopped. Nothing of it was kept."
Updates = dict[Any, Any]  # component -> its update
Work = Callable[..., Generator[Updates, None, None]]  # (visit, *values) -> updates of the page


def start_and_stop(
    start: gr.Button, stop: gr.Button, status: gr.HTML, work: Work, inputs: Sequence[Any], outputs: Sequence[Any],
    root: Path,
) -> Any:  # fmt: skip
    """Make `start` run `work` on the inputs' values and `stop` end it; `stop` is shown while it runs."""
    running = {start: gr.update(interactive=False), stop: gr.update(visible=True)}
    idle = {start: gr.update(interactive=True), stop: gr.update(visible=False)}

    def run(request: gr.Request, *values: Any) -> Generator[Updates, None, None]:
        mine = visit(request.session_hash, root)
        yield {status: words.said("Starting"), **running}
        try:
            yield from work(mine, *values)
        except Stopped:
            yield {status: words.said(STOPPED)}
        except Exception as error:
            yield {status: words.problem(words.explain(error, mine.uploads))}
        yield idle

    def halt(request: gr.Request) -> Updates:
        visit(request.session_hash, root).stop()
        return {status: words.said(STOPPED), **idle}

    event = start.click(
        run, list(inputs), [status, start, stop, *outputs], concurrency_id=COMPUTE, concurrency_limit=TAKEN,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    stop.click(halt, None, [status, start, stop], cancels=[event], queue=False, api_visibility="private")
    return event


def quick(work: Callable[..., Updates], status: gr.HTML, root: Path) -> Callable[..., Updates]:
    """A handler of (visit, *values) -> updates that takes no turn; what goes wrong is said in `status`."""

    def run(request: gr.Request, *values: Any) -> Updates:
        mine = visit(request.session_hash, root)
        try:
            return work(mine, *values)
        except Exception as error:
            return {status: words.problem(words.explain(error, mine.uploads))}

    return run


def own(file: gr.File, root: Path) -> None:
    """What is dropped on `file` belongs to the visitor from then on, so that it stays as long as they do."""

    def remember(path: str | None, request: gr.Request) -> None:
        keep(visit(request.session_hash, root), [path] if path else [])

    file.change(remember, [file], None, api_visibility="private", show_progress="hidden")
