"""`editproof shortcut`: an entry to start the web page with a double click."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.display import OUT
from editproof.cli.options import OverwriteOption, named
from editproof.errors import UserError

app = typer.Typer()
COMMENT = "Make photos harder for AI editors to change"


@app.command()
def shortcut(
    folder: Annotated[
        Path | None,
        typer.Option(
            parser=named,
            metavar="DIR",
            help="Where to put it; where this system looks if not given.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write an entry that opens the web page with a double click: Linux, Windows or macOS, whichever this is."""
    from editproof.files import atomic, check_output

    name, content = entry(sys.platform, sys.executable)
    path = (folder or usual_folder(sys.platform)) / name
    check_output(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(content.encode())
    path.chmod(0o755)
    OUT.print(f"wrote {path}: a double click opens the page", markup=False, soft_wrap=True)


def entry(platform: str, python: str) -> tuple[str, str]:
    """An entry's name and content, for a system as sys.platform names it and the Python to start."""
    if platform == "win32":
        return "editproof.cmd", f'@echo off\r\n"{python.replace("%", "%%")}" -m editproof app --open\r\n'
    if platform == "darwin":
        quoted = python.replace("'", "'\\''")
        return "editproof.command", f"#!/bin/sh\nexec '{quoted}' -m editproof app --open\n"
    escape = {'"': r'\\"', "`": r"\\`", "$": r"\\$", "\\": r"\\\\", "%": "%%"}  # of a quoted word in Exec
    command = "".join(escape.get(letter, letter) for letter in python)
    lines = [
        "[Desktop Entry]", "Type=Application", "Name=editproof", f"Comment={COMMENT}",
        f'Exec="{command}" -m editproof app --open', "Terminal=true", "Categories=Graphics;Photography;",
    ]  # fmt: skip
    return "editproof.desktop", "\n".join([*lines, ""])


def usual_folder(platform: str) -> Path:
    """Where a system looks for entries: the start menu, or the folder of applications. Raises UserError."""
    if platform == "win32":
        if not os.environ.get("APPDATA"):
            raise UserError("the start menu is not known (APPDATA is empty); allowed: --folder DIR")
        return Path(os.environ["APPDATA"], "Microsoft", "Windows", "Start Menu", "Programs")
    if platform == "darwin":
        return Path.home() / "Applications"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "applications"
