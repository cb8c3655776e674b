"""Which part of a photo is protected, and which part the attacker repaints, as mask files."""

from pathlib import Path
from typing import Any

from torch import Tensor

from editproof.app import pictures, words
from editproof.app.texts import say
from editproof.app.visits import Visit
from editproof.bench.data import centred_mask
from editproof.errors import UserError
from editproof.photo.masks import AUTO, found_mask
from editproof.photo.reading import Photo, open_photo
from editproof.protection.apply import DEFAULT_METHOD, size_to_work_at


def protected_part(visit: Visit, region: str, painted: Any = None) -> str | Path | None:
    """What protect_photos is told of the mask for one of words.REGIONS. Raises UserError where nothing is painted."""
    if region not in words.REGIONS:
        raise UserError(f"part '{region}' is unknown; allowed: {', '.join(words.REGIONS)}")
    if region != words.PAINTED:
        return AUTO if region == words.PERSON else None
    path = visit.new_folder() / "painted.png"
    if not pictures.painted_mask(painted, path):
        raise UserError(say(visit.language, "paint_first"))
    return path


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def people(photo: Photo) -> tuple[Tensor | None, str]:
    """What the automatic mask is (None: everything is protected), and a sentence on who was found."""
    mask, found = found_mask(photo, size_to_work_at(DEFAULT_METHOD, None, {}, photo.size))
    return mask, sentence(found)


def repainted_part(visit: Visit, photo: Path, region: str) -> tuple[Path, str]:
    """The mask file of what the attacker repaints, for one of words.ATTACKED; what to say where nobody was found."""
    key = photo, region
    if key not in visit.masks:
        opened, path = open_photo(photo), visit.new_folder() / f"{region}.png"
        mask = people(opened)[0] if region == words.PERSON else None
        said = say(visit.language, "edit_nobody") if mask is None and region == words.PERSON else ""
        if mask is None:
            mask = centred_mask(opened.size)[None]
        pictures.save_mask(mask, path)
        visit.masks[key] = path, said
    return visit.masks[key]
