"""A page that protects photos inside the browser: a folder of files, opened by a double click or any web server.

Nothing is fetched by the page (its Content-Security-Policy forbids it): the network and ONNX Runtime lie in scripts, as
base64. What a browser computes is assets/page/work.js, in the steps of protection.apply.
"""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from editproof.app import words
from editproof.app.texts import LANGUAGES, catalog
from editproof.app.web_runtime import read_runtime
from editproof.files import atomic, check_output
from editproof.immunizer.export import onnx_of
from editproof.photo.xmp import OURS, mark
from editproof.protection.apply import SMALLEST

FIRST = "index.html"
TEXTS = (
    "intro", "page_private", "page_photo", "page_limits", "strength", "strength_info", "level_1", "level_2", "level_3",
    "level_4", "does", "does_not", "protect", "page_reading", "page_computing", "done_1", "download", "page_after",
    "before", "after", "slider", "page_unreadable", "page_size", "page_marked", "page_unchanged", "page_canvas",
    "page_failed",
)  # fmt: skip


def write_page(
    folder: str | Path, weights: str | Path | None = None, runtime: str | Path | None = None, overwrite: bool = False
) -> dict[str, int]:
    """Write the page into a folder; returns the bytes of each file.

    Args:
        folder: Made if it is not there.
        weights: Of the one-pass network, as load_immunizer takes them; None: the embedded one.
        runtime: See web_runtime.read_runtime.
        overwrite: Whether an earlier page may be replaced.

    Raises:
        UserError: For weights or a runtime that cannot be used, and a folder with a page in it.
    """
    folder = Path(folder)
    check_output(folder / FIRST, overwrite)
    script, module, wasm = read_runtime(runtime)
    network, said = onnx_of(weights)
    assets = files("editproof") / "assets" / "page"
    contents = {
        "settings.js": _script(settings=_settings(said, embedded=weights is None), texts=_texts(), files={}),
        "network.js": _files(network=network),
        "runtime.js": _files(runtime=script, mjs=module, wasm=wasm, work=(assets / "work.js").read_bytes()),
        **{name: (assets / name).read_bytes() for name in ("page.js", "page.css", FIRST)},
    }
    for name, content in contents.items():  # the page itself comes last
        with atomic(folder / name) as file:
            file.write(content)
    return {name: len(content) for name, content in contents.items()}


def _settings(network: dict[str, Any], embedded: bool) -> dict[str, Any]:
    """What the page's scripts have to know: of the network, of strengths, of the mark of protected photos."""
    return {
        "multiple": network["multiple"], "size": network["size"],
        "smallest": SMALLEST if embedded else network["size"],  # as size_to_work_at has it
        "weakest": words.WEAKEST, "usual": words.USUAL,
        "strongest": words.STRONGEST, "levels": words.LEVELS, "mark": mark(None).decode(), "mark_space": OURS,
    }  # fmt: skip


def _texts() -> dict[str, dict[str, str]]:
    return {language: {key: catalog(language)[key] for key in TEXTS} for language in LANGUAGES}


def _script(**values: Any) -> bytes:
    return f"globalThis.EDITPROOF = {json.dumps(values, ensure_ascii=False)};\n".encode()


def _files(**contents: bytes) -> bytes:
    coded = {name: base64.b64encode(content).decode() for name, content in contents.items()}
    return f"Object.assign(EDITPROOF.files, {json.dumps(coded)});\n".encode()
