"""What is done with a damaged file, and what counts as a fault of editproof."""

import contextlib
import io
import time
import traceback
from pathlib import Path

import torch
from PIL import Image

from editproof.errors import UserError
from editproof.photo.exif import clean_exif
from editproof.photo.formats import FORMATS, check_format, decode, encode
from editproof.photo.masks import read_mask
from editproof.photo.reading import Photo, open_photo
from editproof.photo.xmp import clean_xmp, is_marked
from editproof.video.reading import is_clip, open_clip
from fuzz import seeds

SECONDS = 20  # of the processor, for one small file
LOSSLESS = [name for name, form in FORMATS.items() if form.lossless]


def fault(number: int, folder: Path) -> str | None:
    """What editproof does wrong with the damaged file of this number; None if nothing.

    Args:
        number: of the file, see `seeds.damaged`.
        folder: where the file is written.

    Returns:
        A traceback, or a sentence on a hang, a leak or a result that is not right; one line for the user is right.
    """
    name, data = seeds.damaged(number)
    started = time.process_time()
    path = folder / name
    path.write_bytes(data)
    try:
        said = _try(path, number)
    except Exception:  # whatever it is: it should have been a UserError
        said = traceback.format_exc()
    finally:
        path.unlink(missing_ok=True)
    used = time.process_time() - started
    return said or (f"{used:.0f} s of the processor" if used > SECONDS else None)


def _try(path: Path, number: int) -> str | None:
    if is_clip(path):
        with contextlib.suppress(UserError):
            open_clip(path)
        return None
    with contextlib.suppress(UserError):
        read_mask(path)
    try:
        photo = open_photo(path)
        check_format(photo, LOSSLESS[number % len(LOSSLESS)])
    except UserError as error:
        return f"two lines: {error}" if "\n" in str(error) else None
    return _check_result(photo, LOSSLESS[number % len(LOSSLESS)])


def _check_result(photo: Photo, name: str) -> str | None:
    """A result that is written as `protect` writes it: whole, within size, without previews, marked."""
    change = (torch.arange(photo.levels.shape[1]) % 3).to(torch.uint8)[:, None]
    levels = photo.levels.clamp(max=250) + change
    if photo.grey:
        levels[..., 1:] = levels[..., :1]
    file = encode(levels, photo, name)
    if not torch.equal(decode(file), levels):
        return f"{name}: other pixels than were written"
    content = file.getvalue()
    if any(window in content for window in seeds.preview_windows()):
        return f"{name}: a preview in the result"
    again = open_photo("again", content)
    if not again.marked:
        return f"{name}: the mark is missing"
    if clean_xmp(photo.xmp) != photo.xmp or is_marked(photo.xmp):
        return "XMP that is cleaned twice is another"
    height, width = photo.size
    if clean_exif(photo.exif, width, height) != photo.exif:
        return "EXIF that is cleaned twice is another"
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        image.getexif()
    return None
