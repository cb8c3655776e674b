"""Where photos come from and results go: local folders, S3, GCS, HTTP and all else that fsspec knows."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from editproof.errors import UserError
from editproof.files import atomic, check_folder

INSTALL = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
SPOOLED = 64_000_000  # bytes of a file that are kept in memory until they go to the disk


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL or a local path, and what the place is called there. Raises UserError."""
    import fsspec

    protocol = url.partition("://")[0] if "://" in url else "file"
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError:
        package = INSTALL.get(protocol, "its package")
        raise UserError(f"'{url}' needs {package}, which is not installed; allowed: pip install {package}") from None
    except ValueError as error:
        raise UserError(f"'{url}' cannot be used ({error}); allowed: a folder, or a URL that fsspec knows") from None


def is_local(url: str) -> bool:
    """Whether a place is on a disk of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def local_path(url: str) -> Path:
    """The path of a local place."""
    return Path(url.partition("://")[2] if "://" in url else url)


def check_target(url: str) -> None:
    """Raise UserError unless results can be written below a place, as far as can be told before."""
    if is_local(url):
        check_folder(local_path(url))
    else:
        file_system(url)


def join(url: str, name: str) -> str:
    """The place `name` (with slashes) below another."""
    return f"{url.rstrip('/')}/{name}"


def read(url: str) -> bytes:
    """What a file holds. Raises FileNotFoundError and other OSErrors."""
    system, path = file_system(url)
    return system.cat_file(path)


def read_if_there(url: str) -> bytes | None:
    """What a file holds, None if there is none."""
    try:
        return read(url)
    except FileNotFoundError:
        return None


def exists(url: str) -> bool:
    """Whether there is a file of this name; what was found before is not believed."""
    system, path = file_system(url)
    system.invalidate_cache()
    return system.isfile(path)


def remove(url: str) -> None:
    """Remove a file, if there is one."""
    system, path = file_system(url)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        system.rm_file(path)


def write(url: str, data: bytes, *, private: bool = False) -> None:
    """Write a file, whole or not at all; a `private` one, if it is local, only its owner can read."""
    with writing(url, private=private) as file:
        file.write(data)


@contextlib.contextmanager
def writing(url: str, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write to that takes its name once it is complete: by renaming, or by one upload."""
    if is_local(url):
        with atomic(local_path(url), private=private) as file:
            yield file
        return
    system, path = file_system(url)
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as spooled:
        yield spooled
        spooled.seek(0)
        with system.open(path, "wb") as target:  # object stores show it when it is closed
            while block := spooled.read(1 << 20):
                target.write(block)


@contextlib.contextmanager
def fetched(url: str) -> Iterator[IO[bytes]]:
    """A copy of a file that can be read from any place in it."""
    if is_local(url):
        with local_path(url).open("rb") as file:
            yield file
        return
    system, path = file_system(url)
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as copy:
        with system.open(path, "rb") as source:
            while block := source.read(1 << 20):
                copy.write(block)
        copy.seek(0)
        yield io.BufferedReader(copy)
