"""`editproof export`: imports nothing heavy until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import OUT
from editproof.cli.options import named
from editproof.errors import UserError

app = typer.Typer()


@app.command()
def export(
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="The ONNX file to write.", show_default=False)
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            parser=named,
            metavar="FOLDER",
            show_default=False,
            help="The folder to write a page to that protects photos inside the browser.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="What `editproof train` wrote; the embedded network if not given."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="For --page: what `npm pack onnxruntime-web` wrote, or its folder; downloaded if not given.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Write the one-pass network for other runtimes, or as a page for browsers (docs/operations.md)."""  # fmt: skip
    if (onnx is None) == (page is None):
        raise UserError(f"{'neither' if onnx is None else 'both'} --onnx and --page: allowed is one of them")
    if page is not None:
        _page(page, weights, runtime, overwrite)
        return
    if runtime is not None:
        raise UserError(f"--runtime '{runtime}' would change nothing without --page; allowed: no --runtime")
    assert onnx is not None
    from editproof.files import check_folder, check_output
    from editproof.immunizer.export import export_onnx

    check_folder(onnx.parent)
    check_output(onnx, overwrite)
    said = export_onnx(onnx, weights)
    about = ", ".join(f"{name} {value}" for name, value in said.items())
    OUT.print(f"{onnx}: {about}", markup=False, soft_wrap=True)


def _page(folder: Path, weights: Path | None, runtime: Path | None, overwrite: bool) -> None:
    from editproof.app.browser_page import FIRST, write_page
    from editproof.files import check_folder

    check_folder(folder)
    sizes = write_page(folder, weights, runtime, overwrite)
    megabytes = sum(sizes.values()) / 1e6
    OUT.print(
        f"{folder / FIRST}: open it with a double click, or put the folder on any web server ({len(sizes)} files, "
        f"{megabytes:.0f} MB)", markup=False, soft_wrap=True,
    )  # fmt: skip
