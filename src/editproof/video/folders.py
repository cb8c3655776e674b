"""Clips in folders: found like photos, each protected into the same tree; the run goes on after what goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.photo.decoding import SUFFIXES as PICTURES
from editproof.photo.moving import is_animated
from editproof.protection.folders import find
from editproof.protection.settings import ProtectSettings
from editproof.video.protect import NothingToDo, protect_clip
from editproof.video.reading import SUFFIXES


def clips_in(inputs: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """The clips in those of the inputs that are folders, pictures that move among them, with the folder that each
    one's result belongs in."""
    named = {path for path in inputs if not path.is_dir()}
    found = [pair for pair in find(inputs, out, (*SUFFIXES, *PICTURES)) if pair[0] not in named]
    found = [pair for pair in found if not pair[0].is_dir()]  # but pipes and broken links, which are to be told
    return [pair for pair in found if pair[0].suffix.lower() in SUFFIXES or is_animated(pair[0])]


def protect_clips(
    clips: Sequence[tuple[Path, Path]],
    settings: ProtectSettings,
    *,
    overwrite: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    progress: Callable[[Path, float], None] = lambda clip, share: None,
) -> Iterator[dict[str, Any]]:
    """Protect clips, each into its folder (see clips_in and protect_clip).

    Yields each report, {"photo", "skipped"} of those that are done or protected already, {"photo", "error"} of those
    that failed. `progress` is told of which clip which share is done. Raises OSError for a disk that is full.
    """
    for clip, folder in clips:
        try:
            yield protect_clip(
                clip, folder, settings, overwrite=overwrite, codec=codec, crf=crf,
                progress=lambda share, clip=clip: progress(clip, share),  # type: ignore[misc]
            )  # fmt: skip
        except NothingToDo as nothing:
            yield {"photo": str(clip), "skipped": nothing.reason}
        except UserError as error:
            named = str(error) if str(clip) in str(error) else f"clip '{clip}': {error}"
            yield {"photo": str(clip), "error": named}
