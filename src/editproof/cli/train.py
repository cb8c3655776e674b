"""`editproof train` and `editproof data`: imports no torch until a command runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from editproof.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False)
data = typer.Typer(no_args_is_help=True, help="Data in DiffVax's layout: fetch it, check it; of a parquet file.")
app.add_typer(data, name="data")


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="Settings (YAML), DiffVax's names.")] = Path("configs/train.yml"),
    data_dir: Annotated[Path, typer.Option(help="Folder with train/ and, if there is one, validation/.")] = Path(
        "data"
    ),
    output_dir: Annotated[Path, typer.Option(help="Where checkpoint, weights and log go.")] = Path("outputs"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value over the config's, as often as needed.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is by default.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="The losses as scalars in OUTPUT_DIR/tensorboard, too.")
    ] = False,
) -> None:
    """Train a one-pass immunizer against an editor; goes on from the checkpoint in the output folder if there is one.

    A data folder that does not exist is filled with DiffVax's dataset. `torchrun --nproc-per-node N -m editproof train`
    shares each batch out to N processes, one a GPU.

    Exit code 1 if a loss is not finite (the last good checkpoint is kept), 2 for settings or data that cannot be used.
    """
    from editproof.immunizer.config import read_config

    read = read_config(config, _parse(settings or []), tell=lambda line: typer.echo(line, err=True))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for the same bits at every run on CUDA

    import torch
    from rich.console import Console

    from editproof.immunizer.training import train as run

    console = Console(stderr=True)
    try:
        weights = run(read, data_dir, output_dir, device=device, console=console, tensorboard=tensorboard)
    except FloatingPointError as error:
        console.print(str(error), style="red", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(1) from error
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"batch_size: {read.batch_size} does not fit into the device's memory; allowed: a smaller batch_size, "
            "resolution or network, or fewer steps"
        ) from error
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes under torchrun, the first tells
    typer.echo(f"weights: {weights}")
    typer.echo(f"use them: editproof protect PHOTO --method diffvax --set weights={weights} --out DIR")


@data.command()
def download(
    data_dir: Annotated[Path, typer.Option(help="Where it goes; a fetch that was cut off is gone on with.")] = Path(
        "data"
    ),
) -> None:
    """Fetch DiffVax's dataset (ozdentarikcan/DiffVaxDataset, MIT) from the hub."""
    from editproof.immunizer.dataset import download_dataset

    download_dataset(data_dir)
    typer.echo(f"dataset: {data_dir}; `editproof data check {data_dir}` looks through it")


@data.command()
def check(folder: Annotated[Path, typer.Argument(help="Folder with train/ and validation/.")]) -> None:
    """Say everything that is wrong with a folder of training data; exit code 1 if something is, 0 if not."""
    from rich.console import Console
    from rich.table import Table

    from editproof.immunizer.dataset import check_dataset

    fine, problems = check_dataset(folder)
    console = Console(markup=False)
    if problems:
        table = Table("where", "what is wrong")
        for problem in problems:
            table.add_row(problem.where, problem.what)
        console.print(table)
    counts = ", ".join(f"{count} photos in {split}" for split, count in fine.items())
    console.print(f"{len(problems)} problems; fine: {counts}", highlight=False)
    if problems:
        raise typer.Exit(1)


@data.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="A parquet file of photos with prompts.", show_default=False)],
    data_dir: Annotated[Path, typer.Option(help="Where they go: a folder that does not exist yet.")] = Path("data"),
    prompts: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With the prompts.", show_default="a usual name")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With the photos.", show_default="the only one")
    ] = None,
) -> None:
    """Make a folder for `bench --data` of a parquet file, such as VetoBench's."""
    from editproof.bench.unpack import unpack as write

    count = write(file, data_dir, prompts, images)
    typer.echo(f"{count} photos: editproof bench --data {data_dir}")


def _parse(settings: list[str]) -> dict[str, object]:
    """name=value pairs, values as YAML."""
    from editproof.parsing import parse_yaml

    parsed: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"--set {text!r}; allowed: name=value")
        try:
            parsed[name] = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"--set {text!r}: the value is not YAML; allowed: such as 3, 8/255 or [0, 1]") from error
    return parsed
