"""What is on the first tab: three steps beside each other, the result below."""

from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.parts import Say, Texts, part
from editproof.app.protecting import MOST_PHOTOS
from editproof.photo.decoding import SUFFIXES
from editproof.photo.metadata import KEEP, METADATA
from editproof.video.protect import SHORT
from editproof.video.reading import SUFFIXES as CLIPS

LARGEST_MB = 200
REGIONS = {words.PERSON: "what_person", words.PAINTED: "what_painted", words.WHOLE: "what_whole"}


def layout(texts: Texts, methods: list[tuple[str, str]], editors: list[str]) -> SimpleNamespace:
    """Every component of the tab by its name. methods: (label, name); editors: names."""
    ui = SimpleNamespace()
    with gr.Row(equal_height=False, elem_classes="steps"):
        with gr.Column(min_width=300):
            _choose(ui, texts)
        with gr.Column(min_width=300):
            _see(ui, texts)
        with gr.Column(min_width=300):
            _protect(ui, texts)
            _more(ui, texts, methods, editors)
    _result(ui, texts)
    return ui


def _heading(texts: Texts, key: str) -> None:
    part(texts, gr.HTML, lambda say: {"value": f"<h2>{say(key)}</h2>"})


def _paragraphs(*keys: str, **values: Any) -> Any:
    return lambda say: {"value": "".join(f"<p>{say(key, **values)}</p>" for key in keys)}


def _choose(ui: SimpleNamespace, texts: Texts) -> None:
    _heading(texts, "step_1")
    ui.photos = part(
        texts, gr.File, lambda say: {"label": say("photos")}, file_count="multiple", file_types=[*SUFFIXES, *CLIPS],
        height=150, elem_id="photos",
    )  # fmt: skip
    part(texts, gr.HTML, _paragraphs("limits", count=MOST_PHOTOS, size=LARGEST_MB), elem_classes="note")
    ui.example = part(texts, gr.Button, lambda say: {"value": say("example")}, size="sm", elem_id="example")
    ui.over = part(
        texts, gr.Button, lambda say: {"value": say("start_over")}, size="sm", visible=False, elem_id="start-over"
    )


def _see(ui: SimpleNamespace, texts: Texts) -> None:
    def choices(say: Say) -> dict[str, Any]:
        return {"label": say("what"), "choices": [(say(key), name) for name, key in REGIONS.items()]}

    _heading(texts, "step_2")
    ui.region = part(texts, gr.Radio, choices, value=words.PERSON, elem_id="region")
    ui.which = part(texts, gr.Dropdown, lambda say: {"label": say("which")}, choices=[], visible=False, elem_id="which")
    ui.note = part(texts, gr.HTML, _paragraphs("first_choose"), elem_classes="note", elem_id="note")
    ui.found = part(
        texts, gr.Image, lambda say: {"label": say("picture"), "alt_text": say("picture_alt")}, show_label=False,
        interactive=False, visible=False, type="filepath", format="png", buttons=[], elem_id="found",
    )  # fmt: skip
    ui.who = part(
        texts, gr.CheckboxGroup, lambda say: {"label": say("who"), "info": say("who_info")}, choices=[],
        visible=False, elem_id="who",
    )  # fmt: skip
    ui.painter = part(
        texts, gr.ImageEditor, lambda say: {"label": say("painter")}, visible=False, type="numpy", format="png",
        sources=(), transforms=(), layers=False, buttons=[], elem_id="painter", height=420,
        brush=gr.Brush(colors=[("#00c853", 0.6)], color_mode="fixed", default_size=40),
    )  # fmt: skip
    ui.painted = gr.Button("", visible="hidden", elem_id="painted")  # pressed by assets/app.js after each stroke


def _protect(ui: SimpleNamespace, texts: Texts) -> None:
    def ways(say: Say) -> dict[str, Any]:
        choices = [(say(key), name) for name, key in words.HOW.items()]
        return {"label": say("how"), "info": say("how_info", most=SHORT), "choices": choices}

    _heading(texts, "step_3")
    ui.how = part(texts, gr.Radio, ways, value=words.method_of(None, None), elem_id="how")
    ui.strength = part(
        texts, gr.Slider, lambda say: {"label": say("strength"), "info": say("strength_info")},
        minimum=words.WEAKEST, maximum=words.STRONGEST, value=words.USUAL, step=1, buttons=[], elem_id="strength",
    )  # fmt: skip
    ui.level = part(texts, gr.HTML, lambda say: {"value": level(say, words.USUAL)}, elem_id="level")
    ui.looks = gr.HTML(elem_id="looks", visible=False)
    part(texts, gr.HTML, _paragraphs("does", "does_not"), elem_id="honest")
    with gr.Row():
        ui.start = part(
            texts, gr.Button, lambda say: {"value": say("protect")}, variant="primary", elem_id="protect"
        )  # fmt: skip
        ui.stop = part(
            texts, gr.Button, lambda say: {"value": say("stop")}, variant="stop", visible=False, elem_id="protect-stop"
        )  # fmt: skip
    ui.status = gr.HTML(elem_id="protect-status")
    ui.download = gr.DownloadButton("", variant="primary", visible=False, elem_id="download")
    ui.after = part(texts, gr.HTML, _paragraphs("after_done"), visible=False, elem_classes="note")


def _more(ui: SimpleNamespace, texts: Texts, methods: list[tuple[str, str]], editors: list[str]) -> None:
    def formats(say: Say) -> dict[str, Any]:
        choices = [(say("save_png"), "png"), (say("save_source"), "source")]
        return {"label": say("save_as"), "info": say("save_info"), "choices": choices}

    def metadata(say: Say) -> dict[str, Any]:
        choices = [(say(f"metadata_{name.replace('-', '_')}"), name) for name in METADATA]
        return {"label": say("metadata"), "info": say("metadata_info"), "choices": choices}

    def others(say: Say) -> dict[str, Any]:
        choices = [(say("other_none"), ""), *((label, name) for label, name in methods if name not in words.HOW)]
        return {"label": say("other"), "choices": choices}

    with part(texts, gr.Accordion, lambda say: {"label": say("more")}, open=False):
        ui.format = part(texts, gr.Radio, formats, value="png")
        ui.metadata = part(texts, gr.Radio, metadata, value=KEEP, elem_id="metadata")
        ui.again = part(texts, gr.Checkbox, lambda say: {"label": say("again")})
        ui.other = part(texts, gr.Dropdown, others, value="", elem_id="other")
        ui.editor = part(
            texts, gr.Dropdown, lambda say: {"label": say("editor"), "info": say("editor_info")}, choices=editors,
            value=editors[0],
        )  # fmt: skip
        ui.seed = part(
            texts, gr.Number, lambda say: {"label": say("draw"), "info": say("draw_info")}, value=0, precision=0,
            minimum=0,
        )  # fmt: skip


def _result(ui: SimpleNamespace, texts: Texts) -> None:
    ui.picked = part(
        texts, gr.Dropdown, lambda say: {"label": say("show")}, choices=[], visible=False, elem_id="picked"
    )
    ui.slider = part(
        texts, gr.ImageSlider, lambda say: {"label": say("slider")}, interactive=False, visible=False, type="filepath",
        format="png", buttons=["fullscreen"], elem_id="slider",
    )  # fmt: skip
    ui.details = part(
        texts, gr.Accordion, lambda say: {"label": say("details")}, open=False, visible=False, elem_id="details"
    )
    with ui.details:
        ui.facts = gr.Markdown(elem_id="facts")
        ui.change = part(
            texts, gr.Image, lambda say: {"label": say("change"), "alt_text": say("change_alt")}, interactive=False,
            visible=False, type="filepath", format="png", buttons=["fullscreen"], elem_id="change",
        )  # fmt: skip
        part(texts, gr.HTML, _paragraphs("private"), elem_classes="note")
        ui.reports = part(
            texts, gr.File, lambda say: {"label": say("reports")}, interactive=False, file_count="multiple"
        )


def level(say: Say, strength: float) -> str:
    """What to expect of a strength, in a sentence."""
    return f'<p role="status">{say(level_key(strength))}</p>'


def level_key(strength: float) -> str:
    """The catalogs' key for what to expect of a strength, in levels of 255."""
    return f"level_{sum(strength > bound for bound in words.LEVELS) + 1}"
