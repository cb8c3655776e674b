"""ONNX Runtime for browsers (the npm package onnxruntime-web, MIT licence): given by the user, or downloaded."""

import base64
import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

from editproof.errors import UserError

VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm tells it
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SECONDS = 30  # without an answer
NAMES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
ALLOWED = "allowed: what `npm pack onnxruntime-web` writes, or the folder that it unpacks to"


def read_runtime(given: str | Path | None = None) -> tuple[bytes, bytes, bytes]:
    """The contents of the three files of NAMES: from the package's .tgz, its unpacked folder, or if None the web.

    Raises UserError where they are not there, cannot be downloaded, or are not what was expected.
    """
    if given is not None and Path(given).is_dir():
        return _of_folder(Path(given))
    if given is None:
        return _of_archive(download(), ADDRESS)
    try:
        return _of_archive(Path(given).read_bytes(), str(given))
    except OSError:
        raise UserError(f"runtime '{given}' cannot be read; {ALLOWED}") from None


def download() -> bytes:
    """The package's .tgz of VERSION (33 MB), checked. Raises UserError."""
    try:
        with urllib.request.urlopen(ADDRESS, timeout=SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError) as error:  # no network, no such host, refused; ValueError: a proxy that is none
        raise UserError(
            f"onnxruntime-web {VERSION} could not be downloaded from {ADDRESS} ({error}); allowed: --runtime FILE, "
            "what `npm pack onnxruntime-web` writes where there is a network"
        ) from None
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise UserError(f"what came from {ADDRESS} is not onnxruntime-web {VERSION}; allowed: --runtime FILE")
    return content


def _of_folder(folder: Path) -> tuple[bytes, bytes, bytes]:
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if all((place / name).is_file() for name in NAMES):
            script, module, wasm = ((place / name).read_bytes() for name in NAMES)
            return script, module, wasm
    raise UserError(f"runtime '{folder}' has no {', '.join(NAMES)}; {ALLOWED}")


def _of_archive(content: bytes, name: str) -> tuple[bytes, bytes, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            found = [archive.extractfile(f"package/dist/{one}") for one in NAMES]
            script, module, wasm = (b"" if file is None else file.read() for file in found)
            return script, module, wasm
    except (tarfile.TarError, KeyError, OSError, EOFError):
        raise UserError(f"runtime '{name}' has no package/dist with {', '.join(NAMES)}; {ALLOWED}") from None
