"""What `editproof protect` and `edit` do with clips: imports no torch until it runs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from editproof.cli.display import OUT, protected_line
from editproof.errors import UserError
from editproof.files import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from editproof.protection.settings import ProtectSettings


def check_clip_options(
    clips: Sequence[Path],
    photos: Sequence[Path],
    format: str,
    quality: int | None,
    credentials: Path | None,
    codec: str | None,
    crf: int | None,
) -> None:
    """Raise UserError for options of photos where there are only clips, and for those of clips where there is none."""
    if clips and not photos:
        for name, value in (("format", None if format == "png" else format), ("quality", quality)):
            if value is not None:
                raise UserError(f"--{name} '{value}' is for photos; allowed with a clip: --codec, --crf")
    if clips and credentials is not None:
        raise UserError(f"--credentials '{credentials}' is for photos; allowed with a clip: no --credentials")
    for name, setting in (("codec", codec), ("crf", crf)):
        if setting is not None and not clips:
            raise UserError(f"--{name} '{setting}' is for clips; allowed with photos: --format, --quality")


def check_clips(clips: Sequence[Path], photos: Sequence[Path]) -> None:
    """Raise UserError, before any work, for a clip among several inputs that cannot be read or shares its name."""
    from editproof.video.reading import open_clip

    if len(clips) + len(photos) < 2:
        return
    names = [path.stem.casefold() for path in (*clips, *photos) if not path.is_dir()]
    for clip in clips:
        if names.count(clip.stem.casefold()) > 1:
            raise UserError(
                f"clip '{clip}' and another input would both become '{clip.stem}-protected'; allowed: one of a name"
            )
        open_clip(clip)


def show_clip(bar: "Progress", clip: Path, out: Path, settings: "ProtectSettings", **options: Any) -> dict[str, Any]:
    """Protect a clip, its progress on the bar, and print a line about it; returns the report."""
    from editproof.video.protect import protect_clip

    task = bar.add_task(f"protect {escape(printable(clip.name))}", total=1)
    report = protect_clip(clip, out, settings, progress=lambda share: bar.update(task, completed=share), **options)
    OUT.print(f"{protected_line(report, out)}, {report['frames']} frames", markup=False, soft_wrap=True)
    tell_rest(report["not_taken_along"], report["converted"])
    return report


def tell_rest(lost: Sequence[str], converted: Sequence[str]) -> None:
    """Say what a clip lost on its way and what was converted."""
    from editproof.video.report import rest_line

    if line := rest_line(lost, converted):
        OUT.print(line, style="yellow", markup=False, soft_wrap=True)


def show_clips(
    bar: "Progress", clips: Sequence[tuple[Path, Path]], settings: "ProtectSettings", **options: Any
) -> Iterator[dict[str, Any]]:
    """Protect clips of folders, their progress on the bar; yields what became of each, as protect_clips does."""
    from editproof.video.folders import protect_clips

    if not clips:
        return
    task, order = bar.add_task("protect clips", total=len(clips)), {clip: i for i, (clip, _) in enumerate(clips)}
    yield from protect_clips(
        clips, settings, progress=lambda clip, share: bar.update(task, completed=order[clip] + share), **options
    )
    bar.update(task, completed=len(clips))


def tell_of_parts(folders: Iterable[Path]) -> None:
    """Say where the unfinished work of other clips lies: small copies of them, unprotected, are in it."""
    from editproof.files import TEMPORARY

    left = sorted(path for folder in folders for path in folder.glob(f"{TEMPORARY}*.parts"))
    if left:
        said = "unfinished work, with small unprotected copies; the same command goes on from it, or delete it: "
        OUT.print(said + ", ".join(map(str, left)), style="yellow", markup=False, soft_wrap=True)
