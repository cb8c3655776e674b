"""`editproof app`: serves the web page; imports nothing heavy until it runs."""

import signal
import urllib.request
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import ERR, OUT
from editproof.cli.options import at_least

app = typer.Typer()


@app.command("app")
def app_(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: others on the network, too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=at_least(1, highest=65_535), metavar="N", help="Port.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="A public link through a server of Gradio's, for three days.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name it answers to besides its own (a proxy's); repeat for more."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="What `editproof bench` wrote, for the page's Results.")
    ] = Path("outputs/bench"),
) -> None:
    """Serve a web page to protect photos, try to edit them, and compare methods."""
    from editproof.app import server

    if share:
        ERR.print(server.SHARED, style="yellow", markup=False, soft_wrap=True)
    if host not in server.LOOPBACK:
        ERR.print(server.OPEN.format(host=host), style="yellow", markup=False, soft_wrap=True)
    if open_ and is_running(f"http://{host}:{port}/"):
        webbrowser.open(f"http://{host}:{port}/")
        return
    for name in ("SIGTERM", "SIGHUP"):  # like Ctrl-C: what visitors have uploaded goes
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    page = server.serve(host, port, share, results, wait=False, allow_hosts=allow_host or [])
    OUT.print(f"editproof is at {page.local_url}", markup=False, soft_wrap=True)
    if page.share_url:
        OUT.print(f"and at {page.share_url}", markup=False, soft_wrap=True)
    OUT.print("Ctrl-C ends it and deletes what visitors have uploaded.", style="dim", markup=False)
    if open_:
        webbrowser.open(page.local_url)
    page.block_thread()


def is_running(url: str) -> bool:
    """Whether this page is served there already, by an earlier double click."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return b"<title>editproof</title>" in answer.read(100_000)
    except (OSError, ValueError):
        return False
