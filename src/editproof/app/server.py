"""Serving the page: on this computer only unless told otherwise, without telemetry, without waiting for models."""

import logging
import os
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from editproof.errors import UserError

LARGEST_FILE = "200mb"
SHARED = (
    "warning: --share sends everything, photos too, through a server of Gradio's, and anyone who has the link can use "
    "this page for three days"
)
OPEN = "warning: others on your network can use this page at {host}; it has no password"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def prepare() -> Path:
    """What has to be set before Gradio is imported; returns the folder for visitors' files. Raises UserError."""
    if find_spec("gradio") is None:
        raise UserError("the web app needs Gradio, which is not installed; allowed: pip install 'editproof[app]'")
    from editproof.app.visits import make_root

    root = make_root()
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return root


def serve(
    host: str, port: int, share: bool, results: Path | None, wait: bool = True, allow_hosts: Sequence[str] = ()
) -> Any:
    """Build the page and serve it until Ctrl-C (`wait`), or return the running page. Raises UserError.

    `allow_hosts`: names that it answers to besides its own, such as that of a proxy in front of it.
    """
    root = prepare()
    from starlette.middleware import Middleware

    from editproof.app import bodies, gate, page, painting, visits, work

    names, origins = gate.own_names(host, allow_hosts), {name.lower() for name in allow_hosts}

    logging.getLogger("httpx").setLevel(logging.WARNING)
    built = page.build(root, results, local=host in LOOPBACK and not share)
    bodies.tidy(built)
    painting.bound()
    built.queue(max_size=2 * work.TAKEN, default_concurrency_limit=4)
    try:
        built.launch(
            server_name=host, server_port=port, share=share, max_file_size=LARGEST_FILE, quiet=True, show_error=True,
            prevent_thread_lock=True, ssr_mode=False, footer_links=[], run_history=False,
            enable_monitoring=False, inbrowser=False, theme=page.theme(), css=page.CSS, head=page.head(),
            i18n=page.own_words(),
            app_kwargs={"middleware": [Middleware(gate.Gate, names=names, origins=origins, blocks=built)]},
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"port '{port}' on '{host}' cannot be used ({error}); allowed: another --port") from None
    if built.share_url:
        shared = urlsplit(built.share_url).hostname or ""
        names.add(shared)
        origins.add(shared)
    threading.Thread(target=warm, daemon=True).start()
    threading.Thread(target=visits.keep_sweeping, args=[root], daemon=True).start()
    if wait:
        built.block_thread()
    return built


def warm() -> None:
    """Import what the first click needs while the visitor reads."""
    import editproof.app.choosing
    import editproof.app.preview
    import editproof.app.protecting
    import editproof.bench.compare  # noqa: F401
