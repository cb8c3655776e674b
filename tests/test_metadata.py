"""What goes with a protected photo: known fields only, whatever hides beside them; place, grey, and what is said."""

import base64
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch
from PIL import Image

from editproof.budgets import L2, Linf
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.photo.captions import read_captions
from editproof.photo.exif import clean_exif, read_directories, write_directories
from editproof.photo.formats import FORMATS
from editproof.photo.reading import open_photo
from editproof.photo.xmp import KNOWN, clean_xmp, is_marked
from editproof.protection.apply import protect
from editproof.protection.files import protect_photos
from editproof.protection.report import read_report

TEXT = base64.b64encode(corpus.preview()).decode()
HEX = corpus.preview().hex()
GPS = 'exif:GPSLatitude="48,51.49N" exif:GPSLongitude="2,17.67E" xmlns:exif="http://ns.adobe.com/exif/1.0/"'


def lines(text: str, width: int) -> str:
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


def bag(parts: list[str], name: str = "dc:subject") -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{part}</rdf:li>' for part in parts)}</rdf:Bag></{name}>"


PACKETS = {
    "short lines": corpus.xmp(f"<dc:source>{lines(TEXT, 20)}</dc:source>"),
    "very short lines": corpus.xmp(f"<dc:source>{lines(TEXT, 4)}</dc:source>"),
    "hex": corpus.xmp(f"<dc:source>{lines(HEX, 32)}</dc:source>"),
    "list": corpus.xmp(bag([TEXT[i : i + 30] for i in range(0, len(TEXT), 30)])),
    "short list": corpus.xmp(bag([TEXT[i : i + 8] for i in range(0, 800, 8)])),
    "unknown attributes": corpus.xmp(attributes=" ".join(f'dc:a{i}="{TEXT[i : i + 30]}"' for i in range(0, 900, 30))),
    "a known attribute": corpus.xmp(attributes=f'dc:source="{TEXT}"'),
    "languages": corpus.xmp(
        "<dc:description><rdf:Alt>"
        + "".join(f'<rdf:li xml:lang="{part}">x</rdf:li>' for part in lines(HEX, 18).split())
        + "</rdf:Alt></dc:description>"
    ),
    "comment": corpus.xmp(f"<!-- {TEXT} -->"),
    "deep": corpus.xmp("<dc:a>" * 500 + TEXT + "</dc:a>" * 500),
    "history": corpus.xmp(f"<xmp:History>{TEXT}</xmp:History>"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKETS)
def test_xmp_hides_no_picture(name: str) -> None:
    cleaned = clean_xmp(PACKETS[name])
    assert cleaned is not None
    assert b"A title &amp; more" in cleaned
    assert len(cleaned) < 900
    for form in [*corpus.hidden_forms(), HEX[200:240].encode(), TEXT[40:52].encode()]:
        assert form not in cleaned
    assert clean_xmp(cleaned) == cleaned


def test_known_properties_are_kept_as_they_are() -> None:
    values = {"value": "4", "text": "Words that somebody wrote", "Alt": None, "Seq": None, "Bag": None}
    for space, (prefix, names) in KNOWN.items():
        for name, kind in names.items():
            if name in ("title", "Rating"):  # which the packet has already
                continue
            inner = f"<rdf:{kind}><rdf:li>Words here</rdf:li></rdf:{kind}>" if values[kind] is None else values[kind]
            packet = corpus.xmp(f'<x:{name} xmlns:x="{space}">{inner}</x:{name}>')
            cleaned = (clean_xmp(packet) or b"").decode()
            assert f"{prefix}:{name}" in cleaned, name
            assert "Words here" in cleaned or str(values[kind]) in cleaned


@pytest.mark.parametrize("inside", ["<dc:x/>" * 500_000, "<dc:x>" * 90_000 + "</dc:x>" * 90_000, "<dc:x/>" * 60_000])
def test_very_many_elements_take_no_time(inside: str) -> None:
    packet, started = corpus.xmp(inside), time.process_time()
    clean_xmp(packet)
    is_marked(packet)
    assert time.process_time() - started < 10  # of the processor; it was minutes


def with_exif(directory: int, tag: int, kind: int, value: bytes) -> bytes:
    order, found = read_directories(corpus.exif()[6:])
    found[directory][tag] = (kind, len(value), value)
    return write_directories(found, order)


HIDDEN_IN_EXIF = {
    "comment": (0x8769, 0x9286, 7, b"ASCII\0\0\0" + TEXT.encode()),
    "comment in hex": (0x8769, 0x9286, 7, b"ASCII\0\0\0" + lines(HEX, 60).encode()),
    "description": (0, 0x010E, 2, lines(TEXT, 8).encode() + b"\0"),
    "after the end of a text": (0, 0x010E, 2, b"A description\0" + corpus.preview()),
    "Windows' comment": (0, 0x9C9C, 1, TEXT.encode("utf-16-le")),
    "area": (0x8825, 28, 7, b"ASCII\0\0\0" + TEXT.encode()),
    "raw": (0x8769, 0x9286, 7, corpus.preview()),
    "a number that is none": (0x8769, 0x829D, 7, corpus.preview()[:64]),
    "software": (0, 0x0131, 2, HEX.encode()),
}


@pytest.mark.parametrize("name", HIDDEN_IN_EXIF)
def test_exif_hides_no_picture(name: str) -> None:
    cleaned = clean_exif(with_exif(*HIDDEN_IN_EXIF[name]), 128, 96)
    assert cleaned is not None
    assert b"A lens" in cleaned
    for form in [*corpus.hidden_forms(), HEX[200:240].encode(), TEXT[40:60].encode("utf-16-le"), corpus.preview()[:16]]:
        assert form not in cleaned
    assert clean_exif(cleaned, 128, 96) == cleaned


def test_captions_hide_no_picture() -> None:
    data = corpus.preview()[: len(corpus.preview()) // 2 * 2]
    for text in (TEXT.encode(), lines(HEX, 20).encode(), data, data.decode("latin-1").encode()):
        image = Image.open(io.BytesIO(corpus.jpeg(corpus.segment(0xFE, text))))
        cleaned = clean_xmp(None, read_captions(image))
        assert cleaned is None


LEAKS: dict[str, Callable[[], bytes]] = {
    "exif.jpg": lambda: corpus.jpeg(exif=b"Exif\0\0" + with_exif(*HIDDEN_IN_EXIF["comment"])),
    "profile.jpg": lambda: corpus.jpeg(icc_profile=corpus.SRGB + corpus.preview()),
    "profile.png": lambda: corpus.saved(corpus.RGB, "PNG", icc_profile=corpus.SRGB + corpus.preview()),
    "xmp.jpg": lambda: corpus.jpeg(xmp=PACKETS["very short lines"]),
    "comment.jpg": lambda: corpus.jpeg(corpus.segment(0xFE, lines(TEXT, 60).encode())),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_no_result_holds_a_preview(kind: str, tmp_path: Path) -> None:
    for name, data in LEAKS.items():
        (tmp_path / name).write_bytes(data())
    for name in LEAKS:
        (report,) = protect_photos(tmp_path / name, tmp_path / "out", method="noise", format=kind, overwrite=True)
        result = (tmp_path / "out" / report["protected"]).read_bytes()
        for form in [*corpus.hidden_forms(), TEXT[60:72].encode()]:
            assert form not in result, name


def test_place_is_said_and_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "exif.jpg").write_bytes(corpus.jpeg(exif=corpus.exif()))
    (tmp_path / "xmp.jpg").write_bytes(
        corpus.jpeg(
            xmp=corpus.xmp(
                attributes=GPS + ' photoshop:City="Paris" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
            )
        )
    )
    for option, tells in (("", True), ("--keep-place", True), ("--no-place", False), ("--strip-metadata", False)):
        for name in ("exif.jpg", "xmp.jpg"):
            arguments = ["protect", str(tmp_path / name), "--out", str(tmp_path / "out"), "--method", "noise"]
            assert main([*arguments, "--overwrite", *option.split()]) == 0
            said = capsys.readouterr().err
            assert ("tells where it was taken" in said) == (option == "")
            stem = Path(name).stem
            photo = open_photo(tmp_path / "out" / f"{stem}-protected.png")
            assert photo.tells_place == tells == read_report(tmp_path / "out" / f"{stem}-protected.json")["tells_place"]
            assert (b"Paris" in (photo.xmp or b"")) == (tells and stem == "xmp")
            assert (photo.exif is not None) == (stem == "exif" and option != "--strip-metadata")
            assert photo.marked
    assert main([*arguments, "--strip-metadata", "--keep-place"]) == 2
    with pytest.raises(UserError, match="metadata 'none' is unknown; allowed: keep, no-place, strip"):
        protect_photos(tmp_path / "exif.jpg", tmp_path / "out", metadata="none")


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "thumbnail.jpg": "a preview in EXIF", "maker-note.jpg": "maker notes", "multi-picture.jpg": "further pictures",
        "photoshop.jpg": "Photoshop's resources", "xmp-thumbnail.jpg": "a preview in XMP", "depth.jpg": "extended XMP",
        "exif-rubbish.jpg": "EXIF that cannot be read", "xmp-rubbish.jpg": "XMP that says nothing",
        "metadata.png": "PNG texts (parameters)", "sub-directories.tif": "further pictures",
    }  # fmt: skip
    for name, what in cases.items():
        corpus.CASES[name].write(tmp_path / name)
        assert main(["protect", str(tmp_path / name), "--out", str(tmp_path / name[:-4]), "--method", "noise"]) == 0
        assert f"left out: {what}" in capsys.readouterr().out or what in open_photo(tmp_path / name).removed
    gain = corpus.jpeg(corpus.segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(40)))
    (tmp_path / "gain.jpg").write_bytes(gain)
    assert open_photo(tmp_path / "gain.jpg").removed == ("a gain map",)
    corpus.RGB.save(tmp_path / "plain.png")
    assert open_photo(tmp_path / "plain.png").removed == ()


GREY = {
    "grey.jpg": corpus.saved(corpus.RGB.getchannel("G"), "JPEG", quality=95),
    "grey.png": corpus.saved(corpus.RGB.getchannel("G"), "PNG"),
    "alpha.png": corpus.saved(corpus.RGBA.convert("LA"), "PNG"),
    "deep.png": corpus.deep_png(0, corpus.GREY),
    "three-channels.png": corpus.saved(corpus.RGB.convert("L").convert("RGB"), "PNG"),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("method", ["noise", "immunizer"])
def test_a_grey_photo_stays_grey(method: str, kind: str, tmp_path: Path) -> None:
    for name, data in GREY.items():
        if name == "alpha.png" and not FORMATS[kind].alpha:
            continue
        (tmp_path / name).write_bytes(data)
        (report,) = protect_photos([tmp_path / name], tmp_path / name[:-4], method=method, format=kind)
        with Image.open(tmp_path / name[:-4] / report["protected"]) as image:
            pixels = np.asarray(image)
            assert image.mode in (("L", "LA") if kind in ("png", "tiff", "jpeg") else ("L", "LA", "RGB", "RGBA"))
            colours = np.asarray(image.convert("RGB")).astype(int)
        assert np.ptp(colours, axis=-1).max() == 0, (name, pixels.shape)
        assert np.abs(colours - open_photo(tmp_path / name).levels.numpy()).max() >= 4
        assert report["linf_levels"] <= (8 if FORMATS[kind].lossless else 40)


@pytest.mark.parametrize("budget", [Linf(8 / 255), L2(2.0)], ids=str)
def test_grey_tensors_stay_grey_and_within_the_budget(budget: Linf | L2) -> None:
    grey = torch.rand(1, 1, 40, 60, generator=torch.Generator().manual_seed(0)).expand(1, 3, -1, -1)
    grey = (grey * 255).round() / 255
    result = protect(torch.cat([grey, grey.roll(1, 1).flip(1) * torch.tensor([1, 0.5, 0.2]).view(1, 3, 1, 1)]),
                     method="noise", budget=budget)  # fmt: skip
    assert torch.equal(result[0, 0], result[0, 2])
    assert not torch.equal(result[1, 0], result[1, 2])
    change = (result - grey)[0]
    assert change.abs().max() > 0
    assert change.abs().max() <= 8.01 / 255 if isinstance(budget, Linf) else change.norm() <= 2.001


def test_a_flat_picture_of_which_a_lossy_format_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (256, 256), (128, 128, 128)).save(tmp_path / "flat.png")
    arguments = ["protect", str(tmp_path / "flat.png"), "--out", str(tmp_path / "out"), "--eps", "2/255"]
    assert main([*arguments, "--method", "noise", "--format", "jpg", "--quality", "1"]) == 2
    said = capsys.readouterr().err
    assert "the format jpeg loses all of it" in said
    assert not list((tmp_path / "out").glob("flat*"))


def test_two_photos_of_one_name_are_both_protected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    both = [tmp_path / "in" / name for name in ("a.jpg", "a.png")]
    for path in both:
        corpus.RGB.save(path)
    reports = protect_photos(both, tmp_path / "one", method="noise")
    assert [r["protected"] for r in reports] == ["a-protected.png", "a.png-protected.png"]
    folder = protect_photos(tmp_path / "in", tmp_path / "two", method="noise", recursive=True)
    assert [r["protected"] for r in folder] == ["a-protected.png", "a.png-protected.png"]
    with pytest.raises(UserError, match=r"a.png' is named twice"):
        protect_photos([*both, both[1]], tmp_path / "three")


def test_what_is_not_read_in_folders_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    corpus.RGB.save(tmp_path / "in" / "a.png")
    for name in ("b.NEF", "deep/c.nef", "d.cr3", "e.txt", "f.psd", "deep/noname", ".hidden"):
        (tmp_path / "in" / name).write_bytes(b"II*\0")
    arguments = ["protect", str(tmp_path / "in"), "-r", "--out", str(tmp_path / "out"), "--method", "noise"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "not read: 3 raw photos, to be exported as TIFF or JPEG first (1 .cr3, 2 .nef)" in said
    assert "not read: 3 of other kinds (1 .psd, 1 .txt, 1 without an ending)" in said


@pytest.mark.parametrize("command", ["protect a.png --out", "edit a.png --prompt x --out", "bench --data . --out"])
def test_an_empty_output_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), ""]) == 2
    assert "allowed: a name, such as . for this folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="the output's name is empty"):
        protect_photos("a.png", "")


def test_pipes_beside_photos_keep_nobody_waiting(tmp_path: Path) -> None:
    corpus.RGB.save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.json")
    (report,) = protect_photos(tmp_path / "a.png", tmp_path / "out", method="noise")
    assert report["protected"] == "a-protected.png"
    with pytest.raises(UserError, match="no regular file"):
        protect_photos(tmp_path / "a.png", tmp_path / "out", mask=tmp_path / "a.json")
