"""Odd photo files by the dozen: every format and mode, previews in all the places where they hide, and damage.

CASES: the name of a file -> who writes it, and what must become of it.
"""

import base64
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

HEIGHT, WIDTH = 96, 128
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
PIXELS = np.stack([40 + ROWS * 1.5, 60 + COLUMNS, 200 - ROWS], -1).round().astype(np.uint8)
GREY = PIXELS[..., 1]
RGB = Image.fromarray(PIXELS)
ALPHA = (55 + COLUMNS + ROWS % 2).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRET = b"the unprotected preview"  # in every embedded preview; must be in no result, in no encoding


@dataclass(frozen=True)
class Case:
    """A file and what is to become of it: a protected photo, or one line that says `said`."""

    write: Callable[[Path], object]
    said: str | None = None  # of the one line
    off: int = 0  # levels that the file's own coding moves the picture by
    pixels: np.ndarray | None = None  # what it shows, PIXELS if not given
    alpha: bool = False
    keeps: tuple[str, ...] = ()  # of "exif", "xmp", "icc", "caption"
    rows: int = HEIGHT  # of which the picture is in the first
    skipped: str | None = None  # why there is nothing to do


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **settings)  # type: ignore[arg-type]
    return file.getvalue()


def preview() -> bytes:
    """What cameras embed: a small JPEG of the photo."""
    return saved(RGB.resize((32, 24)), "JPEG", comment=SECRET)


def hidden_forms() -> list[bytes]:
    """The bytes that give an embedded preview away, as they are and in base64 at each of its three phases."""
    thumb = preview()
    forms = [SECRET, thumb[-60:-20]]
    for phase in range(3):
        forms.append(base64.b64encode(thumb[phase:])[40:80])
        forms.append(base64.b64encode(SECRET[phase:])[4:24])
    return forms


def exif(orientation: int | None = None, thumbnail: bool = False, note: bytes | None = None) -> bytes:
    """A block with a description, a lens, an exposure and a place; as wished a thumbnail and a maker note."""
    tags = Image.Exif()
    tags[0x010E], tags[0x013B] = "A description", "An artist"
    if orientation is not None:
        tags[0x0112] = orientation
    inner, place = tags.get_ifd(0x8769), tags.get_ifd(0x8825)
    inner[0x829A], inner[0xA434], inner[0x9003] = TiffImagePlugin.IFDRational(1, 125), "A lens", "2024:05:06 07:08:09"
    if note is not None:
        inner[0x927C] = note
    place[1], place[2] = "N", (48.0, 51.0, 29.6)
    block = bytearray(tags.tobytes().removeprefix(b"Exif\0\0"))
    if thumbnail:
        order = "<" if block[:2] == b"II" else ">"
        entries = struct.unpack_from(order + "H", block, 8)[0]
        struct.pack_into(order + "I", block, 10 + 12 * entries, len(block))
        start = len(block) + 2 + 3 * 12 + 4
        values = ((0x0103, 3, 6), (0x0201, 4, start), (0x0202, 4, len(preview())))
        block += struct.pack(order + "H", len(values))
        for tag, kind, value in values:
            block += struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, 1, value)
        block += bytes(4) + preview()
    return b"Exif\0\0" + bytes(block)


def xmp(inside: str = "", attributes: str = "") -> bytes:
    """A packet with a title and a rating, and what else is wished."""
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmp:Rating="4"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:GImage="http://ns.google.com/photos/1.0/image/"
 xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {attributes}>
 <dc:title><rdf:Alt><rdf:li xml:lang="x-default">A title &amp; more</rdf:li></rdf:Alt></dc:title>{inside}
 </rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def in_base64(width: int = 72) -> str:
    text = base64.b64encode(preview()).decode()
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


THUMBNAILS = f"<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'><xmpGImg:image>{in_base64()}</xmpGImg:image>"
THUMBNAILS += "</rdf:li></rdf:Alt></xmp:Thumbnails>"


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(*segments: bytes, **settings: object) -> bytes:
    """A JPEG with more segments at its beginning."""
    data = saved(RGB, "JPEG", **{"quality": 95, "subsampling": 0, **settings})
    return data[:2] + b"".join(segments) + data[2:]


def resource(number: int, data: bytes) -> bytes:
    """One of Photoshop's image resources."""
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def iptc() -> bytes:
    fields = ((80, b"A photographer"), (120, "A c\u00e4ption".encode()), (25, b"first"), (25, b"second"))
    return b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text for number, text in fields)


def photoshop() -> bytes:
    """Resources with a thumbnail (1036) and IPTC's captions (1028)."""
    thumb = preview()
    header = struct.pack(">IIIIIIHH", 1, 32, 24, 96, 96 * 24, len(thumb), 24, 1)
    return resource(1036, header + thumb) + resource(1028, iptc())


def extended_xmp() -> bytes:
    data = f"<GDepth:Data>{in_base64()}</GDepth:Data>".encode()
    return b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", len(data), 0) + data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG from its parts; `rows` with their filter bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(colour: int, array: np.ndarray) -> bytes:
    """16 bits a channel, which Pillow cannot write in colour."""
    rows = (array.astype(np.uint16) * 257).astype(">u2").reshape(HEIGHT, -1)
    return png(WIDTH, HEIGHT, 16, colour, b"".join(b"\0" + row.tobytes() for row in rows))


def png_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "A photographer")
    info.add_itxt("Description", "A c\u00e4ption")
    info.add_text("parameters", "what a generator was told")
    return info


def tiff_info(**tags: tuple[int, bytes]) -> TiffImagePlugin.ImageFileDirectory_v2:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for number, data in tags.values():
        info.tagtype[number] = 1
        info[number] = data
    return info


def written_by_tifffile(path: Path, array: np.ndarray, **settings: object) -> None:
    tifffile.imwrite(path, array, photometric="rgb", **settings)  # type: ignore[arg-type]


def tiff_with_previews(path: Path) -> None:
    """As some cameras and scanners do: the photo, with smaller ones in directories below its own."""
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, photometric="rgb", subifds=1)
        file.write(np.frombuffer(SECRET * 40, np.uint8)[: 16 * 16 * 3].reshape(16, 16, 3), photometric="rgb")


def tiff_loop(path: Path) -> None:
    """A TIFF whose directory is its own successor."""
    data = bytearray(saved(RGB, "TIFF"))
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * entries, start)
    path.write_bytes(data)


def frames(kind: str, **settings: object) -> bytes:
    return saved(RGB, kind, save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_180)], **settings)


def heic(**settings: object) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pillow_heif

        pillow_heif.from_pillow(RGB).save(path, quality=-1, chroma=444, matrix_coefficients=0, **settings)

    return write


def two_heic(path: Path) -> None:
    import pillow_heif

    pair = pillow_heif.from_pillow(RGB)
    pair.add_from_pillow(RGB.transpose(Image.Transpose.ROTATE_180))
    pair.save(path)


def lying_jpeg() -> bytes:
    """A header that claims four times as many rows as there are."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0") + 5
    struct.pack_into(">H", data, start, HEIGHT * 4)
    return bytes(data)


def cut(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
LINES = b"".join(b"\0" + row.tobytes() for row in PIXELS)
RGBA = Image.fromarray(np.dstack([PIXELS, ALPHA]))
SHOWS_GREY = np.repeat(GREY[..., None], 3, -1)
PALETTE = RGB.quantize(64)
CMYK = RGB.convert("CMYK")
ALL = ("exif", "xmp", "icc")
RICH = {"exif": exif(), "xmp": xmp(), "icc_profile": SRGB}
HEADER_OF_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))

CASES: dict[str, Case] = {
    # formats and modes
    "rgb.png": Case(content(saved(RGB, "PNG"))),
    "rgba.png": Case(content(saved(RGBA, "PNG")), alpha=True),
    "grey.png": Case(content(saved(RGB.getchannel("G"), "PNG")), pixels=SHOWS_GREY),
    "grey-alpha.png": Case(content(saved(RGBA.convert("LA"), "PNG")), alpha=True, pixels=np.array(RGB.convert("L"))),
    "palette.png": Case(content(saved(PALETTE, "PNG")), pixels=np.array(PALETTE.convert("RGB"))),
    "palette-clear.png": Case(
        content(saved(PALETTE, "PNG", transparency=bytes(range(64)))),
        pixels=np.array(PALETTE.convert("RGB")),
        alpha=True,
    ),
    "one-bit.png": Case(content(saved(RGB.convert("1"), "PNG")), pixels=np.array(RGB.convert("1").convert("L"))),
    "grey16.png": Case(content(deep_png(0, GREY)), pixels=SHOWS_GREY),
    "rgb16.png": Case(content(deep_png(2, PIXELS))),
    "rgba16.png": Case(content(deep_png(6, np.dstack([PIXELS, ALPHA]))), alpha=True),
    "colour-key.png": Case(
        content(png(WIDTH, HEIGHT, 8, 2, LINES, chunk(b"tRNS", struct.pack(">HHH", 40, 60, 200)))), alpha=True
    ),
    "baseline.jpg": Case(content(jpeg()), off=3),
    "subsampled.jpg": Case(content(jpeg(quality=80, subsampling=2)), off=8),
    "progressive.jpeg": Case(content(jpeg(progressive=True)), off=3),
    "grey.jpg": Case(content(saved(RGB.getchannel("G"), "JPEG", quality=95)), off=3, pixels=SHOWS_GREY),
    "cmyk.jpg": Case(content(saved(CMYK, "JPEG", quality=95)), off=5),
    "cmyk-false-profile.jpg": Case(
        content(saved(CMYK, "JPEG", quality=95, icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])), off=5
    ),
    "lossy.webp": Case(content(saved(RGB, "WEBP", quality=90)), off=12),
    "lossless.webp": Case(content(saved(RGB, "WEBP", lossless=True))),
    "alpha.webp": Case(content(saved(RGBA, "WEBP", lossless=True, exact=True)), alpha=True),
    "raw.tif": Case(content(saved(RGB, "TIFF"))),
    "lzw.tiff": Case(content(saved(RGB, "TIFF", compression="tiff_lzw"))),
    "jpeg-inside.tif": Case(content(saved(RGB, "TIFF", compression="jpeg", quality=95)), off=8),
    "alpha.tif": Case(content(saved(RGBA, "TIFF")), alpha=True),
    "cmyk.tif": Case(content(saved(CMYK, "TIFF")), off=1),
    "lab.tif": Case(
        content(
            saved(
                ImageCms.profileToProfile(
                    RGB, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
                ),  # type: ignore[arg-type]
                "TIFF",
            )
        ),
        off=24,  # 8 bits are not many for Lab
    ),
    "palette.tif": Case(content(saved(PALETTE, "TIFF")), pixels=np.array(PALETTE.convert("RGB"))),
    "grey16.tif": Case(lambda path: tifffile.imwrite(path, GREY.astype(np.uint16) * 257), pixels=SHOWS_GREY),
    "rgb16.tif": Case(lambda path: written_by_tifffile(path, PIXELS.astype(np.uint16) * 257)),
    "big.tif": Case(lambda path: written_by_tifffile(path, PIXELS, bigtiff=True)),
    "tiled.tif": Case(lambda path: written_by_tifffile(path, PIXELS, tile=(32, 32))),
    "rgb.bmp": Case(content(saved(RGB, "BMP"))),
    "palette.bmp": Case(content(saved(PALETTE, "BMP")), pixels=np.array(PALETTE.convert("RGB"))),
    "one.gif": Case(content(saved(PALETTE, "GIF")), pixels=np.array(PALETTE.convert("RGB"))),
    "colour.avif": Case(content(saved(RGB, "AVIF", quality=95, subsampling="4:4:4")), off=4),
    "alpha.avif": Case(content(saved(RGBA, "AVIF", quality=95, subsampling="4:4:4")), off=4, alpha=True),
    "photo.jp2": Case(content(saved(RGB, "JPEG2000"))),
    "photo.ppm": Case(content(saved(RGB, "PPM"))),
    "deep.pgm": Case(
        content(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + (GREY.astype(">u2") * 257).tobytes()), pixels=SHOWS_GREY
    ),
    "photo.heic": Case(heic(), off=4),
    "two.heic": Case(two_heic, "2 frames"),
    # metadata that is to be kept
    "metadata.jpg": Case(content(saved(RGB, "JPEG", quality=95, **RICH)), off=4, keeps=ALL),
    "metadata.png": Case(
        content(saved(RGB, "PNG", exif=exif(), icc_profile=SRGB, pnginfo=png_text())), keeps=("exif", "icc", "caption")
    ),
    "metadata.webp": Case(content(saved(RGB, "WEBP", lossless=True, **RICH)), keeps=ALL),
    "metadata.avif": Case(content(saved(RGB, "AVIF", quality=95, subsampling="4:4:4", **RICH)), off=4, keeps=ALL),
    "metadata.heic": Case(heic(exif=exif(), xmp=xmp()), off=4, keeps=("exif", "xmp")),
    "metadata.tif": Case(content(saved(RGB, "TIFF", exif=exif(), icc_profile=SRGB)), keeps=("exif", "icc")),
    "upright.jpg": Case(
        content(saved(Image.fromarray(np.rot90(PIXELS).copy()), "JPEG", quality=95, subsampling=0, exif=exif(6))),
        off=4,
        keeps=("exif",),
    ),
    "xmp-orientation.jpg": Case(
        content(
            saved(
                RGB,  # viewers turn pictures as EXIF says, not as XMP does
                "JPEG",
                quality=95,
                subsampling=0,
                xmp=xmp(attributes='tiff:Orientation="6"'),
            )
        ),
        off=4,
        keeps=("xmp",),
    ),
    # previews that must go
    "thumbnail.jpg": Case(content(jpeg(exif=exif(thumbnail=True))), off=4, keeps=("exif",)),
    "thumbnail.webp": Case(content(saved(RGB, "WEBP", lossless=True, exif=exif(thumbnail=True))), keeps=("exif",)),
    "thumbnail.png": Case(content(saved(RGB, "PNG", exif=exif(thumbnail=True))), keeps=("exif",)),
    "thumbnail.heic": Case(heic(exif=exif(thumbnail=True)), off=4, keeps=("exif",)),
    "maker-note.jpg": Case(content(jpeg(exif=exif(note=b"Nikon\0\2\x10" + preview()))), off=4, keeps=("exif",)),
    "multi-picture.jpg": Case(
        content(frames("MPO", quality=95, subsampling=0, exif=exif()) + preview()), off=4, keeps=("exif",)
    ),
    "photoshop.jpg": Case(content(jpeg(segment(0xED, b"Photoshop 3.0\0" + photoshop()))), off=4, keeps=("caption",)),
    "xmp-thumbnail.jpg": Case(content(jpeg(xmp=xmp(THUMBNAILS))), off=4, keeps=("xmp",)),
    "xmp-thumbnail.tif": Case(
        content(saved(RGB, "TIFF", tiffinfo=tiff_info(xmp=(700, xmp(THUMBNAILS))))), keeps=("xmp",)
    ),
    "depth.jpg": Case(
        content(
            jpeg(
                segment(0xE1, extended_xmp()),
                xmp=xmp(f"<GImage:Data>{in_base64(10**9)}</GImage:Data>", f'GDepth:Data="{in_base64(10**9)}"'),
            )
        ),
        off=4,
        keeps=("xmp",),
    ),
    "unknown-base64.jpg": Case(
        content(jpeg(xmp=xmp(f"<dc:relation>{in_base64()}</dc:relation>"))), off=4, keeps=("xmp",)
    ),
    "motion-photo.jpg": Case(content(jpeg() + b"\0\0\0\x18ftypmp42" + preview()), off=3),
    "photoshop.tif": Case(
        content(saved(RGB, "TIFF", tiffinfo=tiff_info(resources=(34377, photoshop()), layers=(37724, preview())))),
    ),
    "sub-directories.tif": Case(tiff_with_previews),
    # metadata in disarray
    "exif-loop.jpg": Case(
        content(jpeg(exif=b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" + b"\x69\x87\4\0\1\0\0\0\x08\0\0\0" * 9)), off=3
    ),
    "exif-rubbish.jpg": Case(content(jpeg(exif=b"Exif\0\0" + bytes(range(256)) * 20)), off=3),
    "exif-huge.jpg": Case(content(jpeg(segment(0xE1, exif() + bytes(40_000)))), off=3, keeps=("exif",)),
    "xmp-entities.jpg": Case(
        content(jpeg(xmp=b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + xmp("&b;"))), off=3
    ),
    "xmp-rubbish.jpg": Case(content(jpeg(xmp=b"<x:xmpmeta><unclosed></x:xmpmeta>")), off=3),
    "xmp-deep.jpg": Case(content(jpeg(xmp=xmp("<dc:x>" * 3000 + "</dc:x>" * 3000))), off=3),
    "profile-cut.png": Case(content(saved(RGB, "PNG", icc_profile=SRGB[:40]))),
    # names
    "jpeg-named.png": Case(content(jpeg()), off=3),
    "png-named.jpg": Case(content(saved(RGB, "PNG"))),
    "\u0444\u043e\u0442\u043e \u5199\u771f \U0001f600.png": Case(content(saved(RGB, "PNG"))),
    "two\nlines & 'quotes' [bold].png": Case(content(saved(RGB, "PNG"))),
    "-dash.png": Case(content(saved(RGB, "PNG"))),
    "n" * 236 + ".png": Case(content(saved(RGB, "PNG"))),
    "n" * 251 + ".png": Case(content(saved(RGB, "PNG")), "too long a name"),
    "link.png": Case(lambda path: path.symlink_to("rgb.png")),
    "loop.png": Case(lambda path: path.symlink_to("loop.png"), "loop.png"),
    "broken-link.png": Case(lambda path: path.symlink_to("nowhere.png"), "does not exist"),
    "pipe.png": Case(os.mkfifo, "no regular file"),
    # damage
    "empty.png": Case(content(b""), "0 bytes"),
    "text.jpg": Case(content(b"this is not a picture"), "not a picture"),
    "page.jpg": Case(content(b"<!DOCTYPE html><html></html>"), "not a picture"),
    "drawing.png": Case(content(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "not a picture"),
    "document.jpg": Case(content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 128 96\nshowpage\n"), "not a picture"),
    "clip.heic": Case(content(b"\0\0\0\x18ftypheic" + bytes(40)), "clip.heic"),
    "cut.png": Case(content(cut(saved(NOISE, "PNG"))), "damaged or cut off"),
    "cut.jpg": Case(content(cut(saved(NOISE, "JPEG"))), "damaged or cut off"),
    "cut.webp": Case(content(cut(saved(NOISE, "WEBP"))), "cut.webp"),
    "cut.tif": Case(content(cut(saved(NOISE, "TIFF"))), "cut.tif"),
    "cut.bmp": Case(content(cut(saved(NOISE, "BMP"))), "damaged or cut off"),
    "cut.gif": Case(content(cut(saved(NOISE.quantize(), "GIF"))), "damaged or cut off"),
    "cut.avif": Case(content(cut(saved(NOISE, "AVIF"))), "cut.avif"),
    "cut.jp2": Case(content(cut(saved(NOISE, "JPEG2000"), 0.2)), "cut.jp2"),
    "header-only.jpg": Case(content(jpeg()[:300]), "header-only.jpg"),
    # viewers show the rows that there are, and black or grey below; so does the result
    "claims-more.png": Case(content(png(WIDTH, HEIGHT * 4, 8, 2, LINES)), rows=HEIGHT * 4),
    "claims-more.jpg": Case(content(lying_jpeg()), off=3, rows=HEIGHT * 4),
    "bomb.png": Case(content(png(50_000, 50_000, 8, 2, b"\0")), "too large"),
    "wide.png": Case(content(png(30_000, 100, 8, 2, b"\0")), "30000 x 100"),
    "speck.png": Case(content(saved(RGB.resize((8, 8)), "PNG")), "8 x 8"),
    "no-pixels.png": Case(content(png(0, 0, 8, 2, b"")), "no-pixels.png"),
    "text-bomb.png": Case(content(png(WIDTH, HEIGHT, 8, 2, LINES, HEADER_OF_BOMB)), "damaged or cut off"),
    "wrong-sum.png": Case(content(saved(RGB, "PNG").replace(b"IDAT", b"IDAT\1", 1)), "wrong-sum.png"),
    "animated.gif": Case(content(frames("GIF")), "2 frames"),
    "animated.png": Case(content(frames("PNG")), "2 frames"),
    "animated.webp": Case(content(frames("WEBP")), "2 frames"),
    "animated.avif": Case(content(frames("AVIF")), "2 frames"),
    "pages.tif": Case(content(frames("TIFF")), "2 frames"),
    "endless-pages.tif": Case(tiff_loop),
    "float.tif": Case(lambda path: tifffile.imwrite(path, GREY.astype(np.float32)), "32 bits"),
    "integer.tif": Case(content(saved(Image.fromarray(GREY.astype(np.int32)), "TIFF")), "32 bits"),
    "folder.png": Case(os.mkdir, skipped="a folder is looked into"),
    "notes.txt": Case(content(b"nobody asked for this"), skipped="not named like a picture"),
    ".hidden.png": Case(content(saved(RGB, "PNG")), skipped="hidden"),
}
