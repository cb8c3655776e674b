"""A parquet file of photos with prompts, as VetoBench and other data sets on the hub are, as a folder for `bench`.

DIR/images/0.png, 1.jpg, ...: the files as they are in it, by their row. DIR/prompts.csv: idx, the prompt, and every
other column of texts or numbers.
"""

import csv
import shutil
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from editproof.bench.data import COLUMNS
from editproof.errors import UserError
from editproof.photo.decoding import opened

ROWS = 16  # that are in memory at a time
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "AVIF": ".avif"}  # else .png


def unpack(file: str | Path, folder: str | Path, prompts: str | None = None, images: str | None = None) -> int:
    """Write the photos and prompts of a parquet file to a folder, whole or not at all.

    Args:
        file: The parquet file; photos are in a column of bytes, or of structs with a field `bytes`, as the hub has it.
        folder: Where they go; it must not exist yet.
        prompts: The column with the prompts; None: a usual name.
        images: The column with the photos; None: the only one that can be.

    Returns:
        How many photos there are.

    Raises:
        UserError: For a file, a column or a photo that cannot be used.
    """
    if find_spec("pyarrow") is None:
        raise UserError("parquet files cannot be read without pyarrow: pip install 'editproof[bulk]'")
    import pyarrow as arrow
    from pyarrow import parquet

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"'{folder}' exists; allowed: a folder that does not exist yet")
    try:
        table = parquet.ParquetFile(file, memory_map=True)
    except (OSError, arrow.ArrowInvalid) as error:
        raise UserError(f"'{file}' cannot be read as parquet: {' '.join(str(error).split())}") from None
    with table:
        kinds = {field.name: field.type for field in table.schema_arrow}
        photos = [name for name, kind in kinds.items() if _holds_bytes(arrow, kind)]
        texts = [name for name, kind in kinds.items() if kind in (arrow.string(), arrow.large_string())]
        image = _column(file, "photos", images, photos, photos if len(photos) == 1 else [])
        prompt = _column(file, "prompts", prompts, texts, [name for name in COLUMNS["prompt"] if name in texts])
        plain = [name for name, kind in kinds.items() if name in texts or arrow.types.is_primitive(kind)]
        others = [name for name in plain if name not in ("idx", prompt)]
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            count = _write(file, table, building, image, prompt, others)
            building.chmod(0o755)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return count


def _holds_bytes(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(arrow, field.type) for field in kind)
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _column(file: str | Path, what: str, wanted: str | None, allowed: Sequence[str], usual: Sequence[str]) -> str:
    """The column that is wanted, or the first of the usual ones."""
    if wanted in allowed or (wanted is None and usual):
        return wanted or usual[0]
    known = ", ".join(allowed) or "none: no column holds them"
    if wanted is None:
        raise UserError(f"'{file}' does not say which column has the {what}; allowed: {known}")
    raise UserError(f"'{file}' has no column '{wanted}' of {what}; allowed: {known}")


def _write(file: str | Path, table: Any, folder: Path, image: str, prompt: str, others: list[str]) -> int:
    (folder / "images").mkdir()
    number = 0
    with (folder / "prompts.csv").open("w", encoding="utf-8", newline="") as listing:
        rows = csv.writer(listing)
        rows.writerow(["idx", "instruction", *others])
        for batch in table.iter_batches(batch_size=ROWS, columns=[image, prompt, *others]):
            for row in batch.to_pylist():
                data = row[image]["bytes"] if isinstance(row[image], dict) else row[image]
                name = Path(f"row {number} of '{file}'")
                if not data:
                    raise UserError(f"{name} has no photo; allowed: one in each row")
                with opened(name, "photo", data) as picture:
                    suffix = SUFFIXES.get(picture.format or "", ".png")
                (folder / "images" / f"{number}{suffix}").write_bytes(data)
                rows.writerow([number, row[prompt] or "", *(row[other] for other in others)])
                number += 1
    return number
