"""The page: its head, its tabs, its looks. Nothing here loads a model."""

import inspect
from importlib.resources import files
from pathlib import Path

import gradio as gr

from editproof.app import api, compare_tab, edit_tab, protect_tab, results_tab, visits, words
from editproof.editors import EDITORS

TITLE = "editproof"
INTRO = f"""# editproof
Change a photo by a little, so that AI editors make something else of it. That makes editing harder, never impossible.
{words.FORGOTTEN}"""

FONT = ["system-ui", "sans-serif"]  # the visitor's own: none is fetched
CSS = """
.status { padding: .4em 0; }
.status.problem { color: #b00020; font-weight: 600; overflow-wrap: anywhere; }
.dark .status.problem { color: #ff8a80; }
@media (max-width: 480px) {
  .gradio-container .main { padding: 12px !important; }
  .tab-container button { padding: 0 8px !important; }
}
progress { width: 100%; height: .8em; accent-color: var(--primary-600); }
iframe.report { width: 100%; height: 80vh; border: 1px solid #8886; background: white; }
.prose table { font-variant-numeric: tabular-nums; }
"""


def build(root: Path, results: Path | None = None) -> gr.Blocks:
    """The page. root: the folder for all visitors' files (visits.make_root); results: a benchmark's folder."""
    methods, editors = method_choices(), editors_here()
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        with gr.Tabs():
            with gr.Tab("Protect", id="protect"):
                protect_tab.build(root, methods, editors)
            with gr.Tab("Try to edit it", id="edit") as tab:
                edit_tab.build(root, editors, tab)
            with gr.Tab("Compare", id="compare"):
                compare_tab.build(root, methods, editors)
            with gr.Tab("Results", id="results") as tab:
                results_tab.build(results, tab)
        api.build(root)

        def entered(request: gr.Request) -> None:
            visits.visit(request.session_hash, root)

        page.load(entered, api_visibility="private", show_progress="hidden")
        page.unload(left)
    return page


def left(request: gr.Request) -> None:
    """A page was closed or reloaded, or its connection was lost."""
    visits.left(request.session_hash)


def head() -> str:
    """What the page's head has beside Gradio's: help for those who use a keyboard or a screen reader."""
    return f"<script>{(files('editproof') / 'assets' / 'app.js').read_text(encoding='utf-8')}</script>"


def theme() -> gr.themes.Base:
    """Gradio's plain theme with fonts that are there."""
    plain = gr.themes.Default(font=FONT, font_mono=["ui-monospace", "monospace"], primary_hue="emerald")
    return plain.set(  # what is grey on white or white on green has to be readable
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800",
    )  # fmt: skip


def method_choices() -> list[tuple[str, str]]:
    """(label, name) of every method, the default first."""
    from editproof.methods import METHODS
    from editproof.protection.apply import DEFAULT_METHOD

    def label(name: str) -> str:
        first = (inspect.getdoc(inspect.getmodule(METHODS[name])) or "").splitlines()[0]
        return f"{name}: {first}"

    names = [DEFAULT_METHOD, *(name for name in METHODS if name != DEFAULT_METHOD)]
    return [(label(name), name) for name in names]


def editors_here() -> list[str]:
    """The editors that can be loaded without a network, the embedded ones first."""
    from editproof.cli.doctor import on_disk

    return [name for name, info in EDITORS.items() if on_disk(info)]
