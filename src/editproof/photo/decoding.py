"""Reading picture files of any kind: what is wrong with a file becomes one line, its colours become 8-bit RGB."""

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

from editproof.errors import UserError
from editproof.freed import give_back
from editproof.photo import png, profiles, raw, tiff
from editproof.photo.colour import COLOURS, Said, of_chunks, of_numbers

# Pillow's names; what phones write as MPO opens as JPEG. HEIF is pillow-heif's.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"),
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".apng"),
)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SIXTEEN_BIT = ("PNG", "PPM")  # with these, Pillow's mode I (32-bit integers) is a 16-bit picture, 0 to 65535
SIDES = (16, 20_000)  # pixels
MAX_PIXELS = 150_000_000
LARGEST_FILE = 2_000_000_000  # bytes: 150 megapixels of 16 bits with alpha, uncompressed, and as much again
EMPTY_FROM, EMPTIEST = 16_000_000, 500  # a photo of more pixels has a byte for every 500 of them
SCANS, SCANNED = 20, 500_000_000  # of a JPEG, that are always read; more if all their pixels are no more than these
MOST_BOXES = 1_000_000  # bytes of an AVIF in which its colours are looked for
EXIF_STARTS = (b"II*\0", b"MM\0*")  # one of which is in an EXIF block that can be read
XMP_TAG = 700  # of a TIFF
Turn = Image.Transpose
TURNS = {  # EXIF's orientation: what makes a picture upright
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
SWITCHES = ((ImageFile, "LOAD_TRUNCATED_IMAGES", False), (Image, "MAX_IMAGE_PIXELS", 89_478_485))  # as Pillow has them
ALLOWED = f"allowed: {', '.join(FORMATS)}, HEIC"
LIMITS = f"{SIDES[0]} to {SIDES[1]:,} pixels a side and {MAX_PIXELS // 1_000_000} megapixels"


@contextlib.contextmanager
def opened(path: Path, what: str, data: bytes | None = None) -> Iterator[ImageFile.ImageFile]:
    """A picture file of one frame within the limits, not decoded yet.

    With `data`, the content of a file, nothing is read from the disk: `path` is only what messages call it. Everything
    that can be wrong with the file, also while it is decoded inside the `with`, becomes a UserError that calls it
    `what` ("photo", "mask").
    """
    try:
        with (
            _file(path, what, data) as file,
            quiet(),
            _open(file, _formats(path, what, file)) as image,
        ):
            width, height = image.size
            if image.format == "TIFF":
                image.info.pop("xmp", None)  # or Pillow turns the picture as it says (see xmp_of)
            if min(width, height) < SIDES[0] or max(width, height) > SIDES[1] or width * height > MAX_PIXELS:
                raise UserError(f"{what} '{path}' has {width} x {height} pixels; allowed: {LIMITS}")
            give_back(width * height)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise UserError(f"{what} '{path}' has {frames} frames or pages; allowed: one")
            if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BIT):
                raise UserError(f"{what} '{path}' has {image.mode} pixels (32 bits a channel); allowed: 8 or 16 bits")
            if what == "photo":
                _check_content(path, image, file)
            image.info[COLOURS] = colours_of(image, file, f"{what} '{path}'")
            yield image
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UserError(f"{what} '{path}' is not a picture that can be read; {ALLOWED}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{what} '{path}' is too large; allowed: {LIMITS}") from None
    except PermissionError:
        raise UserError(f"{what} '{path}' may not be read by this user") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more
        raise UserError(f"{what} '{path}' is damaged or cut off ({' '.join(str(error).split())})") from None


def _file(path: Path, what: str, data: bytes | None) -> IO[bytes]:
    """The file, open, or its content as one. Raises UserError and OSError."""
    if data is not None:
        return io.BytesIO(data)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{what} '{path}' does not exist") from None
    if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise PermissionError
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise UserError(f"{what} '{path}' is {kind}, not a picture; {ALLOWED}")
    return path.open("rb")


def _beginning(file: IO[bytes], size: int = 64) -> bytes:
    file.seek(0)
    return file.read(size)


def _formats(path: Path, what: str, file: IO[bytes]) -> tuple[str, ...]:
    """The formats to try for a file. Raises UserError if it is empty, a raw photo, or needs an extra."""
    beginning = _beginning(file)
    if not beginning:
        raise UserError(f"{what} '{path}' is empty (0 bytes); {ALLOWED}")
    if (size := file.seek(0, io.SEEK_END)) > LARGEST_FILE:
        raise UserError(f"{what} '{path}' has {size:,} bytes; allowed: {LARGEST_FILE:,}")
    kind = raw.raw_kind(path, file)
    if kind is not None:
        raise UserError(
            f"{what} '{path}' is a raw photo ({kind}), of which only a preview could be read; {raw.ALLOWED}"
        )
    if beginning[:2] in (b"II", b"MM"):
        tiff.check_directories(file, f"{what} '{path}'")
    if beginning[4:8] != b"ftyp" or beginning[8:12] not in HEIF_BRANDS or b"avif" in beginning:
        return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UserError(
            f"{what} '{path}' is HEIC, which needs an extra; allowed: pip install 'editproof[heic]'"
        ) from None
    register_heif_opener(thumbnails=False)
    return (*FORMATS, "HEIF")


def _open(file: IO[bytes], formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """The picture, without what would keep a healthy one from being read: texts with names of Pillow's own in a PNG,
    EXIF that cannot be read in an AVIF."""
    beginning = _beginning(file)
    if beginning.startswith(png.SIGNATURE) and png.look(file)[1]:
        return Image.open(png.without_reserved_texts(file), formats=formats)
    if b"avif" in beginning:
        file.seek(0)
        boxes, mdat, rest = file.read().partition(b"mdat")
        if b"Exif" in boxes and not any(start in rest for start in EXIF_STARTS):
            image = Image.open(io.BytesIO(boxes.replace(b"Exif", b"skip") + mdat + rest), formats=formats)
            image.info.setdefault("exif", b"damaged")  # so that it is said
            return image
    file.seek(0)
    return Image.open(file, formats=formats)


def _check_content(path: Path, image: ImageFile.ImageFile, file: IO[bytes]) -> None:
    """Raise UserError for a photo that takes far longer to read, or far more memory, than a file of its size should."""
    pixels, size, scans = image.width * image.height, file.seek(0, io.SEEK_END), 0
    if pixels > EMPTY_FROM and size * EMPTIEST < pixels:
        raise UserError(
            f"photo '{path}' has {pixels // 1_000_000} megapixels in {size:,} bytes, so next to nothing is in it; "
            f"allowed above {EMPTY_FROM // 1_000_000} megapixels: a byte for every {EMPTIEST} pixels"
        )
    if image.format in ("JPEG", "MPO"):
        here = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(here)
    if scans > SCANS and scans * pixels > SCANNED:
        raise UserError(
            f"photo '{path}' is a JPEG of {scans} scans, which would take very long to read; allowed at its size: "
            f"{max(SCANS, SCANNED // pixels)}"
        )


def exif_of(image: Image.Image) -> bytes | None:
    """The EXIF block of an opened picture, wherever its format has it; damaged ones, too."""
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return block
    try:
        if image.format == "TIFF":  # whose orientation Pillow has applied, from its own tag only
            return image.getexif().tobytes()
        hexadecimal = "".join(image.info["Raw profile type exif"].split("\n")[3:])  # as ImageMagick writes it in PNG
        return bytes.fromhex(hexadecimal)
    except Exception:  # a damaged block; Pillow's writer raises many kinds
        return None


def xmp_of(image: Image.Image) -> bytes | str | None:
    """The XMP packet of an opened picture."""
    tag = getattr(image, "tag_v2", {}).get(XMP_TAG) if image.format == "TIFF" else None
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or tag
    return packet if isinstance(packet, bytes | str) else None


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as it is looked at; `orientation` as EXIF has it. XMP's is no other viewer's business either."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def colours_of(image: Image.Image, file: IO[bytes], name: str) -> Said:
    """What a file says of its colours beside a profile. Raises UserError for what results cannot hold."""
    if image.format == "TIFF":
        return tiff.colours(image, name)
    if image.format in ("JPEG2000", "BMP") and (profile := profiles.beside(file)):
        image.info.setdefault("icc_profile", profile)
    if image.format == "PNG":
        found, _ = png.look(file)
        _scale_key(image, found.get(b"IHDR", b""), name)
        if len(found.get(b"cICP", b"")) == 4:
            return of_numbers(found[b"cICP"][0], found[b"cICP"][1], name)
        if b"sRGB" in found:
            return Said()
        gamma, points = (_hundred_thousandths(found.get(kind, b"")) for kind in (b"gAMA", b"cHRM"))
        return of_chunks(gamma[0] if len(gamma) == 1 else None, points if len(points) == 8 else None)
    numbers = image.info.get("nclx_profile")
    if image.format == "HEIF" and isinstance(numbers, dict):
        primaries, transfer = numbers.get("color_primaries", 2), numbers.get("transfer_characteristics", 2)
        return replace(of_numbers(int(primaries), int(transfer), name), before_profile=False)
    if image.format == "AVIF":
        start = _beginning(file, MOST_BOXES)
        at = start.find(b"colrnclx")
        if at >= 0 and at + 12 <= len(start):
            primaries, transfer = struct.unpack(">HH", start[at + 8 : at + 12])
            return replace(of_numbers(primaries, transfer, name), before_profile=False)
    return Said()


def _scale_key(image: Image.Image, header: bytes, name: str) -> None:
    """Bring the colour of a PNG that is transparent, which Pillow gives as it is in the file, to 8 bits as the pixels
    are. Raises UserError where it needs 16 bits, which Pillow cuts off colours."""
    key, depth = image.info.get("transparency"), header[8] if len(header) == 13 else 8
    if isinstance(key, int) and depth in (2, 4):
        image.info["transparency"] = key * (255 // (2**depth - 1))
    if isinstance(key, tuple) and depth == 16:
        raise UserError(
            f"{name} has 16 bits a channel and a colour that is transparent; allowed: an alpha channel, or 8 bits"
        )


def _hundred_thousandths(data: bytes) -> tuple[float, ...]:
    return tuple(x / 100_000 for x in struct.unpack(f">{len(data) // 4}I", data[: len(data) // 4 * 4]))


_readers, _lock = contextlib.ExitStack(), threading.Lock()
_reading = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings of size and of odd metadata (the limits here are ours), in any number of threads.

    And with Pillow's own switches: a program that lets it fill up cut photos with grey must not have half a photo
    protected.

    Both belong to the whole process: the first reader sets them, the last one puts them back.
    """
    global _reading
    with _lock:
        if _reading == 0:
            _readers.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for module, name, value in SWITCHES:
                _readers.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, value)
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if _reading == 0:
                _readers.close()
