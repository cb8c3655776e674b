"""Training data in DiffVax's layout (arXiv 2411.17957; hub dataset ozdentarikcan/DiffVaxDataset).

DIR/train/metadata.jsonl       one photo a line: {"file_name": "images/a.png", "prompts": ["a man in a zoo", ...]}
                               a bare "a.png" is looked for in images/ too
DIR/train/images/a.png
DIR/train/masks/mask_a.png     white = edit region; another file may be named as "mask" in the photo's line
DIR/validation/...             the same; optional for training
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor
from torch.utils.data import Dataset

from editproof.errors import UserError
from editproof.files import check_folder
from editproof.immunizer.layout import FAULT, LISTING, is_inside, listed, masks_of
from editproof.photo.masks import check_something_to_edit, check_something_to_protect, open_mask
from editproof.photo.reading import open_photo
from editproof.resolution import resize

REPOSITORY = "ozdentarikcan/DiffVaxDataset"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Entry:
    """One photo of a split: its files and the prompts it is edited with."""

    image: Path
    mask: Path
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong with a dataset: where (below its folder) and what."""

    where: str
    what: str


class PhotoPrompts(Dataset[tuple[Tensor, Tensor, str]]):
    """Every photo with each of its prompts, as DiffVax counts samples: image (3,S,S) in [0,1], mask (1,S,S), prompt.

    The photo's middle square is scaled to `size` x `size`.
    """

    def __init__(self, entries: Sequence[Entry], size: int) -> None:
        self.samples = [(entry, prompt) for entry in entries for prompt in entry.prompts]
        self.size = (size, size)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        entry, prompt = self.samples[index]
        images, mask = (_square(x, self.size) for x in _open(entry))
        return (images.clamp(0, 1) * 255).round()[0] / 255, (mask > 0.5).float()[0], prompt


def _square(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle square of (B,C,H,W), scaled to `size`."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(images[..., top : top + side, left : left + side], size)


def _open(entry: Entry) -> tuple[Tensor, Tensor]:
    """(1,3,H,W) and (1,1,H,W); raises UserError where the photo or the mask cannot be trained with."""
    photo = open_photo(entry.image)
    mask = open_mask(entry.mask, photo.size)
    check_something_to_protect(mask, str(entry.mask))
    check_something_to_edit(mask, str(entry.mask))
    return photo.pixels[None], mask


def read_split(
    folder: str | Path, split: str, images_subdir: str | None = None, masks_subdir: str | None = None
) -> list[Entry]:
    """The photos of a split, in the order of its metadata.jsonl. Raises UserError for the list's first problem.

    With `images_subdir` (below `folder`) photos are looked for there by the last part of their file_name, as DiffVax
    does; `masks_subdir` is where the masks without a name of their own are.
    """
    for name, subdir in (("images_subdir", images_subdir), ("masks_subdir", masks_subdir)):
        if subdir is not None and not (is_inside(subdir) and (_existing(folder) / subdir).is_dir()):
            raise UserError(f"{name}: {subdir!r}; allowed: a folder inside '{folder}', such as '{split}/images'")
    entries: list[Entry] = []
    for item in _scan(_existing(folder), split, images_subdir, masks_subdir):
        if isinstance(item, Problem):
            raise UserError(f"'{folder}/{item.where}' {item.what}; `editproof data check {folder}` lists every problem")
        entries.append(item)
    return entries


def check_dataset(folder: str | Path) -> tuple[dict[str, int], list[Problem]]:
    """How many photos of each split are fine, and everything that is wrong; opens every picture.

    Raises UserError if `folder` does not exist.
    """
    folder = _existing(folder)
    fine: dict[str, int] = {}
    problems: list[Problem] = []
    first: dict[str, str] = {}  # a picture's content: where it was met first
    for split in SPLITS:
        if split == "validation" and not (folder / split).exists():
            continue
        items = list(_scan(folder, split))
        problems += [item for item in items if isinstance(item, Problem)]
        entries = [item for item in items if isinstance(item, Entry)]
        found = {entry: list(_check_pictures(entry, folder, first)) for entry in entries}
        fine[split] = sum(not wrong for wrong in found.values())
        problems += [problem for wrong in found.values() for problem in wrong]
        problems += _unlisted(folder, split)
    return fine, problems


def download_dataset(folder: str | Path) -> None:
    """Fetch DiffVax's dataset from the hub into `folder`; what is there already is not fetched again.

    Raises UserError if the hub cannot be reached or `folder` cannot be written to.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    check_folder(folder)
    try:
        snapshot_download(REPOSITORY, repo_type="dataset", local_dir=folder, allow_patterns=[f"{x}/**" for x in SPLITS])
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(f"dataset '{REPOSITORY}': the hub cannot be reached; allowed: a network connection") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"dataset '{REPOSITORY}' could not be fetched; run it again to go on ({reason})") from error


def fetch_missing(folder: str | Path, tell: Callable[[str], object] | None = None) -> None:
    """Fetch DiffVax's dataset where a data folder does not exist yet.

    Args:
        folder: Where it is, or goes.
        tell: Called with a line before anything is fetched.

    Raises:
        UserError: If it is not there and cannot be fetched.
    """
    if Path(folder).exists():
        return
    if tell is not None:
        tell(f"'{folder}' does not exist: fetching DiffVax's dataset ({REPOSITORY}) into it")
    try:
        download_dataset(folder)
    except UserError as error:
        raise UserError(f"data folder '{folder}' does not exist, and {error}, or another folder") from None


def _existing(folder: str | Path) -> Path:
    if not Path(folder).is_dir():
        raise UserError(f"data folder '{folder}' does not exist; `editproof data download` fetches DiffVax's dataset")
    return Path(folder)


def _photo(folder: Path, split: str, name: str, images_subdir: str | None = None) -> Path:
    """The file that a file_name means: below the split, a bare name also in images/, all names in `images_subdir`."""
    if images_subdir is not None:
        return folder / images_subdir / PurePosixPath(name).name
    bare = len(PurePosixPath(name).parts) == 1 and not (folder / split / name).is_file()
    return folder / split / "images" / name if bare else folder / split / name


def _scan(
    folder: Path, split: str, images_subdir: str | None = None, masks_subdir: str | None = None
) -> Iterator[Entry | Problem]:
    """Each line of a split's metadata.jsonl: an entry whose files exist, or what is wrong with it."""
    listing = f"{split}/{LISTING}"
    try:
        rows = list(listed((folder / listing).read_text("utf-8-sig")))
    except FileNotFoundError:
        yield Problem(listing, "is missing")
        return
    except (OSError, UnicodeDecodeError) as error:
        yield Problem(listing, f"cannot be read ({error})")
        return
    if not rows:
        yield Problem(listing, "lists no photo")
    seen: dict[Path, int] = {}
    for number, row in rows:
        where = f"{listing} line {number}"
        if row is None:
            yield Problem(where, FAULT)
            continue
        name, prompts = row["file_name"], row.get("prompts", [])
        named = [name, row["mask"]] if "mask" in row else [name]
        outside = [x for x in named if not is_inside(x)]
        wrong = [Problem(where, f"names {x!r}; allowed: a file inside the folder '{split}'") for x in outside]
        if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
            wrong.append(Problem(where, f'{name} has no "prompts"; allowed: a list of one or more texts'))
        if outside:
            yield from wrong
            continue
        photo = _photo(folder, split, name, images_subdir)
        beside = masks_of(photo, folder / (masks_subdir or f"{split}/masks"))[0]
        mask = folder / split / row["mask"] if "mask" in row else beside
        wrong += [Problem(x.relative_to(folder).as_posix(), "is missing") for x in (photo, mask) if not x.is_file()]
        if photo in seen:
            wrong.append(Problem(where, f"{name} is listed in line {seen[photo]} already"))
        seen.setdefault(photo, number)
        if wrong:
            yield from wrong
        else:
            yield Entry(photo, mask, tuple(prompts))


def _check_pictures(entry: Entry, folder: Path, first: dict[str, str]) -> Iterator[Problem]:
    """What is wrong with an entry's two pictures; remembers the photo's content in `first`."""
    where = entry.image.relative_to(folder).as_posix()
    try:
        _open(entry)
    except UserError as error:
        yield Problem(where, str(error))
    content = hashlib.sha256(entry.image.read_bytes()).hexdigest()
    if first.setdefault(content, where) != where:
        yield Problem(where, f"is the same picture as {first[content]}")


def _unlisted(folder: Path, split: str) -> list[Problem]:
    """Pictures that lie in images/ but are not in metadata.jsonl."""
    try:
        rows = list(listed((folder / split / LISTING).read_text("utf-8-sig")))
    except (OSError, UnicodeDecodeError):
        return []
    known = {_photo(folder, split, row["file_name"]) for _, row in rows if row is not None}
    found = sorted(set((folder / split / "images").glob("[!.]*")) - known)
    return [Problem(path.relative_to(folder).as_posix(), "is not listed in metadata.jsonl") for path in found]
