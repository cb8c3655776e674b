"""What training and benchmark share of DiffVax's layout: a metadata.jsonl, and files that it names below a folder."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

LISTING = "metadata.jsonl"
FAULT = 'is not a JSON object with a "file_name"'


def listed(text: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Of each line of a metadata.jsonl that is not empty, its number and what it says of a photo; None: see FAULT."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) and isinstance(row.get("file_name"), str) else None


def is_inside(name: Any) -> bool:
    """Whether this is the name of a file below a folder, and not of one elsewhere."""
    if not isinstance(name, str):
        return False
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts


def masks_of(photo: Path, folder: Path) -> tuple[Path, Path]:
    """What the mask of a photo may be called in a folder of masks, DiffVax's name first."""
    return folder / f"mask_{photo.stem}.png", folder / f"{photo.stem}.png"
