"""What a worker does with units: read, protect by the steps of `editproof protect`, write; skip what is done."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from editproof.bulk import storage
from editproof.bulk.plan import Plan, row
from editproof.bulk.sources import Unit
from editproof.errors import UserError
from editproof.files import digest

Row = dict[str, Any]
FATAL = "fatal"  # the status of a row that ends the run: a full disk


def start(plan: Plan, threads: int, number: int) -> Callable[[Sequence[Unit]], list[list[Row]]]:
    """Load all that protecting takes, in worker `number`; returns the function from units to the rows of each."""
    import torch

    from editproof.protection.settings import load_task
    from editproof.serve.workers import settle

    torch.set_num_threads(threads)
    settings = replace(plan.settings, device=settle(plan.settings.device, number))
    task = load_task(settings, plan.request, mask_data=plan.mask_data)
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
    """Write what became of a photo, in the order of protection.pair, unless another run has done so meanwhile."""
    from editproof.protection.pair import report_bytes

    if isinstance(outcome, Exception):
        return failed(unit.name, outcome)
    try:
        result = result_url(unit, plan, data)
        with my_turn(unit, plan):
            if done_before(unit, hashlib.sha256(data).hexdigest(), plan, result):
                return row(unit.name, "done before")
            storage.remove(result)  # where it is to be overwritten
            storage.write(report_url(unit, plan), report_bytes(outcome.report), private=True)
            storage.write(result, outcome.data)
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

    Raises UserError if something else has: it stays. A report alone is what a killed run has left; of results on this
    machine it is looked at whether they are what was written.
    """
    if plan.overwrite:
        return False
    found, there = storage.read_if_there(report_url(unit, plan)), storage.exists(result)
    if found is None and not there:
        return False
    report = _told(found or b"", unit.kind)
    if report.get("request") == plan.request and report.get("photo_sha256") == sha256:
        if not there or not storage.is_local(result) or "protected_sha256" not in report:
            return there
        if report["protected_sha256"] == digest(storage.local_path(result)):
            return True
    raise UserError(
        f"'{result if there else report_url(unit, plan)}' exists and is not what these settings make of "
        f"'{unit.name}'; allowed: another target, or --overwrite"
    )


def _told(report: bytes, kind: str) -> dict[str, Any]:
    """What a report says, of a file of many photos its first line; nothing if it is none."""
    try:
        found = json.loads(report if kind == "photo" else report.split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def my_turn(unit: Unit, plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Keep other runs of this machine from a unit's result and report meanwhile."""
    from editproof.protection.pair import turn

    url = report_url(unit, plan)
    return turn(storage.local_path(url)) if storage.is_local(url) else contextlib.nullcontext()


def result_url(unit: Unit, plan: Plan, data: bytes) -> str:
    """Where the result of a photo goes: the ending of its format comes behind its whole name."""
    from editproof.photo.formats import suffix_of

    suffix = suffix_of(plan.settings.format, unit.name, data)
    return storage.join(plan.target, f"{unit.name}-protected{suffix}")


def report_url(unit: Unit, plan: Plan) -> str:
    """Where the private report goes; of parquet files and shards, one line for the file and one for each photo."""
    return storage.join(plan.reports, f"{unit.name}.json" if unit.kind == "photo" else f"{unit.name}.jsonl")
