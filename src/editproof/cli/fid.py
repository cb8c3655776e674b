"""`editproof fid`: imports no torch until it runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import OUT, make_table

app = typer.Typer()


@app.command()
def fid(
    first: Annotated[Path, typer.Argument(help="A folder of pictures, or what `bench` wrote.", show_default=False)],
    network: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Inception's weights, or an .onnx file of features.", show_default=False),
    ],
    second: Annotated[
        Path | None, typer.Argument(help="Another folder of pictures; not for a benchmark's.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take the Frechet inception distance of two folders, or of each method's edits in a benchmark."""
    from editproof.bench.fid import fid_of_benchmark, fid_of_folders

    if second is not None:
        value = fid_of_folders(first, second, network)
        print(json.dumps({"fid": value}) if as_json else f"{value:.4f}")
        return
    rows = fid_of_benchmark(first, network)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        shown = [{**row, "fid": f"{row['fid']:.4f}", "fid_photos": f"{row['fid_photos']:.4f}"} for row in rows]
        OUT.print(make_table("FID of protected photos' edits, from the originals' edits and from the photos", shown))
