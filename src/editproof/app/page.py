"""The page: its head, its tabs, its looks. Nothing here loads a model."""

import inspect
import json
from collections.abc import Generator, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import api, check_tab, compare_tab, edit_tab, protect_tab, results_tab, visits, work
from editproof.app.handlers import Updates
from editproof.app.parts import Texts, in_language, part
from editproof.app.texts import LANGUAGES, language_of, say
from editproof.editors import EDITORS

TITLE = "editproof"
SCRIPTED = ("upload_more", "slider_line")  # texts that assets/app.js needs
FONT = ["system-ui", "sans-serif"]  # the visitor's own: none is fetched
CSS = """
.status { padding: .4em 0; }
.status.problem { color: #b00020; font-weight: 600; overflow-wrap: anywhere; }
.dark .status.problem { color: #ff8a80; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 0; }
.note, #honest, #level { font-size: .92rem; line-height: 1.45; }
.note p, #honest p, #level p { margin: 0 0 .4em; }
#download { scroll-margin: 1rem 0 9rem; }
#honest { border-left: 3px solid var(--primary-600); }
#found img { cursor: pointer; width: 100%; max-height: 60vh; object-fit: contain; }
.cross { position: absolute; width: 28px; height: 28px; margin: -14px 0 0 -14px; pointer-events: none; z-index: 9;
  border: 3px solid white; border-radius: 50%; outline: 2px solid black; }
.looks { display: flex; flex-wrap: wrap; gap: .8em; }
.pair { margin: 0; max-width: 100%; overflow: hidden; --at: 50%; }
.pair .stack { position: relative; overflow: hidden; border-radius: 4px; }
.pair img { position: absolute; inset: 0 auto auto 0; max-width: none; margin: 0; }
.pair img.after { clip-path: inset(0 0 0 var(--at)); }
.pair .stack span { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: white; box-shadow: 0 0 0 1px black; }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y; }
.pair .stack:focus-within { outline: 3px solid var(--primary-600); outline-offset: 1px; }
.pair figcaption { display: flex; justify-content: space-between; font-size: .85rem; }
button button { visibility: hidden; }
.tab-container button.selected { color: var(--primary-700) !important; }
.dark .tab-container button.selected { color: var(--primary-300) !important; }
#strength .tab-like-container, #strength .min_value, #strength .max_value { display: none; }
.pair b { font-size: .92rem; }
@media (max-width: 480px) {
  .gradio-container .main { padding: 12px !important; }
  .tab-container button { padding: 0 8px !important; }
}
.label-wrap { gap: .6em; }
.label-wrap span { text-align: left; }
#slider .block-label, #slider label { max-width: calc(100% - 5em); }
progress { width: 100%; height: .8em; accent-color: var(--primary-600); }
iframe.report { width: 100%; height: 80vh; border: 1px solid #8886; background: white; }
.prose table { font-variant-numeric: tabular-nums; }
"""


def build(root: Path, results: Path | None = None, local: bool = True) -> gr.Blocks:
    """The page. root: the folder for all visitors' files (visits.make_root); results: a benchmark's folder.

    local: whether only this computer can open the page.
    """
    methods, editors, texts = method_choices(), editors_here(), Texts()
    where = "local" if local else "remote"
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        part(texts, gr.HTML, lambda say: {"value": f"<h1>{TITLE}</h1><p>{say('intro')} {say(where)}</p>"})
        tab = partial(_tab, texts)
        with gr.Tabs():
            with tab("protect"):
                outputs, resume = protect_tab.build(root, texts, methods, editors)
            with tab("check") as opened:
                check_tab.build(root, texts, opened)
            with tab("edit") as opened:
                edit_tab.build(root, texts, editors, opened)
            with tab("compare"):
                compare_tab.build(root, texts, methods, editors)
            with tab("results", visible=results is not None and results.is_dir()) as opened:
                results_tab.build(results, texts, opened)
        api.build(root)
        secret = gr.Textbox(visible=False)

        def entered(secret: str, request: gr.Request) -> Generator[Updates, None, None]:
            mine = visits.enter(request.session_hash, secret, root)
            mine.language = language_of(request)
            told = in_language(texts, mine.language)
            for updates in resume(mine):
                yield together(told, updates)
                told = {}

        everything = list(dict.fromkeys([*texts, *outputs]))
        page.load(
            entered, [secret], everything, js="() => [editproofTab()]", api_visibility="private",
            show_progress="hidden", concurrency_limit=work.TAKEN,
        )  # fmt: skip
        page.unload(left)
    return page


def _tab(texts: Texts, name: str, visible: bool = True) -> gr.Tab:
    return part(texts, gr.Tab, lambda say: {"label": say(f"tab_{name}")}, id=name, visible=visible)


def together(told: Mapping[Any, Mapping[str, Any]], updates: Updates) -> Updates:
    """Texts in a language and a visitor's work as one update of each component."""
    found = {component: dict(properties) for component, properties in told.items()}
    for component, value in updates.items():
        properties = value if isinstance(value, dict) and value.get("__type__") == "update" else {"value": value}
        found[component] = {**found.get(component, {}), **properties}
    return {component: gr.update(**{k: v for k, v in p.items() if k != "__type__"}) for component, p in found.items()}


def left(request: gr.Request) -> None:
    """A page was closed or reloaded, or its connection was lost."""
    visits.left(request.session_hash)


def head() -> str:
    """What the page's head has beside Gradio's: help for those who use a keyboard or a screen reader."""
    told = {language: {key: say(language, key) for key in SCRIPTED} for language in LANGUAGES}
    script = (files("editproof") / "assets" / "app.js").read_text(encoding="utf-8")
    return f"<script>const EDITPROOF = {json.dumps(told)};\n{script}</script>"


def own_words() -> gr.I18n:
    """What Gradio's own parts say otherwise here, where nothing is uploaded to anybody."""
    own = {"upload_text.drop_file": "drop_here", "upload_text.click_to_upload": "click_to_choose"}
    return gr.I18n(**{language: {of: say(language, key) for of, key in own.items()} for language in LANGUAGES})


def theme() -> gr.themes.Base:
    """Gradio's plain theme with fonts that are there."""
    plain = gr.themes.Default(font=FONT, font_mono=["ui-monospace", "monospace"], primary_hue="emerald")
    return plain.set(  # what is grey on white or white on green has to be readable
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700", button_primary_background_fill_hover_dark="*primary_800",
    )  # fmt: skip


def method_choices() -> list[tuple[str, str]]:
    """(label, name) of every method that runs as it is, the default first."""
    from editproof.methods import METHODS, ready
    from editproof.protection.apply import DEFAULT_METHOD

    def label(name: str) -> str:
        first = (inspect.getdoc(inspect.getmodule(METHODS[name])) or "").splitlines()[0]
        return f"{name}: {first}"

    names = [DEFAULT_METHOD, *(name for name in ready() if name != DEFAULT_METHOD)]
    return [(label(name), name) for name in names]


def editors_here() -> list[str]:
    """The editors that can be loaded without a network, the embedded ones first."""
    from editproof.editors import on_disk

    return [name for name, info in EDITORS.items() if on_disk(info)]
