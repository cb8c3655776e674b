"""The third tab: what an attacker sees. Edits of the original and of the protected photo, side by side."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, own, quick, start_and_stop
from editproof.app.parts import Texts, part
from editproof.app.texts import ENGLISH, say
from editproof.app.visits import Visit, keep
from editproof.app.work import follow
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

PROMPT = "a portrait photo, plain red background"
PROMPTS = [PROMPT, "a portrait photo, plain blue background", "make it black and white"]


def build(root: Path, texts: Texts, editors: list[str], tab: gr.Tab) -> None:
    """The tab's components and what they do; the photos to choose from are read when the tab is opened."""
    ui = SimpleNamespace()
    part(texts, gr.HTML, lambda say: {"value": f"<p>{say('edit_intro')} {say('may_edit')}</p>"})
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            _asked(ui, texts, editors)
        with gr.Column(scale=2, min_width=300):
            ui.told = part(texts, gr.Markdown, lambda say: {"value": f"> {say('edit_awaits')}"}, elem_id="edit-told")
            with gr.Row():
                ui.first, ui.second = (_edit(texts, name) for name in ("original", "protected"))
            ui.details = part(
                texts, gr.Accordion, lambda say: {"label": say("check_figures")}, open=False, visible=False,
                elem_id="edit-details",
            )  # fmt: skip
            with ui.details:
                ui.figures = gr.Markdown(elem_id="edit-figures")
    own(ui.original, root)
    own(ui.protected, root)
    asked = [ui.chosen, ui.original, ui.protected, ui.prompt, ui.region, ui.counter, ui.editor, ui.seed]
    shown = [ui.told, ui.first, ui.second, ui.details, ui.figures]
    start_and_stop(ui.start, ui.stop, ui.status, partial(work, ui), asked, shown, root)
    tab.select(
        quick(partial(refresh, ui), ui.status, root), None, [ui.status, ui.chosen], api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip


def _asked(ui: SimpleNamespace, texts: Texts, editors: list[str]) -> None:
    def choices(keys: dict[str, str], label: str, info: str) -> Callable[..., dict[str, Any]]:
        return lambda say: {
            "label": say(label), "info": say(info), "choices": [(say(key), name) for name, key in keys.items()]
        }  # fmt: skip

    ui.chosen = part(
        texts, gr.Dropdown, lambda say: {"label": say("which"), "info": say("check_none")}, choices=[],
        elem_id="edit-photo",
    )  # fmt: skip
    with part(texts, gr.Accordion, lambda say: {"label": say("check_pair")}, open=False):
        ui.original = part(
            texts, gr.File, lambda say: {"label": say("check_original")}, file_types=[*SUFFIXES], height=120
        )
        ui.protected = part(
            texts, gr.File, lambda say: {"label": say("check_protected")}, file_types=[*SUFFIXES], height=120
        )
    ui.prompt = part(
        texts, gr.Textbox, lambda say: {"label": say("edit_told"), "info": say("edit_told_info")}, value=PROMPT,
        max_length=500, elem_id="edit-prompt",
    )  # fmt: skip
    label = say(ENGLISH, "edit_prompts")
    examples = gr.Examples([[text] for text in PROMPTS], [ui.prompt], label=label, api_visibility="private")
    texts[examples.dataset] = lambda say: {"label": say("edit_prompts")}
    ui.region = part(
        texts, gr.Radio, choices(words.ATTACKED, "edit_region", "edit_region_info"), value=words.PERSON
    )  # fmt: skip
    ui.counter = part(
        texts, gr.Dropdown, choices(words.COUNTERS, "edit_counter", "edit_counter_info"), value="none",
        elem_id="counter",
    )  # fmt: skip
    ui.editor = part(texts, gr.Dropdown, lambda say: {"label": say("edit_editor")}, choices=editors, value=editors[0])
    ui.seed = part(
        texts, gr.Number, lambda say: {"label": say("edit_try"), "info": say("edit_try_info")}, value=0, precision=0,
        minimum=0,
    )  # fmt: skip
    with gr.Row():
        ui.start = part(
            texts, gr.Button, lambda say: {"value": say("edit_both")}, variant="primary", elem_id="edit"
        )  # fmt: skip
        ui.stop = part(
            texts, gr.Button, lambda say: {"value": say("stop")}, variant="stop", visible=False, elem_id="edit-stop"
        )
    ui.status = gr.HTML(elem_id="edit-status")


def _edit(texts: Texts, name: str) -> gr.Image:
    return part(
        texts, gr.Image, lambda say: {"label": say(f"edit_of_{name}"), "alt_text": say(f"edit_of_{name}")},
        interactive=False, visible=False, type="filepath", format="png", min_width=240,
        buttons=["download", "fullscreen"], elem_id=f"edit-{name}",
    )  # fmt: skip


def refresh(ui: SimpleNamespace, visit: Visit) -> Updates:
    """The photos that were protected on this page, the latest chosen."""
    names = [(r.photo.name, number) for number, r in enumerate(visit.results) if "frames" not in r.report]
    info = say(visit.language, "check_some" if names else "check_none")
    return {ui.status: "", ui.chosen: gr.update(choices=names, value=names[-1][1] if names else None, info=info)}


def work(
    ui: SimpleNamespace, visit: Visit, number: int | None, original: str | None, protected: str | None, *values: Any
) -> Generator[Updates, None, None]:
    """Have the editor edit the original and the protected photo, show both and what they mean."""
    from editproof.app.editing_both import edit_both

    if bool(original) != bool(protected):
        raise UserError(say(visit.language, "check_both"))
    if original and protected:
        keep(visit, [original, protected])
        pair = Path(original), Path(protected)
    elif number is not None and number < len(visit.results):
        pair = visit.results[number].photo, visit.results[number].file
    else:
        raise UserError(say(visit.language, "check_none"))
    edits, sentence, figures = yield from follow(
        visit,
        lambda progress: edit_both(progress, visit, *pair, *values),
        lambda told: {ui.status: words.bar(told, visit.language)},
    )
    yield {
        ui.status: words.said(say(visit.language, "checked")),
        ui.told: sentence,
        ui.first: gr.update(value=edits[0], visible=True),
        ui.second: gr.update(value=edits[1], visible=True),
        ui.details: gr.update(visible=True),
        ui.figures: figures,
    }
