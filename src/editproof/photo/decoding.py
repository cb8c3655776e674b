"""Reading picture files of any kind: what is wrong with a file becomes one line, its colours become 8-bit RGB."""

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps

from editproof.errors import UserError

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
        formats = _formats(path, what, data)
        with _quiet(), Image.open(path if data is None else io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if min(width, height) < SIDES[0] or max(width, height) > SIDES[1] or width * height > MAX_PIXELS:
                raise UserError(f"{what} '{path}' has {width} x {height} pixels; allowed: {LIMITS}")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise UserError(f"{what} '{path}' has {frames} frames or pages; allowed: one")
            if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BIT):
                raise UserError(f"{what} '{path}' has {image.mode} pixels (32 bits a channel); allowed: 8 or 16 bits")
            yield image
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{what} '{path}' is not a picture that can be read; {ALLOWED}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{what} '{path}' is too large; allowed: {LIMITS}") from None
    except PermissionError:
        raise UserError(f"{what} '{path}' may not be read by this user") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more
        raise UserError(f"{what} '{path}' is damaged or cut off ({' '.join(str(error).split())})") from None


def _formats(path: Path, what: str, data: bytes | None) -> tuple[str, ...]:
    """The formats to try for a file that can be opened and is not empty. Raises UserError and OSError."""
    beginning = _beginning(path, what) if data is None else data[:64]
    if not beginning:
        raise UserError(f"{what} '{path}' is empty (0 bytes); {ALLOWED}")
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


def _beginning(path: Path, what: str) -> bytes:
    """The first bytes of a file on the disk. Raises UserError and OSError."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{what} '{path}' does not exist") from None
    if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise PermissionError
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise UserError(f"{what} '{path}' is {kind}, not a picture; {ALLOWED}")
    with path.open("rb") as file:
        return file.read(64)


def read_image(path: Path, what: str, data: bytes | None = None) -> tuple[Image.Image, bytes | None]:
    """A picture file, upright, as an 8-bit RGB or RGBA image, and its RGB colour profile. Raises UserError.

    `data`: as for opened.
    """
    with opened(path, what, data) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> tuple[Image.Image, bytes | None]:
    """An opened picture, upright, as 8-bit RGB or RGBA, and its RGB colour profile.

    Pictures in CMYK, Lab, or grey with a profile of their own become sRGB by way of their profile.
    """
    profile = image.info.get("icc_profile") or b""
    space = profile[16:20] if profile[36:40] == b"acsp" and _whole(profile) else b""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would cut off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8))
    if image.mode == "LAB" or (image.mode, space) in (("CMYK", b"CMYK"), ("L", b"GRAY"), ("LA", b"GRAY")):
        return _by_profile(image, profile), None
    return image.convert("RGBA" if image.has_transparency_data else "RGB"), profile if space == b"RGB " else None


def _whole(profile: bytes) -> bool:
    return 128 < int.from_bytes(profile[:4], "big") <= len(profile)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """RGB (RGBA) in sRGB; where the profile cannot be used, as Pillow converts without one."""
    alpha = image.getchannel("A") if image.mode == "LA" else None
    colours = image.convert("L") if alpha is not None else image
    try:
        source = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None
    except (ImageCms.PyCMSError, OSError):
        converted = colours.convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


_readers, _lock = contextlib.ExitStack(), threading.Lock()
_reading = 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of size and of odd metadata (the limits here are ours), in any number of threads.

    Filters belong to the whole process: the first reader sets them, the last one puts them back.
    """
    global _reading
    with _lock:
        if _reading == 0:
            _readers.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if _reading == 0:
                _readers.close()
