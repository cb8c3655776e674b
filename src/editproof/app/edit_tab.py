"""The second tab: what an attacker sees. Edits of the original and of the protected photo, side by side."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, own, quick, start_and_stop
from editproof.app.visits import Visit, keep
from editproof.app.work import follow
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

PROMPT = "a portrait photo, plain red background"
PROMPTS = [PROMPT, "a portrait photo, plain blue background", "make it black and white"]
NOTHING_YET = "Nothing is protected yet: go to Protect first, or give both photos below"


def build(root: Path, editors: list[str], tab: gr.Tab) -> None:
    """The tab's components and what they do; the photos to choose from are read when the tab is opened."""
    gr.Markdown(
        "Be the attacker: ask an editor to change a photo that you protected. An edit works if the person can still be "
        f"recognised, the editor did as it was told, and nothing looks broken. {words.MAY_EDIT}"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            chosen = gr.Dropdown([], label="Photo", info=NOTHING_YET, elem_id="edit-photo")
            with gr.Accordion("Or give a pair of your own", open=False):
                original = gr.File(label="Original", file_types=[*SUFFIXES], height=120)
                protected = gr.File(label="Protected", file_types=[*SUFFIXES], height=120)
            prompt = gr.Textbox(PROMPT, label="What the editor is told", max_length=500, elem_id="edit-prompt")
            gr.Examples([[text] for text in PROMPTS], [prompt], label="Prompts to try", api_visibility="private")
            region = gr.Radio(
                [(label, name) for name, label in words.ATTACKED.items()], value=words.PERSON,
                label="What it may repaint", info="Editors that take no mask change the whole picture.",
            )  # fmt: skip
            counter = gr.Dropdown(
                [(label, name) for name, label in words.COUNTERS.items()], value="none", elem_id="counter",
                label="Before that, the attacker tries to wash the protection out",
                info="Both photos are treated alike.",
            )  # fmt: skip
            editor = gr.Dropdown(editors, value=editors[0], label="Editor")
            seed = gr.Number(0, label="Try number", precision=0, minimum=0, info="Another number, another edit.")
            with gr.Row():
                start = gr.Button("Edit both", variant="primary", elem_id="edit")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="edit-stop")
            status = gr.HTML(elem_id="edit-status")
        with gr.Column(scale=2, min_width=320):
            told = gr.Markdown(elem_id="edit-told")
            with gr.Row():
                first, second = (
                    gr.Image(label=label, interactive=False, visible=False, type="filepath", format="png",
                             min_width=240, buttons=["download", "fullscreen"], elem_id=name, alt_text=label)
                    for label, name in (("Edit of the original", "edit-original"),
                                        ("Edit of the protected photo", "edit-protected"))
                )  # fmt: skip

    own(original, root)
    own(protected, root)

    def refresh(visit: Visit) -> Updates:
        names = [(r.photo.name, number) for number, r in enumerate(visit.results) if "frames" not in r.report]
        latest = names[-1][1] if names else None
        return {
            chosen: gr.update(
                choices=names, value=latest, info="What you protected on this page." if names else NOTHING_YET
            )
        }

    def work(
        visit: Visit, number: int | None, original: str | None, protected: str | None, *values: Any
    ) -> Generator[Updates, None, None]:
        from editproof.app.editing_both import edit_both

        if bool(original) != bool(protected):
            raise UserError("Only one photo of the pair is given; give both, or take both away")
        if original and protected:
            keep(visit, [original, protected])
            pair = Path(original), Path(protected)
        elif number is not None and number < len(visit.results):
            pair = visit.results[number].photo, visit.results[number].file
        else:
            raise UserError(NOTHING_YET)
        edits, sentence = yield from follow(
            visit,
            lambda progress: edit_both(progress, visit, *pair, *values),
            lambda t: {status: words.bar(t, visit.language)},
        )
        yield {
            status: words.said("Done."),
            told: sentence,
            first: gr.update(value=edits[0], visible=True),
            second: gr.update(value=edits[1], visible=True),
        }

    start_and_stop(
        start, stop, status, work, [chosen, original, protected, prompt, region, counter, editor, seed],
        [told, first, second], root,
    )  # fmt: skip
    tab.select(quick(refresh, status, root), None, [status, chosen], api_visibility="private", show_progress="hidden")
