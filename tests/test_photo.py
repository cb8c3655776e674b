"""Photo files: what is read, what is kept, what is refused, and that files are written whole."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from editproof.errors import UserError
from editproof.photo.reading import open_photo, peek, save_png

HEIGHT, WIDTH = 24, 40


def gradient() -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows * 10, columns * 6, 255 - rows * 5], -1).astype(np.uint8)


def picture(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(gradient()).convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def animation() -> bytes:
    file = io.BytesIO()
    frames = [picture("RGB"), picture("L").convert("RGB")]
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def cut_off() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, format="JPEG")
    return file.getvalue()[: len(file.getvalue()) // 2]


def deep(mode: str, kind: str = "TIFF") -> bytes:
    """A picture of 32 bits a channel."""
    file = io.BytesIO()
    Image.fromarray(gradient()[..., 0].astype({"F": np.float32, "I": np.int32}[mode])).save(file, format=kind)
    return file.getvalue()


BAD_FILES = {
    "float.tiff": (deep("F"), "F pixels"),
    "int.tiff": (deep("I"), "I pixels"),
    "float.pfm": (deep("F", "PPM"), "F pixels"),
    "text.jpg": (b"this is not a picture", "not a picture"),
    "empty.png": (b"", "0 bytes"),
    "cut.jpg": (cut_off(), "damaged or cut off"),
    "bomb.png": (png_header(50_000, 50_000), "too large"),
    "wide.png": (png_header(30_000, 100), "30000 x 100"),
    "speck.png": (png_header(3, 3), "3 x 3"),
    "animated.gif": (animation(), "2 frames"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, said = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        open_photo(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("mode", "suffix", "alpha"), [
    ("RGB", "png", False), ("RGB", "bmp", False), ("RGB", "tiff", False), ("RGBA", "png", True), ("L", "png", False),
    ("LA", "png", True), ("P", "gif", False), ("1", "png", False), ("CMYK", "jpg", False), ("I;16", "png", False),
])  # fmt: skip
def test_modes(mode: str, suffix: str, alpha: bool, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    picture(mode).save(path)
    opened = open_photo(path)
    assert opened.pixels.shape == (3, HEIGHT, WIDTH)
    assert opened.size == peek(path)[0] == (HEIGHT, WIDTH)
    assert opened.pixels.dtype == torch.float32
    assert (opened.alpha is not None) == alpha
    grey = mode in ("L", "LA", "1", "I;16")
    expected = gradient()[..., :1] if mode == "I;16" else np.array(picture(mode).convert("L" if grey else "RGB"))
    expected = np.broadcast_to(expected.reshape(HEIGHT, WIDTH, -1), (HEIGHT, WIDTH, 3))
    difference = np.abs((opened.pixels.permute(1, 2, 0) * 255).numpy() - expected)
    assert difference.max() <= (12 if suffix == "jpg" else 0.001)


def test_sixteen_bits_as_older_pillows_and_pgm_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow before 11 opens 16-bit PNGs in mode I, as all do with PGM."""
    array = gradient()[..., 0].astype(np.uint16) * 257
    (tmp_path / "photo.pgm").write_bytes(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + array.astype(">u2").tobytes())
    Image.fromarray(array).save(tmp_path / "photo.png")
    opened = Image.open

    def older(path: Path, **settings: object) -> Image.Image:
        image = opened(path, **settings)  # type: ignore[arg-type]
        if image.mode.startswith("I;16"):
            image.load()
            image.im, image._mode = Image.fromarray(array.astype(np.int32)).im, "I"
        assert image.mode == "I"
        return image

    monkeypatch.setattr(Image, "open", older)
    for name in ("photo.pgm", "photo.png"):
        assert torch.equal((open_photo(tmp_path / name).pixels[1] * 255).round(), torch.from_numpy(gradient()[..., 0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_exif_is_not_carried_over(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a secret place"
    Image.fromarray(gradient()).save(tmp_path / "turned.png", exif=exif)
    opened = open_photo(tmp_path / "turned.png")
    transposed = np.swapaxes(gradient(), 0, 1) if orientation >= 5 else gradient()
    flips = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}[orientation]
    expected = np.flip(transposed, flips)
    assert opened.size == peek(tmp_path / "turned.png")[0] == expected.shape[:2]
    assert np.array_equal((opened.pixels.permute(1, 2, 0) * 255).round().numpy(), expected)
    save_png(tmp_path / "saved.png", opened.pixels, alpha=opened.alpha, icc=opened.icc)
    assert b"secret" not in (tmp_path / "saved.png").read_bytes()
    assert not Image.open(tmp_path / "saved.png").getexif()


def test_rgb_profile_and_transparency_survive_and_a_grey_profile_does_not(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture("RGBA").save(tmp_path / "rgba.png", icc_profile=profile)
    opened = open_photo(tmp_path / "rgba.png")
    alpha = torch.arange(HEIGHT * WIDTH, dtype=torch.uint8).reshape(HEIGHT, WIDTH)
    save_png(tmp_path / "saved.png", opened.pixels, alpha=alpha, icc=opened.icc)
    again = open_photo(tmp_path / "saved.png")
    assert again.icc == profile
    assert again.alpha is not None
    assert torch.equal(again.alpha, alpha)
    assert torch.equal(again.pixels, opened.pixels)
    picture("L").save(tmp_path / "grey.png", icc_profile=profile[:16] + b"GRAY" + profile[20:])
    assert open_photo(tmp_path / "grey.png").icc is None


def test_saved_is_what_was_given(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 30, 20), generator=torch.Generator().manual_seed(0)) / 255
    save_png(tmp_path / "new" / "folder" / "a.png", pixels)
    assert torch.equal(open_photo(tmp_path / "new" / "folder" / "a.png").pixels, pixels)
