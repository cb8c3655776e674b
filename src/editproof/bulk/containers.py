"""Files of many photos: WebDataset shards (tar) and parquet files. Each becomes one file, whole or not at all."""

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from editproof.bulk import storage
from editproof.bulk.plan import Plan, row
from editproof.bulk.sources import Unit, kind_of
from editproof.bulk.work import Row, done_before, failed, made, my_turn, protected, report_url
from editproof.errors import AlreadyProtected, UserError
from editproof.photo.formats import FORMATS

ROWS = 64  # of a parquet file that are in memory at a time
Writer = Callable[[IO[bytes], IO[bytes]], tuple[list[Row], list[dict[str, Any]]]]


def do_shard(unit: Unit, plan: Plan, task: Any) -> list[Row]:
    """Protect the photos of a shard; of a sample (members of one key) with a photo that fails, nothing is kept.

    Photos that are protected already stay as they are.
    """
    return _whole(unit, plan, lambda source, target: _shard(unit, plan, task, source, target))


def do_parquet(unit: Unit, plan: Plan, task: Any) -> list[Row]:
    """Protect the photos in one column of a parquet file; those that fail become null, the other columns stay."""
    return _whole(unit, plan, lambda source, target: _parquet(unit, plan, task, source, target))


def _whole(unit: Unit, plan: Plan, write: Writer) -> list[Row]:
    """Do a file unless it is done; result and reports are written in the order of protection.pair."""
    with storage.fetched(unit.url) as source, my_turn(unit, plan):
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
        result = storage.join(plan.target, unit.name)
        if done_before(unit, sha256, plan, result):
            return [row(unit.name, "done before")]
        source.seek(0)
        with storage.writing(result) as target:
            rows, reports = write(source, target)
            target.seek(0)
            written = hashlib.file_digest(target, "sha256").hexdigest()  # type: ignore[arg-type]
            first = {
                "photo": unit.name, "photo_sha256": sha256, "request": plan.request, "photos": len(reports),
                "protected_sha256": written,
            }  # fmt: skip
            lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in (first, *reports))
            storage.remove(result)  # where it is to be overwritten
            storage.write(report_url(unit, plan), lines.encode(), private=True)
    return rows


def _shard(
    unit: Unit, plan: Plan, task: Any, source: IO[bytes], target: IO[bytes]
) -> tuple[list[Row], list[dict[str, Any]]]:
    rows: list[Row] = []
    reports: list[dict[str, Any]] = []
    try:
        with tarfile.open(fileobj=source, mode="r:") as old, tarfile.open(fileobj=target, mode="w") as new:
            for _, members in itertools.groupby(_files(old), lambda member: _key(member[0].name)):
                sample = list(members)
                photos = [i for i, (info, _) in enumerate(sample) if kind_of(info.name) == "photo"]
                names = [f"{unit.name}/{sample[i][0].name}" for i in photos]
                outcomes = protected([(sample[i][1], name) for i, name in zip(photos, names, strict=True)], task)
                bad = [
                    isinstance(outcome, Exception) and not isinstance(outcome, AlreadyProtected) for outcome in outcomes
                ]
                for i, name, outcome in zip(photos, names, outcomes, strict=True):
                    if isinstance(outcome, Exception):
                        rows.append(failed(name, outcome))
                        continue
                    rows.append(made(name, sample[i][1], outcome))
                    if not any(bad):
                        reports.append(outcome.report)
                        info = sample[i][0]
                        info.name = str(PurePosixPath(info.name).with_suffix(FORMATS[outcome.report["format"]].suffix))
                        sample[i] = (info, outcome.data)
                for info, data in () if any(bad) else sample:
                    info.size = len(data)
                    new.addfile(info, io.BytesIO(data))
    except tarfile.TarError as error:
        raise UserError(f"'{unit.url}' is no tar, damaged or cut off ({error})") from None
    return rows, reports


def _files(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for info in archive:
        file = archive.extractfile(info) if info.isfile() else None
        if file is not None:
            yield info, file.read()


def _key(name: str) -> str:
    """What the members of one sample share: the name up to the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"


def _parquet(
    unit: Unit, plan: Plan, task: Any, source: IO[bytes], target: IO[bytes]
) -> tuple[list[Row], list[dict[str, Any]]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("parquet files need pyarrow; allowed: pip install 'editproof[bulk]'") from None
    rows: list[Row] = []
    reports: list[dict[str, Any]] = []
    try:
        file = parquet.ParquetFile(source)
    except (arrow.ArrowInvalid, OSError) as error:
        raise UserError(f"'{unit.url}' is no parquet file, damaged or cut off ({error})") from None
    schema = file.schema_arrow
    if plan.image not in schema.names:
        raise UserError(f"'{unit.url}' has no column '{plan.image}'; allowed: {', '.join(schema.names)}")
    kind = schema.field(plan.image).type
    nested = arrow.types.is_struct(kind) and "bytes" in {field.name for field in kind}
    if not nested and not arrow.types.is_binary(kind) and not arrow.types.is_large_binary(kind):
        raise UserError(
            f"column '{plan.image}' of '{unit.url}' holds {kind}; allowed: binary, or a struct with a field 'bytes'"
        )
    count = 0
    with parquet.ParquetWriter(target, schema) as writer:
        for batch in file.iter_batches(batch_size=ROWS):
            cells = batch.column(plan.image).to_pylist()
            contents = [cell["bytes"] if nested and cell is not None else cell for cell in cells]
            names = [f"{unit.name}#{count + i}" for i in range(len(cells))]
            count += len(cells)
            there = [i for i, content in enumerate(contents) if content is not None]
            outcomes = _in_chunks([(contents[i], names[i]) for i in there], plan, task)
            for i, outcome in zip(there, outcomes, strict=True):
                content, name = contents[i], names[i]
                if isinstance(outcome, Exception):
                    rows.append(failed(name, outcome))
                    cells[i] = cells[i] if isinstance(outcome, AlreadyProtected) else None
                else:
                    rows.append(made(name, content, outcome))
                    reports.append(outcome.report)
                    cells[i] = {**cells[i], "bytes": outcome.data} if nested else outcome.data
            columns = batch.columns
            columns[schema.get_field_index(plan.image)] = arrow.array(cells, type=kind)
            writer.write_batch(arrow.RecordBatch.from_arrays(columns, schema=schema))
    return rows, reports


def _in_chunks(photos: list[tuple[bytes, str]], plan: Plan, task: Any) -> Iterator[Any]:
    for i in range(0, len(photos), plan.batch):
        yield from protected(photos[i : i + plan.batch], task)


DOERS: dict[str, Callable[[Unit, Plan, Any], list[Row]]] = {"shard": do_shard, "parquet": do_parquet}
