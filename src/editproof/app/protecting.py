"""What the page's Protect button does: the library's protect_photos on each photo, and pictures to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editproof.app import pictures, words
from editproof.app.regions import protected_part
from editproof.app.visits import Visit
from editproof.app.work import Progress
from editproof.budgets import Linf
from editproof.errors import UserError
from editproof.formats import FORMATS, format_of
from editproof.photo import open_photo
from editproof.photos import protect_photos
from editproof.protection import DEFAULT_METHOD, WITHOUT_EDITOR

MOST_PHOTOS = 50  # at once
SOURCE = "source"  # the format that the photo came in
PRESET = "fast"


@dataclass(frozen=True)
class Choices:
    """How a visitor wants photos protected."""

    region: str = words.PERSON
    painted: Any = None  # what gr.ImageEditor gives
    strength: str = "balanced"
    method: str = DEFAULT_METHOD
    editor: str | None = None
    format: str = "png"  # or SOURCE
    again: bool = False  # protect what is protected already
    seed: int = 0


@dataclass(frozen=True)
class Protected:
    """A photo that was protected: its files, the report, and pictures of what was done."""

    photo: Path
    file: Path
    report: dict[str, Any]
    about: str  # which part was protected
    before: str  # pictures to show, of one size
    after: str
    change: str


def protect_all(
    visit: Visit, photos: Sequence[str | Path], choices: Choices, progress: Progress
) -> tuple[list[Protected], list[str]]:
    """Protect photos one after the other; returns the results and what was wrong with the others."""
    files = [Path(photo) for photo in photos]
    if not files:
        raise UserError("no photo is chosen; drop one above, or press the example")
    if len(files) > MOST_PHOTOS:
        raise UserError(f"{len(files)} photos are too many at once; allowed: {MOST_PHOTOS}")
    if len(files) > 1 and choices.region == words.PAINTED:
        raise UserError("painting is for one photo at a time; choose another part, or one photo")
    folder, done, wrong = visit.new_folder(), list[Protected](), list[str]()
    for number, photo in enumerate(files):
        what = f"Protecting {photo.name}" + (f", {number + 1} of {len(files)}" if len(files) > 1 else "")

        def tell(share: float, what: str = what, number: int = number) -> None:
            progress(what, (number + share) / len(files))

        tell(0.0)
        try:
            done.append(protect_one(visit, photo, folder / str(number + 1), choices, tell))
        except Exception as error:
            wrong.append(words.plain(error, [photo]))
    return done, wrong


def protect_one(
    visit: Visit,
    photo: Path,
    out: Path,
    choices: Choices,
    tell: Callable[[float], None],
    mask: str | Path | None = None,
) -> Protected:
    """Protect one photo into the folder `out`; with a mask file it says what is protected, not the choices. Raises
    UserError."""
    if photo.suffix.lower() in words.CLIPS:
        raise UserError(f"'{photo}' is a clip; allowed here: photos")
    name = format_of(photo) if choices.format == SOURCE else choices.format
    about = "What the mask keeps is protected."
    if mask is None:
        mask, about = protected_part(visit, photo, choices.region, choices.painted)
    tell(0.05)
    editor = None if choices.method in WITHOUT_EDITOR else choices.editor
    (report,) = protect_photos(
        [photo], out, method=choices.method, editor=editor, mask=mask, budget=Linf(words.eps_of(choices.strength)),
        preset=PRESET, seed=choices.seed, force=choices.again, format=name,
        progress=lambda done: tell(0.05 + 0.9 * done),
    )  # fmt: skip
    file = out / f"{photo.stem}-protected{FORMATS[name].suffix}"
    before, after = pictures.shown(open_photo(photo)), pictures.shown(open_photo(file))
    return Protected(
        photo, file, report, about, pictures.save(before, out / "before.png"),
        pictures.save(after, out / "after.png"), pictures.save(pictures.amplified(after, before), out / "change.png"),
    )  # fmt: skip


def facts(result: Protected) -> str:
    """What is said of one protected photo, in Markdown."""
    report = result.report
    share, left = report["protected_share"], report.get("perturbation_left")
    lines = [
        f"**{report['protected']}**: {result.about}",
        f"PSNR {report['psnr_db']:.1f} dB (above 40 dB is hardly visible), largest change {report['linf_levels']} of "
        f"255 levels, {share:.0%} of the picture protected, {report['seconds']:.1f} s.",
    ]
    if left is not None:
        lines.append(f"This format is lossy: {left:.0%} of the change is left in the file. PNG keeps all of it.")
    return "\n\n".join([*lines, report["claim"]])
