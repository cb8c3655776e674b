"""The fifth tab: the report of a benchmark, if one was run."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app.parts import Texts, part
from editproof.app.texts import language_of, say

LARGEST = 30_000_000  # bytes of a report that is shown in the page
COMMANDS = """    editproof bench --data FOLDER --prompt "a portrait photo" --preset fast --out outputs/bench
    editproof app --results outputs/bench"""


def build(folder: Path | None, texts: Texts, tab: gr.Tab) -> None:
    """The tab's components; the report is read when the tab is opened."""
    page = gr.HTML(visible=False, elem_id="report")
    part(texts, gr.Markdown, lambda say: {"value": say("measured")})
    note = part(
        texts, gr.Markdown,
        lambda say: {"value": f"{say('results_none')}\n\n{COMMANDS}\n\n{say('results_does')}"}, elem_id="no-report",
    )  # fmt: skip

    def load(request: gr.Request) -> dict[str, Any]:
        frame = report_frame(folder, say(language_of(request), "results_report"))
        return {page: gr.update(value=frame, visible=bool(frame)), note: gr.update(visible=not frame)}

    tab.select(load, None, [page, note], api_visibility="private", show_progress="hidden")


def report_frame(folder: Path | None, title: str) -> str:
    """The report of a benchmark's folder in a frame that can reach nothing else; "" if there is none."""
    file = None if folder is None else folder / "report.html"
    if file is None or not file.is_file() or file.stat().st_size > LARGEST:
        return ""
    content = html.escape(file.read_text(encoding="utf-8", errors="replace"))
    return f'<iframe class="report" sandbox="allow-scripts" title="{html.escape(title)}" srcdoc="{content}"></iframe>'
