"""Formats that results are written in: what is saved, what is left of it, Content Credentials, and the writers."""

import base64
import binascii
import datetime
import hashlib
import io
import json
import random
import sys
from pathlib import Path

import corpus
import numpy as np
import pytest
import tifffile
import tiny
import torch
from PIL import Image

from editproof.cli.main import main
from editproof.errors import UserError
from editproof.photo import png, tiff
from editproof.photo.exif import LONGEST_BLOCK, clean_exif, read_directories
from editproof.photo.formats import FORMATS, decode, encode, get_format, save_photo
from editproof.photo.prose import reads_as_text
from editproof.photo.reading import Photo, open_photo
from editproof.photo.xmp import clean_xmp, is_marked, mark
from editproof.protection.files import protect_photos
from editproof.protection.report import read_report
from editproof.protection.task import perturbation_left

SHAPES = [(16, 16, 3), (300, 17, 4), (129, 200, 3), (128, 33, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("writer", [png.write, tiff.write])
def test_writers_are_read_by_others(writer: object, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels[: shape[0] // 2] //= 16  # compressible
    file = io.BytesIO()
    writer(file, pixels, icc=corpus.SRGB, exif=corpus.exif()[6:], xmp=corpus.xmp(), dpi=(300, 150))  # type: ignore[operator]
    with Image.open(io.BytesIO(file.getvalue())) as image:
        image.load()  # checks PNG's check sums
        assert np.array_equal(np.array(image), pixels)
        assert image.info["icc_profile"] == corpus.SRGB
        assert image.info["xmp"] == corpus.xmp()
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert image.getexif()[0x010E] == "A description"
    if writer is tiff.write:
        with tifffile.TiffFile(io.BytesIO(file.getvalue())) as opened:
            (page,) = opened.pages
            assert page.tags["ExifTag"].value["LensModel"] == "A lens"
            assert page.tags["Predictor"].value == 2


def photo(alpha: bool = False) -> Photo:
    levels = (tiny.pictures(1, 200, 150)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    opacity = torch.arange(200 * 150, dtype=torch.int32).reshape(200, 150).remainder(256).to(torch.uint8)
    return Photo(Path("photo.png"), levels, opacity if alpha else None)


@pytest.mark.parametrize("name", FORMATS)
def test_lossless_formats_keep_every_pixel_and_lossy_ones_are_near(name: str) -> None:
    source = photo(alpha=FORMATS[name].alpha)
    file = encode(source.levels, source, name)
    saved = decode(file)
    assert torch.equal(saved, source.levels) == FORMATS[name].lossless
    assert (saved.float() - source.levels).abs().mean() < 3
    if source.alpha is not None:
        with Image.open(io.BytesIO(file.getvalue())) as image:
            difference = np.abs(np.array(image)[..., 3].astype(int) - source.alpha.numpy())
        assert difference.max() <= (0 if FORMATS[name].lossless else 40)
    if not FORMATS[name].lossless:
        assert len(encode(source.levels, source, name, 50).getvalue()) < len(file.getvalue())


def test_a_photo_is_saved_with_what_belongs_to_it(tmp_path: Path) -> None:
    corpus.RGBA.save(tmp_path / "a.png", exif=corpus.exif(6), icc_profile=corpus.SRGB)
    source = open_photo(tmp_path / "a.png")
    for name in ("b.png", "b.webp", "b.tiff"):
        save_photo(tmp_path / name, source.pixels, source)
        saved = open_photo(tmp_path / name)
        assert torch.equal(saved.levels, source.levels)
        assert torch.equal(saved.alpha, source.alpha)  # type: ignore[arg-type]
        assert saved.icc == source.icc
        assert saved.exif is not None
        assert saved.marked
    for name, said in (("b.jpg", "transparent"), ("b.gif", r"allowed: a name that ends in \.png")):
        with pytest.raises(UserError, match=said):
            save_photo(tmp_path / name, source.pixels, source)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "quality", "said"), [
    ("heic", None, "png, webp, tiff, avif, jpeg"), ("png", 90, "is lossless"), ("jpeg", 0, "1 to 100"),
    ("avif", 101, "1 to 100"),
])  # fmt: skip
def test_formats_that_cannot_be(name: str, quality: int | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        get_format(name, quality)


def test_what_is_left_of_a_perturbation() -> None:
    original = photo().levels
    steps = torch.randint(-8, 9, (25, 19, 3), generator=torch.Generator().manual_seed(0))
    blocks = steps.repeat_interleave(8, 0).repeat_interleave(8, 1)[:, :150]
    result = (original.int() + blocks).clamp(0, 255).to(torch.uint8)
    half = ((original.float() + result) / 2).round().to(torch.uint8)
    assert perturbation_left(result, result, original, (256, 256)) == 1
    assert perturbation_left(original, result, original, (256, 256)) == 0
    assert perturbation_left(half, result, original, (256, 256)) == pytest.approx(0.5, abs=0.05)
    assert perturbation_left(original, original, original, (256, 256)) == 0


@pytest.mark.parametrize("kind", ["avif", "jpeg"])
def test_lossy_results_are_measured_as_they_are_in_the_file(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(corpus.PIXELS).save(tmp_path / "a.png")
    reports = []
    for quality in ("95", "20"):
        arguments = ["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / quality), "--format", kind]
        assert main([*arguments, "--quality", quality]) == 0
        assert "of the change left in it" in capsys.readouterr().out
        report = read_report(tmp_path / quality / "a-protected.json")
        saved = open_photo(tmp_path / quality / report["protected"])
        change = (saved.levels.int() - torch.from_numpy(corpus.PIXELS)).abs()
        assert report["linf_levels"] == change.max()
        assert (report["format"], report["quality"]) == (kind, int(quality))
        reports.append(report)
    assert 1.05 > reports[0]["perturbation_left"] > 0.9
    assert reports[0]["perturbation_left"] > reports[1]["perturbation_left"]


def test_jpeg_cannot_be_transparent_but_opaque_alpha_is_fine(tmp_path: Path) -> None:
    corpus.RGBA.save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"transparent in places.*allowed: png, webp, tiff, avif"):
        list(protect_photos([tmp_path / "a.png"], tmp_path / "out", method="noise", format="jpeg"))
    assert not (tmp_path / "out").exists()
    corpus.RGB.convert("RGBA").save(tmp_path / "a.png")
    (report,) = protect_photos([tmp_path / "a.png"], tmp_path / "out", method="noise", format="jpeg")
    assert report["protected"] == "a-protected.jpg"


def test_webp_has_a_largest_side(tmp_path: Path) -> None:
    Image.new("RGB", (16_384, 16), "grey").save(tmp_path / "a.png")
    with pytest.raises(UserError, match="16384 x 16 pixels; allowed for webp: 16,383 a side"):
        list(protect_photos([tmp_path / "a.png"], tmp_path / "out", method="noise", format="webp"))


def test_exif_of_any_bytes_raises_nothing_and_grows_no_previews() -> None:
    rng = random.Random(0)
    whole = corpus.exif(6, thumbnail=True, note=corpus.preview())
    thumb = corpus.preview()
    for _ in range(3000):
        block = bytearray(whole)
        for _ in range(rng.randrange(1, 20)):
            block[rng.randrange(6, len(block))] = rng.randrange(256)
        cleaned = clean_exif(bytes(block[: rng.randrange(len(block))]), 10, 20) or b""
        assert not any(thumb[i : i + 64] in cleaned for i in range(0, len(thumb) - 64, 8))
        assert len(cleaned) <= LONGEST_BLOCK
    assert clean_exif(whole, 10, 20) == clean_exif(clean_exif(whole, 10, 20), 10, 20)


def test_long_exif_is_left_out_and_fits_into_a_jpeg() -> None:
    tags = Image.Exif()
    tags[0x010E] = "kept"
    inner = tags.get_ifd(0x8769)
    for tag in (0xA433, 0xA434, 0xA431, 0xA430):
        inner[tag] = b"word " * 3_000
    inner[0xA435] = b"y" * 40_000
    inner[0x9286] = b"ASCII\0\0\0" + b"word " * 390
    cleaned = clean_exif(tags.tobytes(), 10, 20)
    assert cleaned is not None
    assert len(cleaned) <= LONGEST_BLOCK
    _, directories = read_directories(cleaned)
    assert 0x010E in directories[0]
    assert directories[0x8769].keys() == {0x9286, 0xA002, 0xA003}


HIDING = {  # ways to write a picture as text
    "base64": lambda data: base64.b64encode(data).decode(),
    "base32": lambda data: base64.b32encode(data).decode(),
    "hex": lambda data: data.hex(),
    "decimal": lambda data: ", ".join(map(str, data)),
    "percent": lambda data: "".join(f"%{x:02X}" for x in data),
    "base85": lambda data: base64.b85encode(data).decode(),
    "uuencode": lambda data: "".join(binascii.b2a_uu(data[i : i + 45]).decode() for i in range(0, len(data), 45)),
}
PEOPLE_WRITE = [
    "Canon EF 70-200mm f/2.8L IS II USM + 1.4x Extender",
    "WASHINGTON, DC - MARCH 3: Sen. Jane Doe (D-CA) speaks to the media after the vote. (Photo by John Smith/Getty)",
    "\u00a9 2024 J\u00fcrgen M\u00fcller, K\u00f6ln. Alle Rechte vorbehalten. https://example.com/lizenz?id=8f3a9c0d11",
    "\u0417\u0430\u043a\u0430\u0442 \u043d\u0430\u0434 " * 5,
    "\u5317\u4eac\u6545\u5bab\u7684\u65e5\u843d" * 9,
    "#sunset #BeachLife #travel2024 #canon #EOSR5 #goldenhour with the family",
    "Xiaomi 13T Pro; f/1.9, 1/125 s, ISO 50, 24 mm; Leica Vibrant; edited with Snapseed 2.21",
]


@pytest.mark.parametrize("text", PEOPLE_WRITE, ids=lambda text: text[:12])
def test_what_people_write_is_kept(text: str) -> None:
    assert reads_as_text(text)


@pytest.mark.parametrize("name", HIDING)
def test_a_picture_written_as_text_is_no_text(name: str) -> None:
    for data in (corpus.preview(), corpus.preview()[300:], random.Random(0).randbytes(600)):
        text = HIDING[name](data)
        for width in (1, 2, 3, 4, 5, 8, 12, 16, 39, 60, 10**6):
            for between in (" ", "\n", ", ", ". "):
                assert not reads_as_text(between.join(text[i : i + width] for i in range(0, len(text), width)))


def test_mark_says_nothing_but_that_the_photo_is_protected() -> None:
    for packet in (None, corpus.xmp(), b"rubbish", corpus.xmp(corpus.THUMBNAILS)):
        cleaned = clean_xmp(packet)
        assert not is_marked(cleaned)
        marked = mark(cleaned)
        assert is_marked(marked)
        assert mark(marked).count(b"editproof:Protected") == marked.count(b"editproof:Protected") == 1
        said = marked.replace(cleaned or b"", b"")
        assert b"seed" not in said
    bare = mark(None)
    assert bare.count(b"editproof") == 3  # prefix, name space, attribute
    assert len(bare) < 350


@pytest.mark.parametrize(("module", "arguments", "said"), [
    ("pillow_heif", "protect photo.heic --out out", "pip install 'editproof[heic]'"),
    ("c2pa", "protect photo.png --out out --credentials key.pem", "pip install 'editproof[c2pa]'"),
])  # fmt: skip
def test_an_extra_that_is_missing_is_named(
    module: str, arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    corpus.RGB.save("photo.png")
    Path("photo.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(40))
    monkeypatch.setitem(sys.modules, module, None)
    assert main(arguments.split()) == 2
    assert said in capsys.readouterr().err


def test_content_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    c2pa = pytest.importorskip("c2pa")
    (tmp_path / "key.pem").write_bytes(key_and_chain())
    corpus.RGB.save(tmp_path / "a.png", exif=corpus.exif())
    for kind, form in FORMATS.items():
        out = tmp_path / kind
        arguments = ["protect", str(tmp_path / "a.png"), "--out", str(out), "--method", "noise", "--format", kind]
        assert main([*arguments, "--credentials", str(tmp_path / "key.pem")]) == 0
        result = out / f"a-protected{form.suffix}"
        with c2pa.Reader(form.media_type, io.BytesIO(result.read_bytes())) as reader:
            assert reader.get_validation_state() == "Valid"
            (manifest,) = json.loads(reader.json())["manifests"].values()
        (actions,) = (a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
        assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
        assert "protected against AI editing" in actions[1]["description"]
        assert "thumbnail" not in json.dumps(manifest)
        assert open_photo(result).marked
        assert open_photo(result).exif is not None
        report = read_report(out / "a-protected.json")
        assert report["content_credentials"] is True
        assert report["credentials_key"] == public_key_digest(tmp_path / "key.pem")
    capsys.readouterr()
    for content in (b"", b"no key", key_and_chain().split(b"-----BEGIN CERT")[0]):
        (tmp_path / "bad.pem").write_bytes(content)
        arguments = ["protect", str(tmp_path / "a.png"), "--out", str(tmp_path / "bad"), "--method", "noise"]
        assert main([*arguments, "--credentials", str(tmp_path / "bad.pem")]) == 2
        said = capsys.readouterr().err
        assert "bad.pem' cannot" in said
        assert len(said.splitlines()) == 1
        assert not (tmp_path / "bad").exists()


def public_key_digest(path: Path) -> str:
    """SHA-256 of the public half of a private key, as `openssl pkey -pubout -outform DER | sha256sum` says it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    public = load_pem_private_key(path.read_bytes(), None).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def key_and_chain() -> bytes:
    """A key and its certificate below a root of its own, as C2PA wants them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, n)]) for n in ("root", "signer")]
    now, certificates = datetime.datetime.now(datetime.UTC), []
    for i, root in enumerate((True, False)):
        usage = x509.KeyUsage(not root, False, False, False, False, root, root, False, False)
        builder = (
            x509.CertificateBuilder(names[0], names[i], keys[i].public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=9))
            .add_extension(x509.BasicConstraints(root, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[i].public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
            .add_extension(usage, True)
        )
        if not root:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        certificates.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + b"".join(c.public_bytes(pem) for c in reversed(certificates))
