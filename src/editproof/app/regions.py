"""Which part of a photo is protected, and which part the attacker repaints, as mask files."""

from importlib import import_module
from pathlib import Path
from typing import Any

from editproof.app import pictures, words
from editproof.app.visits import Visit
from editproof.bench_data import centred_mask
from editproof.errors import UserError
from editproof.photo import open_photo

PAINT_FIRST = "Nothing is painted yet: paint over what is to be protected, or choose another part"


def protected_part(visit: Visit, photo: Path, region: str, painted: Any = None) -> tuple[Path | None, str]:
    """The mask file (None: the whole photo is protected) for one of words.REGIONS, and what to say of it.

    Raises UserError where nothing is painted.
    """
    if region == words.WHOLE:
        return None, "The whole photo is protected."
    if region == words.PERSON:
        return _people(visit, photo)
    if region != words.PAINTED:
        raise UserError(f"part '{region}' is unknown; allowed: {', '.join(words.REGIONS)}")
    path = visit.new_folder() / "painted.png"
    if not pictures.painted_mask(painted, path):
        raise UserError(PAINT_FIRST)
    return path, "What you painted is protected."


def repainted_part(visit: Visit, photo: Path, region: str) -> tuple[Path, str]:
    """The mask file of what the attacker repaints, for one of words.ATTACKED, and what to say of it."""
    said = ""
    if region == words.PERSON:
        mask, said = _people(visit, photo)
        if mask is not None:
            return mask, said
        said += " So the middle of the photo is kept."
    key = photo, words.MIDDLE
    if key not in visit.masks:
        path = visit.new_folder() / "middle.png"
        pictures.save_mask(centred_mask(open_photo(photo).size)[None], path)
        visit.masks[key] = path, ""
    return visit.masks[key][0], said


def _people(visit: Visit, photo: Path) -> tuple[Path | None, str]:
    """Found once for each photo."""
    key = photo, words.PERSON
    if key not in visit.masks:
        mask, said = import_module("editproof.people").auto_mask(open_photo(photo).pixels)
        path = None if mask is None else visit.new_folder() / "people.png"
        if mask is not None and path is not None:
            pictures.save_mask(mask, path)
        visit.masks[key] = path, said
    return visit.masks[key]
