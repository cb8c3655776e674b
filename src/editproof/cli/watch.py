"""`editproof watch`: imports no torch until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import ERR, OUT, protected_line, tell_of_places
from editproof.cli.options import (
    EpsOption,
    ForceOption,
    FormatOption,
    MaskOption,
    PlaceOption,
    QualityOption,
    SeedOption,
    StripOption,
    metadata_asked,
    named,
    none_or,
    parse_budget,
)

app = typer.Typer()


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(parser=named, help="The folder to look into.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=named, metavar="DIR", help="For the results; FOLDER/protected if not given.", show_default=False
        ),
    ] = None,
    mask: MaskOption = "none",
    eps: EpsOption = None,
    format: FormatOption = "png",
    quality: QualityOption = None,
    force: ForceOption = False,
    strip_metadata: StripOption = False,
    keep_place: PlaceOption = None,
    seed: SeedOption = 0,
) -> None:
    """Protect every photo that is put into a folder, until Ctrl-C: point your upload program at the results."""
    from editproof.protection.apply import DEFAULT_BUDGET
    from editproof.protection.settings import ProtectSettings
    from editproof.protection.watching import watch as watched

    out = out or folder / "protected"
    settings = ProtectSettings(
        mask=none_or(mask), budget=parse_budget(eps, None) or DEFAULT_BUDGET, preset="fast", format=format,
        quality=quality, force=force, seed=seed, metadata=metadata_asked(strip_metadata, keep_place),
    )  # fmt: skip
    OUT.print(f"watching {folder}; results go to {out}; Ctrl-C ends it", style="dim", markup=False, soft_wrap=True)
    for outcome in watched(folder, out, settings):
        if "error" in outcome:
            ERR.print(f"failed: {outcome['error']}", style="yellow", markup=False, soft_wrap=True)
        elif outcome:
            OUT.print(protected_line(outcome, out), markup=False, soft_wrap=True)
            if outcome["tells_place"] and keep_place is None:
                tell_of_places(1)
