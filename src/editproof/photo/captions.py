"""What IPTC records and PNG's text chunks say of a photo, as XMP properties: every output format can hold those."""

from typing import Any

from PIL import ImageFile, IptcImagePlugin

from editproof.photo.prose import reads_as_text
from editproof.photo.xmp import DC, EXIF, PHOTOSHOP, Captions

IPTC = {  # record and data set of IPTC-IIM 4.2: XMP property, as in IPTC's mapping
    (2, 5): (DC, "title"),
    (2, 25): (DC, "subject"),
    (2, 40): (PHOTOSHOP, "Instructions"),
    (2, 80): (DC, "creator"),
    (2, 90): (PHOTOSHOP, "City"),
    (2, 95): (PHOTOSHOP, "State"),
    (2, 101): (PHOTOSHOP, "Country"),
    (2, 105): (PHOTOSHOP, "Headline"),
    (2, 110): (PHOTOSHOP, "Credit"),
    (2, 115): (PHOTOSHOP, "Source"),
    (2, 116): (DC, "rights"),
    (2, 120): (DC, "description"),
}
TEXT = {  # keyword of a PNG's text chunk, or Pillow's name for a JPEG's comment: XMP property
    "Title": (DC, "title"),
    "Author": (DC, "creator"),
    "Description": (DC, "description"),
    "Copyright": (DC, "rights"),
    "Comment": (EXIF, "UserComment"),
    "comment": (EXIF, "UserComment"),
}


def read_captions(image: ImageFile.ImageFile) -> Captions:
    """The texts of an open picture; never raises."""
    captions: dict[tuple[str, str], str | list[str]] = {}
    try:
        records: dict[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}
    except Exception:  # a damaged record; Pillow's parser raises many kinds
        records = {}
    for record, name in IPTC.items():
        values = records.get(record, [])
        add(captions, name, values if isinstance(values, list) else [values])
    for keyword, name in TEXT.items():
        if keyword in image.info:
            add(captions, name, [image.info[keyword]])
    return captions


def add(captions: dict[tuple[str, str], str | list[str]], name: tuple[str, str], values: list[Any]) -> None:
    """Keep the values that are texts (see prose); the first to come for a name stays."""
    texts = [_plain(value) for value in values if isinstance(value, str | bytes)]
    texts = [text for text in texts if text and reads_as_text(text)]
    if texts:
        captions.setdefault(name, texts)


def _plain(value: str | bytes) -> str:
    if isinstance(value, str):
        return value.strip("\0 \n")
    for encoding in ("utf-8", "latin-1"):
        try:
            return value.decode(encoding).strip("\0 \n")
        except UnicodeDecodeError:
            continue
    return ""
