"""`editproof show`: what a report says, in a table."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from editproof.cli.display import OUT, make_table
from editproof.errors import UserError

DEEPEST = 5  # of values in values

app = typer.Typer()


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A protected photo or clip, or its report.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how a photo or clip was protected, and whether it is still the file that was written."""
    from editproof.protection.showing import told

    found = told(file)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    report: dict[str, Any] = found["report"]
    rows = [
        {"what": name, "value": _plain(value)} for name, value in report.items() if name not in ("claim", "request")
    ]
    OUT.print(make_table(str(found["file"]), rows))
    OUT.print(found["state"], markup=False, soft_wrap=True)
    OUT.print(str(report.get("claim", "")), style="dim", markup=False)
    if found["changed"]:
        raise UserError(f"'{found['file']}' is not the file that its report was written for; allowed: that file")


def _plain(value: Any, depth: int = 0) -> str:
    if depth > DEEPEST:
        return "..."
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner, depth + 1)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(inner, depth + 1) for inner in value)
    return "-" if value is None else str(value)
