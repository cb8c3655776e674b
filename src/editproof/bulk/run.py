"""A run over a source: checked before it begins, resumed by being started again, its failures in a table."""

import contextlib
import csv
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from editproof.bulk import storage
from editproof.bulk.engines import by_processes, by_ray
from editproof.bulk.plan import Plan
from editproof.bulk.sources import check_apart, find_units
from editproof.bulk.work import FATAL, Row
from editproof.errors import UserError
from editproof.files import clean
from editproof.photo.masks import AUTO, check_mask
from editproof.protection.settings import ProtectSettings

REPORTS, FAILURES = "_reports", "_failures.csv"
EVERY = 30.0  # seconds after which the table of failures is written anew


def protect_many(
    source: str,
    target: str,
    settings: ProtectSettings,
    *,
    reports: str | None = None,
    overwrite: bool = False,
    workers: int = 1,
    batch: int = 1,
    ray: bool = False,
    address: str | None = None,
    gpus: float = 0.0,
    image: str = "image",
    count: Callable[[int], None] = lambda units: None,
) -> Iterator[Row]:
    """Protect all photos of a source; yields what became of each: see bulk.plan.row.

    Args:
        source: see sources.find_units.
        target: a folder or URL; what is there already and was made of the same content with the same settings is left.
        settings: how to protect.
        reports: where the private reports go, `target`/_reports if not given; also the table of failures.
        overwrite: make anew whatever is there.
        workers: processes or actors; batch: photos that one takes together; gpus: of each actor, may be a part of one.
        ray: by Ray Data, on the cluster at `address`, or on this machine.
        image: the column of parquet files that holds photos.
        count: is told how many units (photos, parquet files, shards) there are.

    Raises UserError before anything is written, and later where nothing more can be written: a full disk. What has
    been written is whole then, and the same call goes on from there.
    """
    mask = settings.mask
    check_mask(mask, settings.invert_mask)
    check_apart(source, target)
    storage.check_target(target)
    units = find_units(source)
    mask_data = Path(mask).read_bytes() if mask is not None and mask != AUTO else None
    request = settings.as_json(
        hashlib.sha256(mask_data).hexdigest() if mask_data is not None else None if mask is None else AUTO,
        format=settings.format, quality=settings.quality, content_credentials=False, metadata=settings.metadata,
    )  # fmt: skip
    if mask_data is not None:
        settings = replace(settings, mask=Path(str(mask)).name)
    plan = Plan(
        settings, target, reports or storage.join(target, REPORTS), mask_data, overwrite, batch, image, request
    )  # fmt: skip
    count(len(units))
    if storage.is_local(target) and storage.local_path(target).is_dir():
        clean(folder for folder in [storage.local_path(target), *storage.local_path(target).rglob("*/")])
    failures: list[Row] = []
    told = time.monotonic()
    try:
        with contextlib.closing(
            by_ray(units, plan, workers, address, gpus) if ray else by_processes(units, plan, workers)
        ) as rows:
            for found in rows:
                if found["status"] == FATAL:
                    raise UserError(
                        f"'{found['photo']}': {found['error']}; what has been written is complete, and the same "
                        "command goes on once there is room"
                    )
                if found["status"] == "failed":
                    failures.append(found)
                if time.monotonic() - told > EVERY:
                    write_failures(failures, plan)
                    told = time.monotonic()
                yield found
    except BaseException:
        with contextlib.suppress(OSError):  # what ends the run may be in its way, too
            write_failures(failures, plan)
        raise
    write_failures(failures, plan)


def write_failures(failures: list[Row], plan: Plan) -> None:
    """Write the table of what failed in this run, and why; one without rows where nothing did."""
    table = io.StringIO()
    writer: Any = csv.DictWriter(table, ("photo", "error"), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(failures)
    storage.write(storage.join(plan.reports, FAILURES), table.getvalue().encode(), private=True)
