"""What is known of a protected file: its report, and whether it is the file that the report was written for."""

import json
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.files import digest
from editproof.photo.reading import peek
from editproof.protection.report import read_report


def told(file: Path) -> dict[str, Any]:
    """The report of a protected photo or clip, or of the report's own file; whether the file has `changed` since.

    Raises UserError where there is no report: a mark alone says that a photo is protected, and nothing else.
    """
    if not _is_file(file):
        raise UserError(f"'{file}' does not exist; allowed: a protected photo or clip, or its report")
    report = read_report(file)
    if report:
        file = file.with_name(Path(report["protected"]).name)
    else:
        report = read_report(file.with_suffix(".json"))
        if report.get("protected") != file.name:
            raise UserError(_without_report(file))
    try:
        json.dumps(report, indent=2)
    except RecursionError:
        raise UserError(f"the report of '{file}' is no report of editproof's (lists in lists in lists)") from None
    if not _is_file(file):
        return {"file": str(file), "report": report, "changed": False, "state": f"'{file}' is not here."}
    changed = report.get("protected_sha256") != digest(file)
    state = "The file is no longer what was written." if changed else "The file is as it was written, byte for byte."
    return {"file": str(file), "report": report, "changed": changed, "state": state}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that cannot be one
        return False


def _without_report(file: Path) -> str:
    """What to say of a file without a report."""
    beside = f"there is no report '{file.with_suffix('.json').name}' beside it"
    try:
        marked = peek(file)[1]
    except UserError:
        return f"'{file}' is neither a report nor a protected photo or clip: {beside}; allowed: one of these"
    if marked:
        return f"photo '{file}' is marked as protected; how, only its report says, and {beside}; allowed: both together"
    return f"photo '{file}' is not marked as protected, and {beside}; allowed: a protected photo or clip, or its report"
