"""What the page's Protect button does: the library's functions on each photo or clip, and pictures to look at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editproof.app import pictures, words
from editproof.app.regions import protected_part
from editproof.app.texts import ENGLISH, say
from editproof.app.visits import Visit
from editproof.app.work import Progress
from editproof.budgets import Linf
from editproof.errors import UserError
from editproof.photo.formats import format_of
from editproof.photo.metadata import KEEP
from editproof.photo.reading import open_photo
from editproof.protection.apply import DEFAULT_METHOD, get_method
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings
from editproof.video.protect import SHORT, protect_clip
from editproof.video.reading import is_clip, open_clip

MOST_PHOTOS = 50  # at once
SOURCE = "source"  # the format that the photo came in
PRESET = "fast"
BY_CHOICE = "by choice"  # no mask is given: Choices.region says which part is protected


@dataclass(frozen=True)
class Choices:
    """How a visitor wants photos protected."""

    region: str = words.PERSON
    painted: Any = None  # what gr.ImageEditor gives
    strength: str | float = "balanced"  # a word of words.STRENGTHS, or levels of 255
    method: str = DEFAULT_METHOD
    editor: str | None = None
    format: str = "png"  # or SOURCE
    again: bool = False  # protect what is protected already
    seed: int = 0
    metadata: str = KEEP  # what of the file's own goes with the result: photo.metadata.METADATA


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
    visit: Visit,
    photos: Sequence[str | Path],
    choices: Choices,
    progress: Progress,
    masks: Mapping[Path, Any] | None = None,
) -> tuple[list[Protected], list[str]]:
    """Protect photos one after the other; returns the results and what was wrong with the others.

    masks: of photos where the visitor has chosen people by hand, as protect_photos takes them.
    """
    files = [Path(photo) for photo in photos]
    if not files:
        raise UserError(say(visit.language, "no_photo"))
    if len(files) > MOST_PHOTOS:
        raise UserError(say(visit.language, "too_many", count=len(files), most=MOST_PHOTOS))
    if len(files) > 1 and choices.region == words.PAINTED:
        raise UserError(say(visit.language, "paint_one"))
    folder, done, wrong = visit.new_folder(), list[Protected](), list[str]()
    for number, photo in enumerate(files):
        key = "protecting_n" if len(files) > 1 else "protecting"
        what = say(visit.language, key, name=photo.name, number=number + 1, count=len(files))

        def tell(share: float, what: str = what, number: int = number) -> None:
            progress(what, (number + share) / len(files))

        tell(0.0)
        chosen = {"mask": masks[photo]} if masks and photo in masks else {}
        try:
            check_clip(visit, photo, choices.method)
            done.append(protect_one(visit, photo, folder / str(number + 1), choices, tell, **chosen))
        except Exception as error:
            wrong.append(words.explain(error, [photo]))
    return done, wrong


def check_clip(visit: Visit, file: Path, method: str) -> None:
    """Raise UserError for a clip that would take hours, as the method optimises every frame; "again" lets none pass."""
    if not is_clip(file) or get_method(method).needs == "none":
        return
    if (frames := open_clip(file).frames) > SHORT:
        quick = say(visit.language, words.HOW[DEFAULT_METHOD])
        raise UserError(say(visit.language, "clip_long", name=file.name, count=frames, most=SHORT, quick=quick))


def protect_one(
    visit: Visit,
    photo: Path,
    out: Path,
    choices: Choices,
    tell: Callable[[float], None],
    mask: str | Path | None = BY_CHOICE,
    pictured: bool = True,
) -> Protected:
    """Protect one photo or clip into the folder `out`; a mask is taken before the region. Raises UserError.

    `pictured`: whether pictures to look at are made.
    """
    words.check_seed(choices.seed)
    if mask == BY_CHOICE:
        mask = protected_part(visit, choices.region, choices.painted)
    editor = choices.editor if get_method(choices.method).needs != "none" else None
    budget = Linf(words.eps_of(choices.strength))
    settings = ProtectSettings(
        method=choices.method, editor=editor, mask=mask, budget=budget, preset=PRESET, seed=choices.seed,
        force=choices.again, metadata=choices.metadata,
    )  # fmt: skip
    if is_clip(photo):
        if choices.region == words.PAINTED:
            raise UserError(say(visit.language, "paint_clip"))
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


def facts(result: Protected, language: str = ENGLISH) -> str:
    """The figures of one protected photo, in Markdown."""
    report = result.report
    left = report.get("perturbation_left")
    lines = [
        f"**{report['protected']}**",
        say(
            language, "facts", method=report["method"], psnr=f"{report['psnr_db']:.1f}", levels=report["linf_levels"],
            share=f"{report['protected_share']:.0%}", seconds=f"{report['seconds']:.1f}",
        ),
    ]  # fmt: skip
    if left is not None:
        lines.append(say(language, "facts_lossy", left=f"{left:.0%}"))
    if report.get("tells_place"):
        lines.append(say(language, "facts_place"))
    lost = [*report.get("not_taken_along", ()), *report.get("left_out", ())]  # of a clip, of a photo
    for key, what in (("facts_lost", lost), ("facts_converted", report.get("converted"))):
        if what:
            lines.append(say(language, key, what=", ".join(what)))
    return "\n\n".join([*lines, say(language, "measured")])
