"""The formats a protected photo can be written in, each with its metadata."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editproof.errors import UserError
from editproof.files import atomic
from editproof.photo import png, tiff
from editproof.photo.decoding import opened, quiet
from editproof.photo.reading import Photo, is_grey, to_levels, with_alpha
from editproof.photo.xmp import mark

QUALITY = 95
SAME = "same"  # as a format: the one that a photo came in


def write_png(file: IO[bytes], pixels: np.ndarray, photo: Photo, quality: int) -> None:
    png.write(file, pixels, icc=photo.icc, exif=photo.exif, xmp=mark(photo.xmp), dpi=photo.dpi)


def write_webp(file: IO[bytes], pixels: np.ndarray, photo: Photo, quality: int) -> None:
    settings = {"lossless": True, "exact": True, "quality": 0, "method": 0}  # of effort; pixels stay what they are
    _picture(pixels).save(file, format="WEBP", **settings, **_metadata(photo))


def write_tiff(file: IO[bytes], pixels: np.ndarray, photo: Photo, quality: int) -> None:
    tiff.write(file, pixels, icc=photo.icc, exif=photo.exif, xmp=mark(photo.xmp), dpi=photo.dpi)


def write_avif(file: IO[bytes], pixels: np.ndarray, photo: Photo, quality: int) -> None:
    settings = {"quality": quality, "subsampling": "4:0:0" if pixels.shape[-1] < 3 else "4:4:4", "speed": 8}
    _picture(pixels).save(file, format="AVIF", **settings, **_metadata(photo))


def write_jpeg(file: IO[bytes], pixels: np.ndarray, photo: Photo, quality: int, subsampling: str = "4:4:4") -> None:
    metadata = _metadata(photo)
    if "exif" in metadata:
        metadata["exif"] = b"Exif\0\0" + metadata["exif"]
    dpi: dict[str, Any] = {} if photo.dpi is None else {"dpi": photo.dpi}
    opaque = pixels[..., : 1 if pixels.shape[-1] < 3 else 3]  # alpha, which check_format has seen, is 255
    _picture(opaque).save(
        file, format="JPEG", quality=quality, subsampling=subsampling, optimize=True, **metadata, **dpi
    )


def _picture(pixels: np.ndarray) -> Image.Image:
    """Levels (H, W, C) as a picture: grey, grey with alpha, RGB or RGBA."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _metadata(photo: Photo) -> dict[str, Any]:
    found = {"icc_profile": photo.icc, "exif": photo.exif, "xmp": mark(photo.xmp)}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Format:
    """How files of a format end, their media type, how they are written, and what they can hold."""

    suffix: str
    media_type: str
    write: Callable[..., None]
    lossless: bool = True
    alpha: bool = True
    side: int = 20_000  # pixels


FORMATS = {
    "png": Format(".png", "image/png", write_png),
    "webp": Format(".webp", "image/webp", write_webp, side=16_383),
    "tiff": Format(".tif", "image/tiff", write_tiff),
    "avif": Format(".avif", "image/avif", write_avif, lossless=False),
    "jpeg": Format(".jpg", "image/jpeg", write_jpeg, lossless=False, alpha=False),
}


SOURCES = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "TIFF": "tiff", "AVIF": "avif"}


def format_of(path: str | Path, data: bytes | None = None) -> str:
    """The name of the format that a photo file is in, png if that cannot be written here. Raises UserError.

    `data`: as for open_photo.
    """
    with opened(Path(path), "photo", data) as image:
        return SOURCES.get(image.format or "", "png")


def written_as(name: str, photo: Photo) -> str:
    """The format that a photo is written in where `name` is asked for: of SAME its own, png if that cannot be."""
    return SOURCES.get(photo.format, "png") if name == SAME else name


def suffix_of(name: str, path: str | Path, data: bytes | None = None) -> str:
    """How the name of a result of the photo file `path` ends, in a format or SAME. Raises UserError.

    `data`: as for open_photo.
    """
    return FORMATS[format_of(path, data) if name == SAME else name].suffix


def chosen_format(name: str, quality: int | None = None) -> str:
    """The name in FORMATS, or SAME, that is meant by one of them in any case, or by jpg or tif.

    Raises UserError for any other, and for a quality that is none of its.
    """
    if not isinstance(name, str):
        raise UserError(f"format {name!r} is no text; allowed: {', '.join(FORMATS)}, {SAME}")
    name = {"jpg": "jpeg", "tif": "tiff"}.get(name.lower(), name.lower())
    get_format("jpeg" if name == SAME else name, quality)
    return name


def get_format(name: str, quality: int | None = None) -> Format:
    """The format with this name. Raises UserError for another name, and for a quality that it does not have."""
    if name not in FORMATS:
        raise UserError(f"format '{name}' is unknown; allowed: {', '.join(FORMATS)}, {SAME}")
    if quality is not None and FORMATS[name].lossless:
        lossy = ", ".join(n for n, f in FORMATS.items() if not f.lossless)
        raise UserError(f"format '{name}' is lossless, so {quality} is no quality of it; allowed with: {lossy}")
    if quality is not None and (type(quality) is not int or not 1 <= quality <= 100):
        raise UserError(f"quality {quality!r}; allowed: 1 to 100")
    return FORMATS[name]


def check_format(photo: Photo, name: str) -> None:
    """Raise UserError if the format (of SAME the photo's own) cannot hold the photo."""
    name = written_as(name, photo)
    if not FORMATS[name].alpha and photo.alpha is not None and bool((photo.alpha < 255).any()):
        allowed = ", ".join(n for n, f in FORMATS.items() if f.alpha)
        raise UserError(f"photo '{photo.path}' is transparent in places, which {name} cannot hold; allowed: {allowed}")
    if max(photo.size) > FORMATS[name].side:
        raise UserError(
            f"photo '{photo.path}' has {photo.size[1]} x {photo.size[0]} pixels; allowed for {name}: "
            f"{FORMATS[name].side:,} a side"
        )


def encode(levels: Tensor, photo: Photo, name: str, quality: int | None = None, **more: Any) -> io.BytesIO:
    """The file that holds levels (H, W, 3) uint8, the transparency and metadata of `photo`, and the mark.

    A grey photo without a profile of its own has one channel. `more`: for the format's writer.
    """
    file, channels = io.BytesIO(), 1 if photo.grey and photo.icc is None and is_grey(levels) else 3
    pixels = with_alpha(levels, photo.alpha, channels)
    FORMATS[name].write(file, pixels, photo, QUALITY if quality is None else quality, **more)
    return file


def save_photo(path: str | Path, pixels: Any, photo: Photo, *, quality: int | None = None) -> None:
    """Write pixels with the transparency and metadata of a photo, and the mark that says that it is protected.

    The file appears complete or not at all.

    Args:
        path: The file; the end of its name says the format.
        pixels: (3, H, W) in [0, 1], or what else as_images takes.
        photo: Whose transparency and metadata are written.
        quality: Of .avif and .jpg, 1 to 100; None: 95.

    Raises:
        UserError: For another name or size, for pixels that are none, and where the format cannot hold the photo.
    """
    from editproof.photo.given import as_images

    images = as_images(pixels, "pixels")
    if len(images) != 1 or tuple(images.shape[-2:]) != photo.size:
        raise UserError(
            f"pixels are of shape {tuple(getattr(pixels, 'shape', images.shape))}, the photo '{photo.path}' has "
            f"{photo.size[1]} x {photo.size[0]} pixels; allowed: (3, {photo.size[0]}, {photo.size[1]})"
        )
    path = Path(path)
    suffix = {".tiff": ".tif", ".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    names = [name for name, form in FORMATS.items() if form.suffix == suffix]
    if not names:
        allowed = ", ".join(form.suffix for form in FORMATS.values())
        raise UserError(f"output '{path}' has no format that can be written; allowed: a name that ends in {allowed}")
    get_format(names[0], quality)
    check_format(photo, names[0])
    with atomic(path) as file:
        file.write(encode(to_levels(images[0]), photo, names[0], quality).getbuffer())


def decode(file: io.BytesIO) -> Tensor:
    """What a viewer of such a file sees: (H, W, 3) uint8."""
    with quiet(), Image.open(io.BytesIO(file.getvalue())) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))
