"""Files: written whole or not at all, checked before any work, held by one run at a time, known by their digests.

Who is at work is told by locks that the system lets go of however a process ends, also where process numbers say
nothing: in other containers that share a folder. Windows needs none to keep open files, and keeps no two runs apart.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from editproof.errors import UserError

TEMPORARY = ".editproof-"  # how the names of unfinished files and of locks begin
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room for a file
JOINER = "\u200d"  # between the parts of an emoji
LONGEST_NAME = 255  # bytes, of a file on all common file systems


@contextlib.contextmanager
def atomic(path: str | Path, *, private: bool = False, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """A file that takes its name only once it is completely written; on any error or Ctrl-C nothing is left behind.

    What a kill leaves is named `.editproof-<random>.tmp`; `clean` removes it. A `private` file only its owner can read.
    Without `overwrite` what has taken the name meanwhile, such as another run's result, stays: UserError.
    """
    path = Path(path)
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _new_file(path.parent, 0o600 if private else 0o666)
    try:
        with file:
            yield file
            file.flush()
            if os.name == "nt":  # where open files keep their names
                file.close()
            if not overwrite:
                check_output(path, overwrite)
            os.replace(file.name, path)
    except BaseException as error:
        Path(file.name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL and not error.filename:
            error.filename = str(path)  # the system does not say what was being written
        raise


def _new_file(folder: Path, mode: int) -> IO[bytes]:
    """An empty unfinished file, locked; `mode` less what the user's umask takes from it."""
    while True:
        path = folder / f"{TEMPORARY}{secrets.token_hex(8)}.tmp"
        file = open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        with contextlib.suppress(OSError):  # a file system without locks
            _lock(file, wait=True)
        if _is_at(file, path):  # `clean` may have come between
            return file
        file.close()


@contextlib.contextmanager
def held(path: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold a lock file, which exists meanwhile: no other process or thread can hold it.

    Where another does, raises UserError with the `refusal`, or without one waits.
    """
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            try:
                mine = _lock(file, wait=refusal is None)
            except OSError:  # a file system without locks
                mine = True
            if not mine:
                raise UserError(refusal)
            if not _is_at(file, path):  # its last holder has removed it
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows keeps open files
                    path.unlink()
            return


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file: here, in another process, or in another container."""
    try:
        with path.open("r+b") as file:
            return not _lock(file)
    except FileNotFoundError:
        return False
    except OSError:  # another user's, or without locks
        return True


def clean(folders: Iterable[Path]) -> None:
    """Remove the unfinished files and locks that killed runs have left; those of runs that live stay."""
    for folder in folders:
        for path in (*folder.glob(f"{TEMPORARY}*.tmp"), *folder.glob(f"{TEMPORARY}*.lock")):
            with contextlib.suppress(OSError):  # gone, another user's, open on Windows, or without locks: not ours
                with path.open("ab") as file:
                    abandoned = _lock(file)
                    if abandoned and os.name != "nt" and _is_at(file, path):
                        path.unlink()
                if abandoned and os.name == "nt":
                    path.unlink()


def _lock(file: IO[bytes], wait: bool = False) -> bool:
    """Lock a file for as long as it is open; False where it is locked already. Raises OSError where there are none."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def check_output(path: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raise UserError unless a file may take this name in a folder that check_folder has passed.

    What it is made of (`inputs`) is not overwritten, whatever was asked for.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UserError(f"output '{path}' has too long a name; allowed: {LONGEST_NAME} bytes")
    if path.is_dir():
        raise UserError(f"output '{path}' is a folder; allowed: the name of a file")
    check_named(path)
    named = [os.path.realpath(given) for given in inputs if given is not None and "\0" not in str(given)]
    if os.path.realpath(path) in named:
        raise UserError(f"output '{path}' is one of the files that it is made of; allowed: another name")
    if path.exists() and not overwrite:
        raise UserError(f"output '{path}' exists; allowed: another --out, or --overwrite")


def check_named(path: str | Path) -> None:
    """Raise UserError for an empty name, which would be taken for the current folder."""
    if not str(path).strip():
        raise UserError("the output's name is empty; allowed: the name of a folder, such as . for this one")
    if "\0" in str(path):
        raise UserError(f"output '{printable(str(path))}' has a zero in its name, which no file system takes")


def check_folder(folder: str | Path) -> None:
    """Raise UserError unless files can be written to `folder`, which need not exist yet. Creates nothing."""
    check_named(folder)
    folder = Path(folder)
    if not folder.is_absolute():
        check_here()
    parent = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    if not parent.is_dir():
        raise UserError(f"output folder '{folder}': '{parent}' is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"output folder '{folder}' cannot be written to; allowed: a folder this user may write to")


def check_here() -> None:
    """Raise UserError where the folder that the process is in was deleted: names without a / mean nothing there, and
    PyTorch's libraries end the process."""
    try:
        os.getcwd()
    except OSError:
        raise UserError("the current folder is gone; allowed: a folder that exists, go there with cd") from None


def digest(path: str | Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: str, lines: bool = False) -> str:
    """A text that others have written, such as a file's name, safe to print: what would steer a terminal, turn letters
    around or forge a line is written out (\\x1b). `lines`: line breaks and tabs stay."""
    return "".join(c if _harmless(c, lines) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(letter: str, lines: bool) -> bool:
    if letter == JOINER or (lines and letter in "\n\t"):
        return True
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
