"""`editproof list` and `editproof doctor`: imports nothing heavy until they run."""

import json
from typing import Annotated, Any

import typer

from editproof.cli.display import OUT, make_table
from editproof.errors import UserError

GIB = 2**30

app = typer.Typer()


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="[methods|editors|counters]", help="All if not given.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the methods, the editors and the counter-attacks."""
    if what not in ("", "methods", "editors", "counters"):
        raise UserError(f"cannot list '{what}'; allowed: methods, editors, counters")
    from editproof.cli import doctor

    tables = {"methods": doctor.methods_table, "editors": doctor.editors_table, "counters": doctor.counters_table}
    found: dict[str, list[dict[str, Any]]] = {name: table() for name, table in tables.items() if what in ("", name)}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for title, rows in found.items():
        OUT.print(make_table(title, rows))


@app.command("doctor")
def doctor_() -> None:
    """Show versions, devices, memory, and which editors are there and fit."""
    from editproof.cli import doctor
    from editproof.editors import EDITORS, PLANS, on_disk

    versions = [{"package": name, "version": found} for name, found in doctor.package_versions().items()]
    OUT.print(make_table("versions", versions))
    found = doctor.devices()
    gib = [
        {"device": d.name, "what": d.what, "memory": f"{d.total / GIB:.1f} GiB", "free": f"{d.free / GIB:.1f} GiB"}
        for d in found
    ]
    OUT.print(make_table("devices (the first is the default)", gib))
    fits = []
    for name, info in EDITORS.items():
        fits.append({"editor": name, "on_disk": on_disk(info)})
        for device in found:
            fits[-1][f"plan on {device.name}"] = doctor.fitting(info, device, found[-1].total)
    OUT.print(make_table("editors, the --plan that fits, and the memory it takes there", fits))
    OUT.print(
        *(f"{plan}: {where}" for plan, where in PLANS.items()),
        "The memory is an estimate for one edit. Methods that optimise need several times as much beside the weights; "
        "the default method needs no editor.", sep="\n",
    )  # fmt: skip
