"""What a benchmark keeps in its folder, so that it can be killed at any moment and go on.

results.jsonl   one row for each (photo, method, budget, editor, prompt, seed, counter), sorted once the run is done
pictures.jsonl  which pictures in cache/ belong to a row
timings.jsonl   seconds per photo and peak memory, and what each session ran on
config.yml      every setting; run.json: what the settings came to
cache/          protected photos and edits, PNG, named by a hash of all that went into them
"""

import gzip
import hashlib
import io
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.files import atomic, check_folder, clean, held
from editproof.photo.reading import open_photo, save_png

Row = dict[str, Any]


class Key(NamedTuple):
    """What a row is about."""

    photo: str
    method: str
    budget: str
    editor: str
    prompt: str
    seed: int
    counter: str


def key_of(row: Mapping[str, Any]) -> Key:
    """The key of a row of results.jsonl or pictures.jsonl."""
    return Key(*(row[name] for name in Key._fields))


def read_lines(path: Path) -> list[Row]:
    """The complete lines of a JSONL file, also as .gz; none if there is no file. Raises UserError for a damaged one."""
    try:
        text = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, EOFError) as error:
        raise UserError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
        try:
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise UserError(f"'{path}' line {number} is damaged; allowed: one JSON object a line") from None
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows of a results.jsonl in the order of their keys, the later of two with the same key."""
    try:
        rows = {key_of(row): row for row in read_lines(path)}
        if not all(isinstance(row["metrics"], dict) for row in rows.values()):
            raise TypeError
        return [rows[key] for key in sorted(rows)]
    except (KeyError, TypeError):
        raise UserError(f"'{path}' has lines that are no rows of `editproof bench`") from None


def _lines(first: str, *names: bytes) -> Callable[[bytes], bool]:
    """How one tells a JSONL file of ours by its beginning, which may be a first line that was cut off by a kill."""
    start = f'{{"{first}": '.encode()

    def ours(text: bytes) -> bool:
        if b"\n" not in text:
            return text[: len(start)] == start[: len(text)]
        return any(name in text for name in names)

    return ours


# files that a benchmark writes over: how one tells that `editproof bench` or `report` wrote them
OWN: dict[str, Callable[[bytes], bool]] = {
    "config.yml": lambda text: text.startswith(b"# editproof bench"),
    "run.json": lambda text: b'"data_sha256"' in text,
    "results.jsonl": _lines("photo", b'"counter"'),
    "pictures.jsonl": _lines("photo", b'"counter"'),
    "timings.jsonl": _lines("kind", b'"seconds_per_photo"', b'"peak'),
    "report.html": lambda text: b"editproof" in text,
    "summary.csv": lambda text: text.startswith(b"editor,method,budget,counter,"),
    "tables.md": lambda text: text.startswith(b"**") and b"| method |" in text,
    "tables.tex": lambda text: text.startswith(b"\\begin{table}"),
    "tables.csv": lambda text: b"\nmethod," in text,
}


def check_own(folder: Path, names: Iterable[str] = tuple(OWN)) -> None:
    """Raise UserError where a benchmark in `folder` would write over a file that no benchmark wrote."""
    for name in names:
        path, ours = folder / name, OWN[name]
        if path.is_dir() or (path.is_file() and not ours(path.read_bytes()[:100_000])):
            raise UserError(f"'{path}' was not written by `editproof bench`; allowed: another --out")


def to_json(value: float | int | None) -> float | int | str | None:
    """A measurement as JSON has it: six decimals, "inf" as text, null for what is not a number."""
    if value is None or math.isnan(value):
        return None
    return str(value) if math.isinf(value) else round(value, 6)


def from_json(value: Any) -> float:
    """The measurement again."""
    return math.nan if value is None else float(value)


def digest(*parts: Any) -> str:
    """A hash of settings and tensors: the name of the picture that comes of them."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            whole.update(repr(tuple(part.shape)).encode())
            whole.update((part.detach().cpu() * 255).round().to(torch.uint8).contiguous().numpy().tobytes())
        else:
            whole.update(json.dumps(part, sort_keys=True, default=str).encode())
        whole.update(b"\0")
    return whole.hexdigest()[:32]


class Store:
    """The files of one benchmark folder, open for adding to; one process at a time."""

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        taken = f"another benchmark is writing to '{folder}'; allowed: another --out"
        with ExitStack() as opened:
            opened.enter_context(held(folder / ".lock", taken))
            names = ("results", "pictures", "timings")
            self._files = {name: opened.enter_context(_open_whole(folder / f"{name}.jsonl")) for name in names}
            self.rows = {key_of(row): row for row in read_rows(folder / "results.jsonl")}
            clean([folder, *folder.glob("cache/*")])
            self._opened, self._writing = opened.pop_all(), threading.Lock()
        self._pool = ThreadPoolExecutor(8)  # PNG compression, which releases the interpreter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        self._files["results"].close()  # sort() has opened it anew
        self._opened.close()

    def has(self, key: Key, metrics: Iterable[str]) -> bool:
        """Whether a row is there and has all of the metrics."""
        return key in self.rows and all(name in self.rows[key]["metrics"] for name in metrics)

    def add_rows(self, rows: Sequence[Row], pictures: Sequence[Row]) -> None:
        """Add rows in one write; with them on disk the pictures they name are, too."""
        with self._writing:
            self._append("pictures", pictures)
            self._append("results", rows)
            os.fsync(self._files["results"].fileno())
            self.rows.update({key_of(row): row for row in rows})

    def add_timing(self, **values: Any) -> None:
        """Add a line to timings.jsonl."""
        with self._writing:
            self._append("timings", [values])

    def _append(self, name: str, rows: Sequence[Row]) -> None:
        self._files[name].write("".join(_line(row) for row in rows).encode())
        self._files[name].flush()

    def sort(self) -> None:
        """Write results.jsonl anew, whole, in the order of the keys."""
        self._files["results"].close()
        with atomic(self.folder / "results.jsonl") as file:
            file.write("".join(_line(self.rows[key]) for key in sorted(self.rows)).encode())
        self._files["results"] = _open_whole(self.folder / "results.jsonl")

    def path(self, name: str) -> Path:
        """Where the picture of this name is kept."""
        return picture_path(self.folder, name)

    def load(self, names: Sequence[str]) -> Tensor | None:
        """The pictures of these names (B,3,H,W), None if one is missing or cannot be read."""
        if not all(self.path(name).is_file() for name in names):
            return None
        try:
            return torch.stack(list(self._pool.map(lambda name: open_photo(self.path(name)).pixels, names)))
        except UserError:  # cut off, such as by a loss of power
            return None

    def save(self, names: Sequence[str], images: Tensor) -> None:
        """Keep pictures (B,3,H,W) on the 8-bit grid."""
        for future in [self._pool.submit(self._save, *pair) for pair in zip(names, images, strict=True)]:
            future.result()

    def keep(self, names: Sequence[str], images: Tensor) -> None:
        """Save pictures unless they are there."""
        if self.load(names) is None:
            self.save(names, images)

    def _save(self, name: str, image: Tensor) -> None:
        save_png(self.path(name), image)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file whole."""
        with atomic(self.folder / name) as file:
            file.write((json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def picture_path(folder: Path, name: str) -> Path:
    """Where a benchmark in `folder` keeps the picture of this name."""
    return folder / "cache" / name[:2] / f"{name}.png"


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _open_whole(path: Path) -> IO[bytes]:
    """A file to append to, without the line that was cut off when the last run was killed."""
    file = path.open("a+b")
    end = file.seek(0, io.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    return file
