"""`editproof serve` and `editproof serve-key`: imports nothing heavy until they run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import ERR, OUT
from editproof.cli.options import EditorOption, EpsOption, PresetOption, SeedOption, parse_budget
from editproof.cli.serve_options import (
    BatchOption,
    DevicesOption,
    DrainOption,
    HostOption,
    KeysOption,
    NoKeysOption,
    PortOption,
    QueueOption,
    RateOption,
    SettingsOption,
    SizeOption,
    TimeoutOption,
    UploadOption,
    WorkersOption,
)
from editproof.parsing import parse_settings

app = typer.Typer()


@app.command()
def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    keys: KeysOption = None,
    no_keys: NoKeysOption = False,
    workers: WorkersOption = None,
    device: DevicesOption = None,
    batch: BatchOption = None,
    queue: QueueOption = None,
    timeout: TimeoutOption = 60.0,
    upload_timeout: UploadOption = 30.0,
    max_mb: SizeOption = 50.0,
    rate: RateOption = None,
    drain_wait: DrainOption = 0.0,
    method: Annotated[str, typer.Option(help="See `editproof list methods`.")] = "immunizer",
    editor: EditorOption = None,
    eps: EpsOption = None,
    preset: PresetOption = None,
    seed: SeedOption = 0,
    knobs: SettingsOption = None,
) -> None:
    """Serve protection over HTTP to programs: POST a photo to /v1/protect (docs/operations.md)."""
    budget, settings = parse_budget(eps, None), parse_settings(knobs or [])
    from editproof.serve import server

    server.check_installed()
    from editproof.protection.apply import default_budget
    from editproof.protection.settings import ProtectSettings

    protect_settings = ProtectSettings(
        method=method, editor=editor, budget=budget or default_budget(preset), preset=preset,
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
