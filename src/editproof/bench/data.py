"""The photos of a benchmark: DiffVax's layout, VetoBench's, or a folder of pictures.

DIR/metadata.jsonl, or DIR/validation/metadata.jsonl: one photo a line, {"file_name": "images/a.png"} and, where there
    are any, "mask": "masks/a.png", "prompts": ["a man in a zoo", ...], "truths": one picture for each prompt, what the
    edit should be. Only what is listed is used. Fields that are not known are passed over.
DIR/prompts.csv: the columns image (or file_name, filename, photo) and prompt (or instruction); one line for each pair.
    VetoBench's own have the columns idx, original_prompt, editing_instruction and edited_prompt: a photo's file is its
    number, in images/ or images/base/, and it is edited as editing_instruction says.
Neither: every picture in DIR/images, or in DIR. Without a "mask", masks/mask_a.png or masks/a.png is that of a.jpg.
"""

import csv
import glob
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.immunizer.layout import FAULT, LISTING, is_inside, listed, masks_of
from editproof.photo.decoding import SUFFIXES
from editproof.photo.masks import check_something_to_edit, check_something_to_protect, open_mask
from editproof.photo.reading import open_photo
from editproof.resolution import working_copy, working_mask

COLUMNS = {
    "image": ("image", "file_name", "filename", "photo", "idx"),
    "prompt": ("prompt", "instruction", "editing_instruction"),
}
RADII = 0.36, 0.28  # of the centred ellipse, in heights and widths of the photo


@dataclass(frozen=True)
class BenchPhoto:
    """A photo to measure with: its name below the images' folder, its files, its prompts, its (height, width)."""

    name: str
    image: Path
    mask: Path | None
    prompts: tuple[str, ...]
    truths: tuple[Path, ...]  # none, or one for each prompt
    size: tuple[int, int]


def read_photos(folder: str | Path, limit: int | None = None) -> list[BenchPhoto]:
    """The photos of a data folder in the order of their names, each of them decoded once.

    Raises UserError if there is none, or for the first that cannot be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"data '{folder}' is not a folder; allowed: a folder of photos")
    if not (root / LISTING).exists() and (root / "validation" / LISTING).exists():
        root = root / "validation"
    lister = next((read for name, read in LISTINGS.items() if (root / name).is_file()), _bare)
    found: dict[str, dict[str, Any]] = {}
    for row in lister(root):
        path = _find(root, _inside(root, row["file_name"]))
        name = path.relative_to(root / "images" if (root / "images") in path.parents else root).as_posix()
        if name in found:
            raise UserError(f"data '{folder}' lists '{name}' twice; allowed: once")
        found[name] = {**row, "path": path}
    if not found:
        raise UserError(f"data '{folder}' has no photos; allowed: pictures, images/, prompts.csv or metadata.jsonl")
    return [_photo(root, name, found[name]) for name in sorted(found)[:limit]]


def numbered(photos: list[BenchPhoto], number: int) -> BenchPhoto:
    """The photo called image_<number>, as DiffVax's are, or else the one at this place by name. Raises UserError."""
    called = [photo for photo in photos if photo.image.stem == f"image_{number}"]
    if not called and not 0 <= number < len(photos):
        raise UserError(f"photo {number} is asked for; allowed: 0 to {len(photos) - 1}, or N of an image_N")
    return called[0] if called else photos[number]


def _photo(root: Path, name: str, row: dict[str, Any]) -> BenchPhoto:
    path: Path = row["path"]
    mask = _inside(root, row["mask"]) if row.get("mask") else None
    if mask is None:
        mask = next((candidate for candidate in masks_of(path, root / "masks") if candidate.is_file()), None)
    prompts = row.get("prompts") or []
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise UserError(f"prompts of '{name}': {prompts!r}; allowed: a list of texts")
    truths = row.get("truths") or []
    if not isinstance(truths, list) or (truths and len(truths) != len(prompts)):
        raise UserError(f"truths of '{name}': {truths!r}; allowed: one file for each of its {len(prompts)} prompts")
    asked = dict(zip(prompts, truths or [None] * len(prompts), strict=True))  # each prompt once
    files = tuple(_inside(root, truth) for truth in asked.values()) if truths else ()
    return BenchPhoto(name, path, mask, tuple(asked), files, open_photo(path).size)


def _find(root: Path, path: Path) -> Path:
    """The file that is meant, also where images/, images/base/ or the suffix is left out."""
    below = path.relative_to(root)
    for candidate in (path, root / "images" / below, root / "images" / "base" / below):
        named = [candidate] if candidate.suffix else sorted(candidate.parent.glob(f"{glob.escape(candidate.name)}.*"))
        for file in named:
            if file.is_file():
                return file
    return path


def _inside(root: Path, name: Any) -> Path:
    if not is_inside(name):
        raise UserError(f"data names the file {name!r}; allowed: a file inside '{root}'")
    return root / str(name).replace("\\", "/")


def _metadata(root: Path) -> Iterator[dict[str, Any]]:
    for number, row in listed(_text(root / LISTING)):
        if row is None:
            raise UserError(f"'{root}/{LISTING}' line {number} {FAULT}")
        yield row


def _csv(root: Path) -> Iterator[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(_text(root / "prompts.csv"), newline=""))
    heads = {(head or "").strip().lower(): head for head in rows.fieldnames or []}
    chosen = {what: next((heads[n] for n in names if n in heads), None) for what, names in COLUMNS.items()}
    if None in chosen.values():
        allowed = " and ".join(" or ".join(names) for names in COLUMNS.values())
        raise UserError(f"'{root}/prompts.csv' has the columns {', '.join(heads)}; allowed: {allowed}")
    prompts: dict[str, list[str]] = {}
    for row in rows:
        image, prompt = ((row[head] or "").strip() for head in chosen.values() if head is not None)
        if image:
            prompts.setdefault(image, []).append(prompt)
    yield from ({"file_name": name, "prompts": texts} for name, texts in prompts.items())


def _bare(root: Path) -> Iterator[dict[str, Any]]:
    folder = root / "images" if (root / "images").is_dir() else root
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield {"file_name": path.relative_to(root).as_posix()}


LISTINGS = {LISTING: _metadata, "prompts.csv": _csv}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from None


def fingerprint(photos: list[BenchPhoto]) -> str:
    """A hash of the names and contents of photos, masks and truths: whether a run goes on with the same data."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.name.encode() + b"\0")
        for path in (photo.image, photo.mask, *photo.truths):
            digest.update(b"-" if path is None else hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def mask_source(photos: list[BenchPhoto], wanted: str) -> str:
    """ "files" or "centre", where `wanted` (see bench_config.MASKS) leaves it to the data.

    Raises UserError if some photos have masks and others not, or none has and "files" is wanted.
    """
    without = [photo.name for photo in photos if photo.mask is None]
    if wanted == "centre" or (wanted == "auto" and len(without) == len(photos)):
        return "centre"
    if without:
        raise UserError(
            f"photo '{without[0]}' has no mask in masks/, which an inpainting editor needs; "
            "allowed: a mask for every photo, or --masks centre (keeps a centred ellipse)"
        )
    return "files"


def open_at(photo: BenchPhoto, size: tuple[int, int]) -> Tensor:
    """What the benchmark takes for the photo: (3, h, w) in [0,1] at the working size, on the 8-bit grid."""
    return working_copy(open_photo(photo.image).pixels[None], size)[0]


def mask_at(photo: BenchPhoto, size: tuple[int, int], source: str) -> Tensor:
    """The photo's mask (1, h, w) at the working size, 1 = the editor may repaint. Raises UserError if unusable."""
    if source == "centre":
        return centred_mask(size)
    whole = open_mask(photo.mask, photo.size)  # type: ignore[arg-type]  # mask_source has seen that there is one
    check_something_to_protect(whole, str(photo.mask), size)
    check_something_to_edit(whole, str(photo.mask), size)
    return working_mask(whole, size)[0]


def centred_mask(size: tuple[int, int]) -> Tensor:
    """A mask (1, h, w) that keeps a centred ellipse (0) and lets everything around it be repainted (1)."""
    rows, columns = (torch.linspace(-0.5, 0.5, side) for side in size)
    return ((rows[:, None] / RADII[0]) ** 2 + (columns[None] / RADII[1]) ** 2 > 1).float()[None]


def truth_at(photo: BenchPhoto, prompt: str, size: tuple[int, int]) -> Tensor | None:
    """What the edit should be (3, h, w), where the data says."""
    if not photo.truths or prompt not in photo.prompts:
        return None
    return working_copy(open_photo(photo.truths[photo.prompts.index(prompt)]).pixels[None], size)[0]
