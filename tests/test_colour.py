"""Colours that files describe beside a profile, raw photos, and healthy pictures with what Pillow stumbles over."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from editproof.cli.main import main
from editproof.errors import UserError
from editproof.photo import icc
from editproof.photo.colour import PRIMARIES, SRGB
from editproof.photo.reading import Photo, open_photo

P3 = icc.make_profile(PRIMARIES[12])


def png_with(*chunks: bytes) -> bytes:
    return corpus.png(corpus.WIDTH, corpus.HEIGHT, 8, 2, corpus.LINES, *chunks)


def gamma(value: float) -> bytes:
    return corpus.chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def points(chromaticities: tuple[float, ...]) -> bytes:
    return corpus.chunk(b"cHRM", struct.pack(">8I", *(round(x * 100_000) for x in chromaticities)))


def numbers(primaries: int, transfer: int) -> bytes:
    return corpus.chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def profile(data: bytes) -> bytes:
    return corpus.chunk(b"iCCP", b"x\0\0" + zlib.compress(data))


def opened(data: bytes, folder: Path) -> Photo:
    (folder / "a.png").write_bytes(data)
    return open_photo(folder / "a.png")


def in_srgb(photo: Photo) -> np.ndarray:
    """What a viewer that minds profiles shows."""
    image = Image.fromarray(photo.levels.numpy())
    if photo.icc is None:
        return np.asarray(image).astype(int)
    source = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc))
    return np.asarray(ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))).astype(int)


def brightened(exponent: float) -> np.ndarray:
    """The picture whose file's values are linear light to the power of 1 / exponent, as sRGB."""
    linear = (corpus.PIXELS / 255) ** exponent
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(int)


def test_a_gamma_is_converted(tmp_path: Path) -> None:
    for data in (png_with(gamma(1.0)), png_with(numbers(1, 8)), png_with(gamma(1.0), points(SRGB))):
        photo = opened(data, tmp_path)
        assert photo.icc is None
        assert np.abs(photo.levels.numpy() - brightened(1.0)).max() <= 1
    grey = corpus.deep_png(0, corpus.GREY).replace(b"IDAT", b"IDAT", 1)
    with_gamma = grey[:33] + gamma(1.0) + grey[33:]
    assert np.abs(opened(with_gamma, tmp_path).levels.numpy()[..., 1] - brightened(1.0)[..., 1]).max() <= 1


@pytest.mark.parametrize("chunks", [
    (), (gamma(0.45455),), (gamma(0.45455), points(SRGB)), (numbers(1, 13),), (numbers(1, 1),), (numbers(2, 2),),
    (corpus.chunk(b"sRGB", b"\0"), gamma(1.0)), (gamma(0),), (points((0,) * 8),), (points((0.3,) * 8),),
], ids=str)  # fmt: skip
def test_what_means_srgb_or_nothing_changes_nothing(chunks: tuple[bytes, ...], tmp_path: Path) -> None:
    photo = opened(png_with(*chunks), tmp_path)
    assert photo.icc is None
    assert np.array_equal(photo.levels.numpy(), corpus.PIXELS)


@pytest.mark.parametrize("chunks", [
    (numbers(12, 13),), (points(PRIMARIES[12]), gamma(0.45455)), (profile(P3),),
    (numbers(12, 13), profile(corpus.SRGB)),
], ids=["cicp", "points", "profile", "cicp before a profile"])  # fmt: skip
def test_wide_colours_become_a_profile(chunks: tuple[bytes, ...], tmp_path: Path) -> None:
    photo = opened(png_with(*chunks), tmp_path)
    assert np.array_equal(photo.levels.numpy(), corpus.PIXELS)
    expected = Photo(Path("p3"), photo.levels, icc=P3)
    assert np.abs(in_srgb(photo) - in_srgb(expected)).max() <= 1
    assert np.abs(in_srgb(photo) - corpus.PIXELS).max() > 5


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_wide_colours_of_heic_and_avif(kind: str, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / f"a.{kind}"
    if kind == "heic":
        pillow_heif.from_pillow(corpus.RGB).save(
            path, quality=95, chroma=444, color_primaries=12, transfer_characteristics=13, matrix_coefficients=1
        )
    else:
        corpus.RGB.save(path, quality=95, subsampling="4:4:4")
        data = path.read_bytes()
        at = data.index(b"colrnclx") + 8
        path.write_bytes(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    photo = open_photo(path)
    assert photo.icc == P3
    assert main(["protect", str(path), "--out", str(tmp_path / "out"), "--method", "noise"]) == 0
    assert open_photo(tmp_path / "out" / "a-protected.png").icc == P3


@pytest.mark.parametrize(("chunks", "said"), [
    ((numbers(9, 16),), "high dynamic range .PQ"), ((numbers(9, 18),), "high dynamic range .HLG"),
    ((numbers(10, 13),), "primaries 10, transfer 13"), ((numbers(1, 11),), "primaries 1, transfer 11"),
], ids=str)  # fmt: skip
def test_what_results_cannot_hold_is_refused(
    chunks: tuple[bytes, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=said):
        opened(png_with(*chunks), tmp_path)
    assert main(["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_grey_level_that_is_transparent_in_16_bits(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in (corpus.GREY.astype(np.uint16) * 257).astype(">u2"))
    key = corpus.chunk(b"tRNS", struct.pack(">H", int(corpus.GREY[0, 0]) * 257))
    photo = opened(corpus.png(corpus.WIDTH, corpus.HEIGHT, 16, 0, rows, key), tmp_path)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha.numpy() == 0, corpus.GREY[0, 0] == corpus.GREY)


def test_profiles_are_written_anew_and_tables_are_converted(tmp_path: Path) -> None:
    assert icc.clean_profile(corpus.SRGB) == corpus.SRGB
    hidden = [
        corpus.SRGB + corpus.preview(),  # after it
        struct.pack(">I", len(corpus.SRGB) + 900) + corpus.SRGB[4:] + corpus.preview().ljust(900, b"\0"),  # its end
        corpus.SRGB[:100] + corpus.preview()[:28] + corpus.SRGB[128:],  # in what is reserved
        with_tag(corpus.SRGB, b"cprt", b"text\0\0\0\0" + corpus.preview()),
        with_tag(corpus.SRGB, b"prev", b"data\0\0\0\0" + corpus.preview()),
        with_tag(corpus.SRGB, b"desc", b"text\0\0\0\0" + corpus.in_base64().encode()),
    ]
    for data in hidden:
        cleaned = icc.clean_profile(data)
        assert cleaned is not None
        assert len(cleaned) <= len(corpus.SRGB) + 200
        assert not any(form in cleaned for form in corpus.hidden_forms())
        ImageCms.ImageCmsProfile(io.BytesIO(cleaned))
    curve = corpus.preview()[: len(corpus.preview()) // 2 * 2]
    falling = with_tag(corpus.SRGB, b"rTRC", b"curv" + struct.pack(">II", 0, len(curve) // 2) + curve)
    for data in (b"", corpus.SRGB[:40], falling, with_tag(corpus.SRGB, b"A2B0", b"mft2" + bytes(50))):
        assert icc.clean_profile(data) is None
    large = with_tag(corpus.SRGB, b"A2B0", b"mft2" + bytes(2_000_000))
    corpus.RGB.save(tmp_path / "large.jpg", icc_profile=large, quality=95)
    assert open_photo(tmp_path / "large.jpg").icc is None


def with_tag(data: bytes, name: bytes, value: bytes) -> bytes:
    return icc._write(data[:128], {**icc.read_tags(data), name: value})


def with_text(name: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(name, "some text")
    info.add_itxt(name, "more text")
    return corpus.saved(corpus.RGB, "PNG", pnginfo=info)


def text_at_the_end(name: bytes) -> bytes:
    data = corpus.saved(corpus.PALETTE, "PNG", transparency=bytes(range(64)))
    return data[:-12] + corpus.chunk(b"tEXt", name + b"\0text") + data[-12:]


HEALTHY = {
    "bad-exif.png": corpus.saved(corpus.RGB, "PNG", exif=b"Exif\0\0not a tiff header at all"),
    "bad-exif.webp": corpus.saved(corpus.RGB, "WEBP", lossless=True, exif=b"Exif\0\0not a tiff header at all"),
    "bad-exif.jpg": corpus.jpeg(exif=b"Exif\0\0not a tiff header at all"),
    "exif-text.png": with_text("exif"),
    "transparency-text.png": with_text("transparency"),
    "gamma-text.png": with_text("gamma"),
    "icc-text.png": with_text("icc_profile"),
    "transparency-at-the-end.png": text_at_the_end(b"transparency"),
    "profile-hex.png": with_text("Raw profile type exif"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_pictures_are_read_whatever_is_beside_them(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HEALTHY[name])
    photo = open_photo(tmp_path / name)
    assert (photo.alpha is not None) == (name == "transparency-at-the-end.png")
    palette = name == "transparency-at-the-end.png"
    expected = np.asarray(corpus.PALETTE.convert("RGB") if palette else corpus.RGB)
    assert np.abs(photo.levels.numpy().astype(int) - expected).max() <= (3 if name.endswith("jpg") else 0)


def dng(path: Path) -> None:
    tifffile.imwrite(path, corpus.PIXELS, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])


def nef(path: Path) -> None:
    """A preview first, and below it what the sensor saw."""
    with tifffile.TiffWriter(path) as file:
        file.write(corpus.PIXELS, photometric="rgb", subifds=1, subfiletype=1, metadata=None)
        file.write(corpus.GREY.astype(np.uint16), photometric="cfa", metadata=None)


RAW: dict[str, Callable[[Path], object]] = {
    "a.dng": dng,
    "named.tif": dng,
    "a.nef": nef,
    "named-so.tif": nef,
    "a.arw": corpus.content(corpus.saved(corpus.RGB, "TIFF")),
    "a.cr2": corpus.content(b"II*\0\x10\0\0\0CR\2\0" + bytes(500)),
    "a.cr3": corpus.content(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(500)),
    "a.raf": corpus.content(b"FUJIFILMCCD-RAW 0201" + bytes(500)),
    "a.orf": corpus.content(b"IIRO\x08\0\0\0" + bytes(500)),
    "a.rw2": corpus.content(b"IIU\0\x18\0\0\0" + bytes(500)),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_photos_are_refused_with_what_to_do(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    RAW[name](path)
    for command in ("protect --out", "edit --prompt x --out", "protect --recursive --out"):
        out = tmp_path / "out" / ("a.png" if "edit" in command else "")
        assert main([*command.split(), str(out), str(path)]) in (1, 2)
        said = capsys.readouterr().err
        assert "is a raw photo" in said
        assert "allowed: a TIFF, PNG or JPEG that you export" in said
    corpus.RGB.save(tmp_path / "photo.png")
    assert main(["protect", str(tmp_path / "photo.png"), "--mask", str(path), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_files_that_would_take_forever_are_refused(tmp_path: Path) -> None:
    Image.new("1", (8000, 4000)).save(tmp_path / "empty.png")
    with pytest.raises(UserError, match=r"32 megapixels in .* bytes, so next to nothing is in it"):
        open_photo(tmp_path / "empty.png")
    data = corpus.saved(Image.new("RGB", (1600, 1200)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    (tmp_path / "scans.jpg").write_bytes(data[:start] + data[start:-2] * 400 + data[-2:])
    with pytest.raises(UserError, match=r"JPEG of 4\d\d scans.*allowed at its size: 260"):
        open_photo(tmp_path / "scans.jpg")
