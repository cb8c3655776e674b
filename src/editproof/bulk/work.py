"""What a worker does with units: read, protect by the steps of `editproof protect`, write; skip what is done."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from editproof.bulk import storage
from editproof.bulk.plan import Plan, row
from editproof.bulk.sources import Unit

Row = dict[str, Any]
FATAL = "fatal"  # the status of a row that ends the run: a full disk


def start(plan: Plan, threads: int, number: int) -> Callable[[Sequence[Unit]], list[list[Row]]]:
    """Load everything that protecting takes; returns the function from units to the rows of each."""
    import torch

    from editproof.protection.settings import load_task

    torch.set_num_threads(threads)
    task = load_task(plan.settings, plan.request, mask_data=plan.mask_data)
    return lambda units: do_units(units, plan, task)


def do_units(units: Sequence[Unit], plan: Plan, task: Any) -> list[list[Row]]:
    """Do units, the photos among them together as far as that goes; what is wrong with one is in its rows."""
    from editproof.bulk.containers import DOERS

    rows: dict[int, list[Row]] = {}
    photos: list[tuple[int, Unit, bytes]] = []
    for i, unit in enumerate(units):
        try:
            if unit.kind != "photo":
                rows[i] = DOERS[unit.kind](unit, plan, task)
                continue
            data = storage.read(unit.url)
            if done_before(unit, hashlib.sha256(data).hexdigest(), plan, result_url(unit, plan, data)):
                rows[i] = [row(unit.name, "done before")]
            else:
                photos.append((i, unit, data))
        except Exception as error:
            rows[i] = [failed(unit.name, error)]
    outcomes = protected([(data, unit.name) for _, unit, data in photos], task)
    for (i, unit, data), outcome in zip(photos, outcomes, strict=True):
        rows[i] = [_written(unit, data, outcome, plan)]
    return [rows[i] for i in range(len(units))]


def protected(photos: Sequence[tuple[bytes, str]], task: Any) -> list[Any]:
    """Of photos, each its content and name, what in_memory makes of them: results and exceptions."""
    from editproof.protection.in_memory import Content, protect_contents

    return protect_contents([(Content(data, name), task) for data, name in photos])


def _written(unit: Unit, data: bytes, outcome: Any, plan: Plan) -> Row:
    """Write what became of a photo: the result first, then the report, by which another run knows that it is done."""
    from editproof.protection.pair import report_bytes

    if isinstance(outcome, Exception):
        return failed(unit.name, outcome)
    try:
        if plan.overwrite:
            storage.remove(report_url(unit, plan))
        storage.write(result_url(unit, plan, data), outcome.data)
        storage.write(report_url(unit, plan), report_bytes(outcome.report), private=True)
    except Exception as error:
        return failed(unit.name, error)
    return made(unit.name, data, outcome)


def made(name: str, data: bytes, outcome: Any) -> Row:
    """The row of a photo that was protected."""
    told = {key: outcome.report[key] for key in ("psnr_db", "linf_levels", "seconds", "tells_place")}
    return row(name, "protected", bytes_in=len(data), bytes_out=len(outcome.data), **told)


def failed(name: str, error: Exception) -> Row:
    """The row of a photo, file or shard that was not protected, and why."""
    from editproof.errors import AlreadyProtected
    from editproof.protection.batch import is_fatal, one_line

    if isinstance(error, AlreadyProtected):
        return row(name, "protected already")
    return row(name, FATAL if is_fatal(error) else "failed", error=one_line(error))


def done_before(unit: Unit, sha256: str, plan: Plan, result: str) -> bool:
    """Whether a run has made the result of a unit from this very content, as these settings ask for.

    Raises UserError if something else has: it stays.
    """
    from editproof.errors import UserError

    if plan.overwrite:
        return False
    found = storage.read_if_there(report_url(unit, plan))
    if found is None:
        return False
    report = json.loads(found.split(b"\n", 1)[0] if unit.kind != "photo" else found)
    if report.get("request") == plan.request and report.get("photo_sha256") == sha256:
        return storage.exists(result)
    raise UserError(
        f"'{result}' exists and is not what these settings make of '{unit.name}'; allowed: another target, or "
        "--overwrite"
    )


def result_url(unit: Unit, plan: Plan, data: bytes) -> str:
    """Where the result of a photo goes: the ending of its format comes behind its whole name."""
    from editproof.photo.formats import suffix_of

    suffix = suffix_of(plan.settings.format, unit.name, data)
    return storage.join(plan.target, f"{unit.name}-protected{suffix}")


def report_url(unit: Unit, plan: Plan) -> str:
    """Where the private report goes; of parquet files and shards, one line for the file and one for each photo."""
    return storage.join(plan.reports, f"{unit.name}.json" if unit.kind == "photo" else f"{unit.name}.jsonl")
