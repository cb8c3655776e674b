"""What a protected photo no longer holds of its original's file, in words: nothing is left out without a word."""

from collections.abc import Iterator

from PIL import Image

from editproof.photo.captions import TEXT
from editproof.photo.exif import left_out

SIGNS = {  # bytes of a file: what they stand for
    b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71": "Content Credentials",  # C2PA 2.2: a manifest store's UUID
    b"urn:iso:std:iso:ts:21496": "a gain map",
    b"http://ns.adobe.com/hdr-gain-map/": "a gain map",
    b"http://ns.apple.com/HDRGainMap/": "a gain map",
    b"urn:com:apple:photo:2020:aux:hdrgainmap": "a gain map",
    b"http://ns.google.com/photos/1.0/depthmap/": "a depth map",
    b"urn:mpeg:hevc:2015:auxid:2": "a depth map",
    b"urn:com:apple:photo:2018:aux:portraiteffectsmatte": "a depth map",
    b"http://ns.google.com/photos/1.0/camera/": "a motion photo's clip",
    b"http://ns.adobe.com/xap/1.0/g/img/": "a preview in XMP",
    b"http://ns.adobe.com/xmp/extension/": "extended XMP",
    b"Photoshop 3.0\0": "Photoshop's resources",
}
DIRECTORIES = {330: "further pictures", 34377: "Photoshop's resources", 37724: "Photoshop's layers"}  # tags of a TIFF
OWN_TEXTS = {*TEXT, "XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type xmp", "Raw profile type iptc"}


def removed(image: Image.Image, content: bytes, exif: bytes | None, packet: object, xmp: bytes | None) -> list[str]:
    """What is not kept of a picture that has been decoded, each kind once.

    Args:
        image: the picture.
        content: the bytes of its file.
        exif: its EXIF block, as it was.
        packet: its XMP packet, as it was.
        xmp: what is kept of that.
    """
    return list(dict.fromkeys(_all(image, content, exif, packet, xmp)))


def _all(image: Image.Image, content: bytes, exif: bytes | None, packet: object, xmp: bytes | None) -> Iterator[str]:
    yield from left_out(exif)
    yield from (what for sign, what in SIGNS.items() if content.find(sign) >= 0)
    if image.format == "MPO":
        yield "further pictures"
    if image.format == "TIFF":
        yield from (what for tag, what in DIRECTORIES.items() if tag in getattr(image, "tag_v2", {}))
    if image.format == "HEIF":
        yield from (
            what
            for key, what in (("thumbnails", "previews"), ("depth_images", "a depth map"), ("aux", "further pictures"))
            if image.info.get(key)
        )
    if packet and xmp is None:
        yield "XMP that says nothing of the photo, or cannot be read"
    if image.format == "PNG":
        texts = sorted(name for name in getattr(image, "text", {}) if name not in OWN_TEXTS)
        if texts:
            yield f"PNG texts ({', '.join(name[:20] for name in texts[:3])}{', ...' if len(texts) > 3 else ''})"
