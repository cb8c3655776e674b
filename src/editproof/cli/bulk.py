"""`editproof bulk`: imports nothing heavy until it runs."""

import os
from collections import Counter
from typing import Annotated

import typer

from editproof.cli.display import OUT, print_summary, progress_bar, rate_shown, tell_of_places
from editproof.cli.options import (
    EditorOption,
    EpsOption,
    ForceOption,
    FormatOption,
    InvertOption,
    MaskOption,
    OverwriteOption,
    PlaceOption,
    PresetOption,
    QualityOption,
    SeedOption,
    StripOption,
    at_least,
    metadata_asked,
    none_or,
    parse_budget,
)
from editproof.errors import UserError
from editproof.parsing import parse_settings

SHOWN = 20  # failures that are printed; the table has them all

app = typer.Typer()


@app.command()
def bulk(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, pattern or URL (s3://, gs://, https://) of photos, .parquet or WebDataset .tar; or a list "
            "of these, - for stdin.",
            show_default=False,
        ),
    ],
    target: Annotated[str, typer.Argument(help="A folder or URL for the results.", show_default=False)],
    reports: Annotated[
        str | None,
        typer.Option(metavar="URL", help="For the private reports; TARGET/_reports if not given.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1, highest=100_000),
            metavar="N",
            help="Processes; one per core if not given.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="By Ray Data, here or, with --address, on a cluster.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto or ray://host:10001.", show_default=False)
    ] = None,
    gpus: Annotated[
        float, typer.Option(parser=at_least(0, float), metavar="N", help="Of each Ray actor; may be a part of one.")
    ] = 0.0,
    batch: Annotated[
        int, typer.Option(parser=at_least(1, highest=256), metavar="N", help="Photos that a GPU takes together.")
    ] = 1,
    image: Annotated[str, typer.Option(metavar="NAME", help="The column of parquet files with the photos.")] = "image",
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    overwrite: OverwriteOption = False,
    force: ForceOption = False,
    format: FormatOption = "png",
    quality: QualityOption = None,
    strip_metadata: StripOption = False,
    keep_place: PlaceOption = None,
    method: Annotated[str, typer.Option(help="See `editproof list methods`.")] = "immunizer",
    editor: EditorOption = None,
    eps: EpsOption = None,
    preset: PresetOption = None,
    seed: SeedOption = 0,
    device: Annotated[
        str | None, typer.Option(help="cuda or cpu; the best there is if not given.", show_default=False)
    ] = None,
    knobs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A method's own setting.", show_default=False),
    ] = None,
) -> None:
    """Protect any number of photos; started again, it goes on (docs/operations.md)."""
    budget, own = parse_budget(eps, None), parse_settings(knobs or [])
    if not ray and (address is not None or gpus):
        raise UserError("--address and --gpus are of Ray's; allowed: with --ray")
    from editproof.bulk.run import protect_many
    from editproof.protection.apply import default_budget
    from editproof.protection.settings import ProtectSettings

    settings = ProtectSettings(
        method=method, editor=editor, mask=none_or(mask), invert_mask=invert_mask, preset=preset, seed=seed,
        budget=budget or default_budget(preset), device=device, knobs=own, force=force,
        format=format, quality=quality, metadata=metadata_asked(strip_metadata, keep_place),
    )  # fmt: skip
    counts, done, places = Counter[str](), 0, 0
    errors: list[str] = []
    with progress_bar() as bar:
        told = rate_shown(bar, bar.add_task(f"protect with {method}", total=None))
        for row in protect_many(
            source, target, settings, reports=reports, overwrite=overwrite,
            workers=workers or os.cpu_count() or 1, batch=batch, ray=ray, address=address, gpus=gpus, image=image,
            count=told["count"],
        ):  # fmt: skip
            done += 1
            told["progress"](done)
            counts[row["status"]] += 1
            places += row.get("tells_place", False)
            if row["status"] == "failed" and len(errors) < SHOWN:
                errors.append(f"{row['photo']}: {row['error']}")
    print_summary(target, counts, errors)
    if counts["failed"] > SHOWN:
        OUT.print(f"and {counts['failed'] - SHOWN} more; all are in the reports' _failures.csv", markup=False)
    if places and keep_place is None:
        tell_of_places(places)
    if counts["failed"]:
        raise typer.Exit(1)
