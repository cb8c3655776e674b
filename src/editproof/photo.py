"""Reading and writing photo files: orientation, transparency, colour profile, the 8-bit grid, atomic writes."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from editproof.errors import UserError

# Pillow's names; what phones write as MPO opens as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
SIXTEEN_BIT = ("PNG", "PPM")  # with these, Pillow's mode I (32-bit integers) is a 16-bit picture, 0 to 65535
SIDES = (16, 20_000)  # pixels
MAX_PIXELS = 150_000_000


@dataclass(frozen=True)
class Photo:
    """A photo as it is looked at: turned upright, three channels of sRGB or of its own colour profile."""

    path: Path
    pixels: Tensor  # (3, H, W) float32 in [0, 1], on the 8-bit grid
    alpha: Tensor | None = None  # (H, W) uint8, 0 = transparent
    icc: bytes | None = None  # RGB colour profile

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[-2], self.pixels.shape[-1]


def read_image(path: Path, what: str) -> tuple[Image.Image, bytes | None]:
    """A picture file, upright, as an 8-bit RGB or RGBA image, and its RGB colour profile if it has one.

    Everything that can be wrong with the file becomes a UserError that calls it `what` ("photo", "mask").
    """
    allowed = f"allowed: {', '.join(FORMATS)}"
    if not path.exists():
        raise UserError(f"{what} '{path}' does not exist")
    if not path.is_file():
        raise UserError(f"{what} '{path}' is a folder, not a picture; {allowed}")
    if path.stat().st_size == 0:
        raise UserError(f"{what} '{path}' is empty (0 bytes); {allowed}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of size and of odd metadata; the limits here are ours
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, what, *image.size)
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format != "MPO":
                    raise UserError(f"{what} '{path}' has {frames} frames or pages; allowed: one")
                icc = image.info.get("icc_profile")
                if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BIT):
                    raise UserError(
                        f"{what} '{path}' has {image.mode} pixels (32 bits a channel); allowed: 8 or 16 bits"
                    )
                return _eight_bit(ImageOps.exif_transpose(image)), icc if icc and icc[16:20] == b"RGB " else None
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{what} '{path}' is not a picture that can be read; {allowed}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{what} '{path}' is too large; allowed: {_limits()}") from None
    except PermissionError:
        raise UserError(f"{what} '{path}' may not be read by this user") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more
        raise UserError(f"{what} '{path}' is damaged or cut off ({error})".replace("\n", " ")) from None


def _limits() -> str:
    return f"{SIDES[0]} to {SIDES[1]:,} pixels a side and {MAX_PIXELS // 1_000_000} megapixels"


def _check_size(path: Path, what: str, width: int, height: int) -> None:
    if min(width, height) < SIDES[0] or max(width, height) > SIDES[1] or width * height > MAX_PIXELS:
        raise UserError(f"{what} '{path}' has {width} x {height} pixels; allowed: {_limits()}")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would cut off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def check_photo(path: str | Path) -> tuple[int, int]:
    """Decode a photo completely and keep nothing of it but (height, width). Raises UserError if it cannot be used."""
    image, _ = read_image(Path(path), "photo")
    return image.height, image.width


def open_photo(path: str | Path) -> Photo:
    """Read a photo of any supported format, turned upright.

    The RGB colour profile and the transparency are kept; EXIF data, with its unprotected thumbnail, is not.
    Raises UserError if the file is missing, empty, damaged, not a picture, has several frames, or is out of limits.
    """
    path = Path(path)
    image, icc = read_image(path, "photo")
    array = np.array(image)
    pixels = torch.from_numpy(array[..., :3].astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    alpha = torch.from_numpy(array[..., 3].copy()) if array.shape[-1] == 4 else None
    return Photo(path, pixels, alpha, icc)


def save_png(path: str | Path, pixels: Tensor, *, alpha: Tensor | None = None, icc: bytes | None = None) -> None:
    """Write pixels (3, H, W) in [0, 1] as an 8-bit PNG; the file appears complete or not at all."""
    with atomic(path) as file:
        write_png(file, pixels, alpha=alpha, icc=icc)


def write_png(file: IO[bytes], pixels: Tensor, *, alpha: Tensor | None = None, icc: bytes | None = None) -> None:
    """The same into an open file. `alpha` (H, W) uint8 and `icc` as in Photo."""
    array = (pixels.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    if alpha is not None:
        array = np.concatenate([array, alpha.numpy()[..., None]], axis=-1)
    Image.fromarray(array).save(file, format="PNG", icc_profile=icc, compress_level=3)


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A file that takes its name only once it is completely written; on any error or Ctrl-C nothing is left behind."""
    path = Path(path)
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_output(path: Path, overwrite: bool) -> None:
    """Raise UserError unless a file may take this name in a folder that check_folder has passed."""
    if path.is_dir():
        raise UserError(f"output '{path}' is a folder; allowed: the name of a file")
    if path.exists() and not overwrite:
        raise UserError(f"output '{path}' exists; allowed: another --out, or --overwrite")


def check_folder(folder: str | Path) -> None:
    """Raise UserError unless files can be written to `folder`, which need not exist yet. Creates nothing."""
    folder = Path(folder)
    parent = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    if not parent.is_dir():
        raise UserError(f"output folder '{folder}': '{parent}' is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"output folder '{folder}' cannot be written to; allowed: a folder this user may write to")
