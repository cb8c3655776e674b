"""What the page's Protect button does: the library's functions on each photo or clip, and pictures to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editproof.app import pictures, words
from editproof.app.regions import about, protected_part
from editproof.app.visits import Visit
from editproof.app.work import Progress
from editproof.budgets import Linf
from editproof.errors import UserError
from editproof.photo.formats import format_of
from editproof.photo.reading import open_photo
from editproof.protection.apply import DEFAULT_METHOD, get_method
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings
from editproof.video.protect import protect_clip
from editproof.video.reading import is_clip

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
    """A photo or clip that was protected: its files, the report, and pictures of what was done."""

    photo: Path
    file: Path
    report: dict[str, Any]
    before: str  # pictures to show, of one size; of a clip its first frame
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
            wrong.append(words.explain(error, [photo]))
    return done, wrong


def protect_one(
    visit: Visit,
    photo: Path,
    out: Path,
    choices: Choices,
    tell: Callable[[float], None],
    mask: str | Path | None = None,
    pictured: bool = True,
) -> Protected:
    """Protect one photo or clip into the folder `out`; a mask file is taken before the choices. Raises UserError.

    `pictured`: whether pictures to look at are made.
    """
    words.check_seed(choices.seed)
    if mask is None:
        mask = protected_part(visit, choices.region, choices.painted)
    editor = choices.editor if get_method(choices.method).needs != "none" else None
    budget = Linf(words.eps_of(choices.strength))
    settings = ProtectSettings(
        method=choices.method, editor=editor, mask=mask, budget=budget, preset=PRESET, seed=choices.seed,
        force=choices.again,
    )  # fmt: skip
    if is_clip(photo):
        if choices.region == words.PAINTED:
            raise UserError("painting is for photos; choose another part for a clip")
        report = protect_clip(photo, out, settings, progress=tell)
        file = out / report["protected"]
        look: Callable[[Path], Any] = pictures.first_frame
    else:
        name = format_of(photo) if choices.format == SOURCE else choices.format
        (report,) = protect_photos([photo], out, settings=replace(settings, format=name), progress=tell)
        file = out / report["protected"]
        look = _shown
    if not pictured:
        return Protected(photo, file, report, "", "", "")
    before, after = look(photo), look(file)
    return Protected(
        photo, file, report, pictures.save(before, out / "before.png"), pictures.save(after, out / "after.png"),
        pictures.save(pictures.amplified(after, before), out / "change.png"),
    )  # fmt: skip


def _shown(path: Path) -> Any:
    return pictures.shown(open_photo(path))


def facts(result: Protected) -> str:
    """What is said of one protected photo, in Markdown."""
    report = result.report
    share, left = report["protected_share"], report.get("perturbation_left")
    lines = [
        f"**{report['protected']}**: {about(report)}",
        f"PSNR {report['psnr_db']:.1f} dB (above 40 dB is hardly visible), largest change {report['linf_levels']} of "
        f"255 levels, {share:.0%} of the picture protected, {report['seconds']:.1f} s.",
    ]
    if left is not None:
        lines[-1] += " PSNR and largest change count what the format loses, too."
        lossless = "" if "frames" in report else " PNG keeps all of it."
        lines.append(f"This format is lossy: {left:.0%} of the change is left in the file.{lossless}")
    return "\n\n".join([*lines, report["claim"]])
