"""The second tab: what a website or messenger left of a protection; drop the file that was downloaded from there."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, own, quick, start_and_stop
from editproof.app.parts import Texts, part
from editproof.app.texts import say
from editproof.app.visits import Visit, keep
from editproof.app.work import Progress, follow
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

FILES = ("original", "protected", "downloaded")


def build(root: Path, texts: Texts, tab: gr.Tab) -> None:
    """The tab's components and what they do; the photos to choose from are read when the tab is opened."""
    ui = SimpleNamespace()
    part(texts, gr.HTML, lambda say: {"value": f"<h2>{say('check_title')}</h2><p>{say('check_intro')}</p>"})
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            ui.chosen = part(
                texts, gr.Dropdown, lambda say: {"label": say("check_which"), "info": say("check_none")}, choices=[],
                elem_id="check-which",
            )  # fmt: skip
            with part(texts, gr.Accordion, lambda say: {"label": say("check_pair")}, open=False):
                ui.original, ui.protected = (_file(texts, name) for name in FILES[:2])
            ui.downloaded = _file(texts, FILES[2])
            ui.editors = part(
                texts, gr.Checkbox, lambda say: {"label": say("check_editors"), "info": say("check_editors_info")},
                elem_id="check-editors",
            )  # fmt: skip
            with gr.Row():
                ui.start = part(
                    texts, gr.Button, lambda say: {"value": say("check")}, variant="primary", elem_id="check"
                )
                ui.stop = part(
                    texts, gr.Button, lambda say: {"value": say("stop")}, variant="stop", visible=False,
                    elem_id="check-stop",
                )  # fmt: skip
            ui.status = gr.HTML(elem_id="check-status")
        with gr.Column(min_width=300):
            ui.told = part(texts, gr.Markdown, lambda say: {"value": f"> {say('check_awaits')}"}, elem_id="check-told")
            ui.details = part(
                texts, gr.Accordion, lambda say: {"label": say("check_figures")}, open=False, visible=False,
                elem_id="check-details",
            )  # fmt: skip
            with ui.details:
                ui.figures = gr.Markdown(elem_id="check-figures")
    for file in (ui.original, ui.protected, ui.downloaded):
        own(file, root)
    inputs = [ui.chosen, ui.original, ui.protected, ui.downloaded, ui.editors]
    start_and_stop(
        ui.start, ui.stop, ui.status, partial(work, ui), inputs, [ui.told, ui.details, ui.figures], root
    )  # fmt: skip
    tab.select(
        quick(partial(refresh, ui), ui.status, root), None, [ui.status, ui.chosen], api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip


def _file(texts: Texts, name: str) -> gr.File:
    return part(
        texts, gr.File, lambda say: {"label": say(f"check_{name}")}, file_types=[*SUFFIXES], height=130,
        elem_id=f"check-{name}",
    )  # fmt: skip


def refresh(ui: SimpleNamespace, visit: Visit) -> Updates:
    """The photos that were protected on this page, the latest chosen."""
    names = [(r.file.name, number) for number, r in enumerate(visit.results) if "frames" not in r.report]
    info = say(visit.language, "check_some" if names else "check_none")
    return {ui.status: "", ui.chosen: gr.update(choices=names, value=names[-1][1] if names else None, info=info)}


def work(
    ui: SimpleNamespace, visit: Visit, number: int | None, original: str | None, protected: str | None,
    downloaded: str | None, editors: bool,
) -> Generator[Updates, None, None]:  # fmt: skip
    """Compare what was downloaded with what was protected here, or with a pair of files."""
    keep(visit, [path for path in (original, protected, downloaded) if path])
    if bool(original) != bool(protected):
        raise UserError(say(visit.language, "check_both"))
    if original and protected:
        pair = Path(original), Path(protected)
    elif number is not None and number < len(visit.results):
        pair = visit.results[number].photo, visit.results[number].file
    else:
        raise UserError(say(visit.language, "check_none"))
    if not downloaded:
        raise UserError(say(visit.language, "check_missing"))
    checked = yield from follow(
        visit, lambda progress: check(visit, progress, *pair, Path(downloaded), editors),
        lambda told: {ui.status: words.bar(told, visit.language)},
    )  # fmt: skip
    yield {
        ui.status: words.said(say(visit.language, "checked")),
        ui.told: plainly(partial(say, visit.language), checked),
        ui.details: gr.update(visible=True),
        ui.figures: "\n".join(f"- {sentence}" for sentence in checked.sentences()),
    }


def check(
    visit: Visit, progress: Progress, original: Path, protected: Path, downloaded: Path, editors: bool
) -> Any:  # fmt: skip
    """What `editproof check` finds, with the embedded editors or without any. Raises UserError."""
    from editproof.bench.checking import check_download

    what = say(visit.language, "checking")
    return check_download(
        original, protected, downloaded, editors=None if editors else [],
        progress=lambda _, share: progress(what, share),
    )  # fmt: skip


def plainly(say: Callable[..., str], checked: Any) -> str:
    """The answer in everyday words, in Markdown, from what check_download gives."""
    from editproof.bench.checking import MOST, SOME

    left = max(0.0, checked.perturbation_left)
    key = "check_most" if left >= MOST else "check_part" if left >= SOME else "check_little"
    (height, width), (rows, columns) = checked.original_size, checked.downloaded_size
    lines = [f"### {say(key, share=f'{min(1, left):.0%}')}"]
    same = "check_same" if (rows, columns) == (height, width) else "check_size"
    lines.append(say(same, width=columns, height=rows, before=f"{width} x {height}", file=checked.format))
    for on in checked.editors:
        versions = (on.original, on.protected, on.downloaded)
        known = all(one.succeeded is not None for one in versions)
        counts = [one.succeeded if known else one.broken for one in versions]
        lines.append(
            say(
                "check_success" if known else "check_broken", editor=on.editor, count=on.original.edits,
                original=counts[0], protected=counts[1], downloaded=counts[2],
            )
        )  # fmt: skip
    lines.append(say("check_few") if checked.editors else say("check_means", tick=say("check_editors")))
    return "\n\n".join([*lines, say("measured")])
