"""The third tab: methods side by side on one photo, as a figure and a table."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, own, quick, start_and_stop
from editproof.app.protect_tab import example_photo
from editproof.app.visits import Visit, keep
from editproof.app.work import Progress, follow
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

PROMPT = "a portrait photo"
CHOSEN = ["noise", "immunizer"]


def build(root: Path, methods: list[tuple[str, str]], editors: list[str]) -> None:
    """The tab's components and what they do."""
    gr.Markdown(
        "One photo, protected with several methods at the same strength; the editor then repaints everything but the "
        f"people in it. {words.MAY_EDIT}"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            photo = gr.File(label="Photo", file_types=[*SUFFIXES], height=140, elem_id="compare-photo")
            example = gr.Button("No photo at hand? Take the example", size="sm")
            prompt = gr.Textbox(PROMPT, label="What the editor is told", max_length=500)
            chosen = gr.CheckboxGroup(
                [name for _, name in methods], value=CHOSEN, label="Methods", elem_id="compare-methods",
                info="All but noise and immunizer optimise: without a GPU, a minute or more each.",
            )  # fmt: skip
            strength = gr.Radio(
                words.strength_choices(), value="strong", label="How strongly?", info=words.strength_note()
            )
            editor = gr.Dropdown(editors, value=editors[0], label="Editor")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="compare")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="compare-stop")
            status = gr.HTML(elem_id="compare-status")
        with gr.Column(scale=2, min_width=320):
            figure = gr.Image(
                label="Side by side", show_label=False, interactive=False, visible=False, type="filepath",
                format="png", buttons=[], elem_id="figure",
                alt_text="The photo, its edit, and its edit after each method",
            )  # fmt: skip
            table = gr.Markdown(elem_id="compare-table")
    own(photo, root)

    def work(visit: Visit, path: str | None, *values: Any) -> Generator[Updates, None, None]:
        if path is None:
            raise UserError("No photo is chosen; drop one above, or press the example")
        keep(visit, [path])
        drawn, rows = yield from follow(
            visit,
            lambda progress: compare(progress, visit, Path(path), *values),
            lambda t: {status: words.bar(t, visit.language)},
        )
        yield {status: words.said("Done."), figure: gr.update(value=str(drawn), visible=True), table: rows}

    start_and_stop(
        start, stop, status, work, [photo, prompt, chosen, strength, editor], [figure, table], root,
    )  # fmt: skip
    example.click(quick(lambda visit: {photo: str(example_photo(visit))}, status, root), None, [status, photo],
                  api_visibility="private")  # fmt: skip


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
    rows = compare_photos(
        [photo], prompt, out, methods=methods, editor=editor, mask=mask, budget=Linf(words.eps_of(strength)),
        progress=progress,
    )  # fmt: skip
    with Image.open(out) as figure:
        pictures.save(pictures.mark(figure.convert("RGB")), out)
    lines = ["| method | PSNR (dB) | change of the edit | seconds |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.method} | {row.psnr:.1f} | {row.change:.3f} | {row.seconds:.1f} |" for row in rows]
    note = (
        "Change of the edit: 1 - SSIM to the edit of the unprotected photo, where the editor repaints; 0 is the same "
        f"picture. One photo, one prompt and one seed prove little. {said}"
    )
    return out, "\n".join([*lines, "", note, "", words.HONEST])
