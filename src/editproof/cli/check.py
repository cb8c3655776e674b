"""`editproof check`: imports no torch until it runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import OUT, progress_bar
from editproof.cli.options import DeviceOption, SeedOption, at_least

app = typer.Typer()


@app.command()
def check(
    original: Annotated[Path, typer.Argument(help="The photo as it was.", show_default=False)],
    protected: Annotated[Path, typer.Argument(help="Its protected version, as written.", show_default=False)],
    downloaded: Annotated[Path, typer.Argument(help="What a website made of that.", show_default=False)],
    mask: Annotated[
        str, typer.Option(metavar="FILE|auto", help="What edits may repaint (white); auto: all but people.")
    ] = "auto",
    editors: Annotated[
        str | None, typer.Option(metavar="A,B,...|none", help="Names, hub ids or folders.", show_default="embedded")
    ] = None,
    steps: Annotated[int, typer.Option(parser=at_least(1), metavar="N", help="Of an edit.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Say what an upload has left of a protection: size, recompression, perturbation, and effect on edits."""
    from editproof.bench.checking import check_download
    from editproof.protection.report import claim

    wanted = None if editors is None else [name.strip() for name in editors.split(",") if name.strip() != "none"]
    with progress_bar() as bar:
        task = bar.add_task("start", total=1)
        checked = check_download(
            original, protected, downloaded, editors=wanted, mask=mask, steps=steps, seed=seed, device=device,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    if as_json:
        print(json.dumps(checked.as_json(), indent=2))
        return
    for line in checked.sentences():
        OUT.print(line, markup=False, soft_wrap=True)
    OUT.print(claim("tiny-inpaint")["claim"], style="dim", markup=False)
