"""`editproof serve` and `editproof serve-key`: imports nothing heavy until they run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import ERR, OUT
from editproof.cli.options import (
    EditorOption,
    EpsOption,
    PresetOption,
    SeedOption,
    at_least,
    parse_budget,
)
from editproof.parsing import parse_settings

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: others on the network, too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=at_least(1, highest=65_535), metavar="N", help="Port.")] = 8080,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, which `editproof serve-key` writes.", show_default=False),
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Others may ask without a key.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1, highest=1024),
            metavar="N",
            help="Processes; one per core if not given.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda:0 ...; repeat to spread the processes over several.", show_default=False),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1, highest=64),
            metavar="N",
            show_default=False,
            help="Photos in line that a process takes together; 1 on a CPU and 8 on a GPU if not given.",
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1, highest=100_000),
            metavar="N",
            show_default=False,
            help="Photos that may stand in line; 4 for each process if not given. More are answered 503.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(parser=at_least(1, float), metavar="SECONDS", help="For one photo, the line included.")
    ] = 60.0,
    upload_timeout: Annotated[
        float, typer.Option(parser=at_least(1, float), metavar="SECONDS", help="For the upload of one photo.")
    ] = 30.0,
    max_mb: Annotated[
        float, typer.Option(parser=at_least(0, float), metavar="MB", help="Of one request's body.")
    ] = 50.0,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=at_least(1, float),
            metavar="N",
            show_default=False,
            help="Requests a minute for each key (without keys, each address); no limit if not given.",
        ),
    ] = None,
    drain_wait: Annotated[
        float,
        typer.Option(
            parser=at_least(0, float),
            metavar="SECONDS",
            help="After SIGTERM: not ready any more, still answering, until the port closes.",
        ),
    ] = 0.0,
    method: Annotated[str, typer.Option(help="See `editproof list methods`.")] = "diffvax",
    editor: EditorOption = None,
    eps: EpsOption = None,
    preset: PresetOption = None,
    seed: SeedOption = 0,
    knobs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A method's own setting.", show_default=False),
    ] = None,
) -> None:
    """Serve protection over HTTP to programs: POST a photo to /v1/protect (docs/operations.md)."""
    budget, settings = parse_budget(eps, None), parse_settings(knobs or [])
    from editproof.serve import server

    server.check_installed()
    from editproof.protection.apply import DEFAULT_BUDGET
    from editproof.protection.settings import ProtectSettings

    protect_settings = ProtectSettings(
        method=method, editor=editor, budget=budget or (None if preset == "paper" else DEFAULT_BUDGET), preset=preset,
        seed=seed, knobs=settings,
    )  # fmt: skip
    on_cpu = all(name == "cpu" for name in device) if device else not _has_gpu()
    count = workers or (os.cpu_count() or 1 if on_cpu else len(device or [""]))
    server.serve(
        protect_settings, host=host, port=port, workers=count, devices=device or [None],
        batch=batch or (1 if on_cpu else 8), room=queue or 4 * count,
        seconds=timeout, most_bytes=int(max_mb * 1e6), upload_seconds=upload_timeout,
        rate=rate, keys=keys, no_keys=no_keys, drain_wait=drain_wait,
    )  # fmt: skip


@app.command("serve-key")
def serve_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; the logs say it.", show_default=False)],
    keys: Annotated[Path, typer.Option(metavar="FILE", help="What `editproof serve --keys` is given.")] = Path("keys"),
) -> None:
    """Make an API key: prints it, once, and adds its digest to a file."""
    from editproof.serve.limits import new_key

    OUT.print(new_key(name, keys), markup=False, soft_wrap=True)
    ERR.print(f"Keep it: '{keys}' holds only its digest.", style="dim", markup=False, soft_wrap=True)


def _has_gpu() -> bool:
    from editproof.editors import pick_device

    return pick_device(None).type != "cpu"
