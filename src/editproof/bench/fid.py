"""The Frechet inception distance of folders of pictures, and of the edits that a benchmark has in its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from editproof.bench.store import Key, picture_path, read_lines
from editproof.errors import UserError
from editproof.metrics.fid import fid
from editproof.photo.decoding import SUFFIXES
from editproof.photo.reading import open_photo

WHAT = "attacked", "edit", "original"


def fid_of_folders(first: str | Path, second: str | Path, network: str | Path) -> float:
    """The distance of the pictures in two folders. Raises UserError."""
    return fid(_pictures(_listed(Path(first))), _pictures(_listed(Path(second))), network)


def fid_of_benchmark(folder: str | Path, network: str | Path) -> list[dict[str, Any]]:
    """For each editor, method, budget and counter-attack: how far protected photos' edits are from the originals'.

    A row has these four, `pictures` (how many edits), `fid` and `fid_photos`, the distance from the photos themselves.
    Raises UserError, also where pictures are no longer kept.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for line in read_lines(Path(folder) / "pictures.jsonl"):
        try:
            key = Key(*(line[name] for name in Key._fields))
        except KeyError:
            raise UserError(f"'{folder}/pictures.jsonl' was not written by `editproof bench`") from None
        groups.setdefault((key.editor, key.method, key.budget, key.counter), []).append(line)
    if not groups:
        raise UserError(f"'{folder}' has no edits of `editproof bench`; allowed: its --out, or two folders of pictures")
    rows = []
    for (editor, method, budget, counter), lines in sorted(groups.items()):
        kept = {what: [picture_path(Path(folder), line[what]) for line in lines] for what in WHAT}
        near = [fid(_pictures(kept["attacked"]), _pictures(kept[what]), network) for what in ("edit", "original")]
        rows.append({"editor": editor, "method": method, "budget": budget, "counter": counter,
                     "pictures": len(lines), "fid": near[0], "fid_photos": near[1]})  # fmt: skip
    return rows


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is not a folder; allowed: a folder of pictures")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def _pictures(files: list[Path]) -> Iterator[Tensor]:
    return (open_photo(file).pixels for file in files)
