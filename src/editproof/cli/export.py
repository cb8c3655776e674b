"""`editproof export`: imports nothing heavy until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import OUT

app = typer.Typer()


@app.command()
def export(
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="The file to write.", show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="What `editproof train` wrote; the embedded network if not given."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Write the one-pass network for other runtimes (docs/operations.md)."""
    from editproof.files import check_folder, check_output
    from editproof.immunizer.export import export_onnx

    check_folder(onnx.parent)
    check_output(onnx, overwrite)
    said = export_onnx(onnx, weights)
    about = ", ".join(f"{name} {value}" for name, value in said.items())
    OUT.print(f"{onnx}: {about}", markup=False, soft_wrap=True)
