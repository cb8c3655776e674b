"""A protected file and the report beside it: two files that belong together however a run ends.

They are written in one order, which a kill at any moment survives: an old protected file goes (where it is to be
overwritten), the report takes its name, the protected file takes its name. So no protected file ever lies beside the
report of another; a report alone is what a killed run has left, and the same command goes on from it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from editproof.files import TEMPORARY, atomic, check_output, digest, held
from editproof.protection.report import read_report


@contextlib.contextmanager
def turn(report_file: Path, refusal: str | None = None) -> Iterator[None]:
    """Keep other runs from a result and its report; where one works on them: UserError with `refusal`, or a wait."""
    name = hashlib.sha256(os.fsencode(report_file.name)).hexdigest()[:16]  # as short for every name
    with held(report_file.parent / f"{TEMPORARY}{name}.lock", refusal):
        yield


def write_pair(
    content: bytes | memoryview | Path, output: Path, report_file: Path, report: Mapping[str, Any], overwrite: bool
) -> None:
    """Write a protected file and its report; call it in `turn`. Content in a finished file (a Path) is moved.

    Raises UserError where another run has written one of them since they were checked; not if with the same result.
    """
    request, source = report["request"], report["photo_sha256"]
    if not overwrite and is_done(output, report_file, request, source):
        return
    check_pair(output, report_file, request, source, overwrite)
    with contextlib.nullcontext() if isinstance(content, Path) else atomic(output) as file:
        if file is not None and not isinstance(content, Path):
            file.write(content)
            file.flush()
        with atomic(report_file, private=True) as text:
            text.write(report_bytes(report))
            text.flush()
            output.unlink(missing_ok=True)
    if isinstance(content, Path):
        os.replace(content, output)


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """What the file beside a protected photo or clip holds."""
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode()


def check_pair(
    output: Path, report_file: Path, request: Mapping[str, Any] | None, source: str | Path, overwrite: bool
) -> None:
    """Raise UserError unless a result and its report may take these names: nothing lies there, or it may be
    overwritten, or it is what a killed run of this very request has left. `source`: as in is_done."""
    for file in (output, report_file):
        check_output(file, overwrite=True)
    if overwrite:
        return
    left = not os.path.exists(output) and _asked(read_report(report_file), request, source)
    for file in (output, report_file) if not left else ():
        check_output(file, overwrite=False)


def is_done(output: Path, report_file: Path, request: Mapping[str, Any] | None, source: str | Path) -> bool:
    """Whether an earlier run has made `output` from this very photo or clip (its SHA-256, or the file) as this
    request asks for, and it is as it was written."""
    found = read_report(report_file)
    return _asked(found, request, source) and output.is_file() and found.get("protected_sha256") == digest(output)


def _asked(found: Mapping[str, Any], request: Mapping[str, Any] | None, source: str | Path) -> bool:
    if request is None or found.get("request") != request:
        return False
    return found.get("photo_sha256") == (digest(source) if isinstance(source, Path) else source)
