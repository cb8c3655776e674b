"""What there is to do: each photo, each parquet file and each WebDataset shard of a source is one unit of work."""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from editproof.bulk.storage import file_system, is_local, local_path
from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES

KINDS: dict[str, Literal["parquet", "shard"]] = {".parquet": "parquet", ".tar": "shard"}
LIST = (".txt", ".lst")


@dataclass(frozen=True)
class Unit:
    """Something that is done as a whole, and that another run need not do again."""

    url: str
    name: str  # below the source; results are called after it
    kind: Literal["photo", "parquet", "shard"]


def find_units(source: str) -> list[Unit]:
    """All units of a source, in a steady order. Raises UserError where there are none.

    A source is a folder (however deep, but nothing hidden), a pattern with `*`, a photo, parquet file or tar; or `-` or
    a text file that names one of these in each line. Results keep the tree below the folder, or below what comes before
    the pattern's first `*`; of a list, each is called after the last part of its name and a digest of all of it.
    """
    try:
        if source == "-" or (source.endswith(LIST) and _lines(source) is not None):
            units = list(_listed(source))
        else:
            units = sorted(_found(source), key=lambda unit: unit.name)
    except UserError:
        raise
    except Exception as error:  # each kind of store has its own: no connection, no such user, no right
        if is_local(source):
            raise
        raise UserError(f"source '{source}' cannot be read ({' '.join(str(error).split())})") from None
    if not units:
        raise UserError(
            f"nothing in '{source}' can be protected; allowed: photos, .parquet, .tar, a folder or pattern of these, "
            "or a list (.txt) of them"
        )
    return units


def kind_of(name: str) -> Literal["photo", "parquet", "shard"] | None:
    """What a file of this name is, None if there is nothing to protect in it."""
    suffix = PurePosixPath(name).suffix.lower()
    return KINDS.get(suffix) or ("photo" if suffix in SUFFIXES else None)


def _found(source: str) -> Iterator[Unit]:
    system, path = file_system(source)
    if "*" in path:
        base = path.split("*")[0].rpartition("/")[0]
        paths = [found for found in system.glob(path) if not system.isdir(found)]
    elif system.isdir(path):
        base, paths = path.rstrip("/"), system.find(path)
    elif system.exists(path):
        base, paths = path.rpartition("/")[0], [path]
    else:
        raise UserError(f"source '{source}' does not exist")
    for found in paths:
        name = found[len(base) :].lstrip("/") if found.startswith(base) else found
        kind = kind_of(name)
        if kind is not None and not any(part.startswith((".", "_")) for part in name.split("/")):
            yield Unit(found if is_local(source) else system.unstrip_protocol(found), name, kind)


def _lines(source: str) -> list[str] | None:
    if source == "-":
        return sys.stdin.read().splitlines()
    system, path = file_system(source)
    return system.cat_file(path).decode(errors="replace").splitlines() if system.isfile(path) else None


def _listed(source: str) -> Iterator[Unit]:
    seen: set[str] = set()
    for line in map(str.strip, _lines(source) or []):
        if not line or line.startswith("#") or line in seen:
            continue
        seen.add(line)
        last = re.sub(r"[^\w.-]", "_", PurePosixPath(urlsplit(line).path if "://" in line else line).name)
        name = f"{hashlib.sha256(line.encode()).hexdigest()[:16]}-{last[-100:]}"
        yield Unit(line, name, kind_of(last) or "photo")


def check_apart(source: str, target: str) -> None:
    """Raise UserError if results would come to lie among what they are made of."""
    here, there = (f"{local_path(url).resolve() if is_local(url) else url.rstrip('/')}/" for url in (source, target))
    if there.startswith(here):
        raise UserError(f"target '{target}' is the source, or inside it; allowed: another place")
