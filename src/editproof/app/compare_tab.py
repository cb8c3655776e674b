"""The fourth tab: methods side by side on one photo, as a figure and a table."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, own, quick, start_and_stop
from editproof.app.parts import Texts, part
from editproof.app.protect_layout import level_key
from editproof.app.protect_tab import example_photo
from editproof.app.texts import say
from editproof.app.visits import Visit, keep
from editproof.app.work import Progress, follow
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

PROMPT = "a portrait photo"
CHOSEN = ["noise", "immunizer"]


def build(root: Path, texts: Texts, methods: list[tuple[str, str]], editors: list[str]) -> None:
    """The tab's components and what they do."""
    ui = SimpleNamespace()
    part(texts, gr.HTML, lambda say: {"value": f"<p>{say('compare_intro')} {say('may_edit')}</p>"})
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            _asked(ui, texts, methods, editors)
        with gr.Column(scale=2, min_width=300):
            ui.figure = part(
                texts, gr.Image, lambda say: {"label": say("tab_compare"), "alt_text": say("compare_alt")},
                show_label=False, interactive=False, visible=False, type="filepath", format="png", buttons=[],
                elem_id="figure",
            )  # fmt: skip
            ui.table = part(
                texts, gr.Markdown, lambda say: {"value": f"> {say('compare_awaits')}"}, elem_id="compare-table"
            )
    own(ui.photo, root)
    asked = [ui.photo, ui.prompt, ui.chosen, ui.strength, ui.editor]
    start_and_stop(ui.start, ui.stop, ui.status, partial(work, ui), asked, [ui.figure, ui.table], root)
    ui.example.click(
        quick(lambda visit: {ui.photo: str(example_photo(visit))}, ui.status, root), None, [ui.status, ui.photo],
        api_visibility="private",
    )  # fmt: skip


def _asked(ui: SimpleNamespace, texts: Texts, methods: list[tuple[str, str]], editors: list[str]) -> None:
    def strengths(say: Callable[..., str]) -> dict[str, Any]:
        return {"label": say("strength"), "choices": [(_strength(say, name), name) for name in words.STRENGTHS]}

    def named(say: Callable[..., str]) -> dict[str, Any]:
        labels = {name: f"{name} ({say(key)})" for name, key in words.HOW.items()}
        choices = [(labels.get(name, name), name) for _, name in methods]
        return {"label": say("compare_methods"), "info": say("compare_methods_info"), "choices": choices}

    ui.photo = part(
        texts, gr.File, lambda say: {"label": say("which")}, file_types=[*SUFFIXES], height=140,
        elem_id="compare-photo",
    )  # fmt: skip
    ui.example = part(texts, gr.Button, lambda say: {"value": say("example")}, size="sm")
    ui.prompt = part(
        texts, gr.Textbox, lambda say: {"label": say("edit_told"), "info": say("edit_told_info")}, value=PROMPT,
        max_length=500,
    )  # fmt: skip
    ui.chosen = part(
        texts, gr.CheckboxGroup, named, value=CHOSEN, elem_id="compare-methods"
    )  # fmt: skip
    ui.strength = part(texts, gr.Radio, strengths, value="strong")
    ui.editor = part(texts, gr.Dropdown, lambda say: {"label": say("edit_editor")}, choices=editors, value=editors[0])
    with gr.Row():
        ui.start = part(
            texts, gr.Button, lambda say: {"value": say("tab_compare")}, variant="primary", elem_id="compare"
        )
        ui.stop = part(
            texts, gr.Button, lambda say: {"value": say("stop")}, variant="stop", visible=False, elem_id="compare-stop"
        )
    ui.status = gr.HTML(elem_id="compare-status")


def _strength(say: Callable[..., str], name: str) -> str:
    """A strength as a choice: what the first tab's slider says of it."""
    return say(level_key(words.STRENGTHS[name]))


def work(ui: SimpleNamespace, visit: Visit, path: str | None, *values: Any) -> Generator[Updates, None, None]:
    """Protect the photo with each method, have the protected ones edited, show figure and table."""
    if path is None:
        raise UserError(say(visit.language, "compare_no_photo"))
    keep(visit, [path])
    drawn, rows = yield from follow(
        visit,
        lambda progress: compare(progress, visit, Path(path), *values),
        lambda told: {ui.status: words.bar(told, visit.language)},
    )
    done = words.said(say(visit.language, "checked"))
    yield {ui.status: done, ui.figure: gr.update(value=str(drawn), visible=True), ui.table: rows}


def compare(
    progress: Progress, visit: Visit, photo: Path, prompt: str, methods: list[str], strength: str, editor: str
) -> tuple[Path, str]:
    """The figure's file and the table, in Markdown. Raises UserError."""
    from PIL import Image

    from editproof.app import pictures
    from editproof.app.regions import repainted_part
    from editproof.bench.compare import compare_photos
    from editproof.budgets import Linf
    from editproof.editors import EDITORS

    mask, said = repainted_part(visit, photo, words.PERSON) if EDITORS[editor].masked else (None, "")
    out = visit.new_folder() / f"{photo.stem}-compared.png"
    what = say(visit.language, "checking")
    rows = compare_photos(
        [photo], prompt, out, methods=methods, editor=editor, mask=mask, budget=Linf(words.eps_of(strength)),
        progress=lambda _, share: progress(what, share),
    )  # fmt: skip
    with Image.open(out) as figure:
        pictures.save(pictures.mark(figure.convert("RGB")), out)
    lines = [say(visit.language, "compare_head"), "| --- | --- | --- | --- |"]
    lines += [f"| {row.method} | {row.psnr:.1f} | {row.change:.3f} | {row.seconds:.1f} |" for row in rows]
    note = f"{say(visit.language, 'compare_note')} {said}".strip()
    return out, "\n".join([*lines, "", note, "", say(visit.language, "measured")])
