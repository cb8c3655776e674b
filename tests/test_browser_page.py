"""`editproof export --page`: a photo is protected in Chromium as by the library, and nothing leaves the page."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from editproof.app import browser_page, texts, web_runtime
from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, save_immunizer
from editproof.photo.reading import open_photo, save_png
from editproof.protection.files import protect_photos

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120_000  # milliseconds
EXACT, WITHIN_ONE = 0.998, 0.99999  # of all values at least; two neighbours that round otherwise can be two levels off


@pytest.fixture(scope="module")
def runtime() -> Path:
    """onnxruntime-web's .tgz: where EDITPROOF_ORT_WEB says, or downloaded once and kept with temporary files."""
    kept = Path(tempfile.gettempdir(), f"onnxruntime-web-{web_runtime.VERSION}.tgz")
    given = Path(os.environ.get("EDITPROOF_ORT_WEB", kept))
    if not given.is_file():
        try:
            content = web_runtime.download()
        except UserError as error:
            pytest.skip(str(error))
        given = kept
        given.write_bytes(content)
    return given


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another network than the embedded one: without mask or bound, of other depth and size."""
    torch.manual_seed(0)
    network = NestedUNet(depths=(8, 8, 8, 8, 8, 8), batch_norm="photo").eval()
    network.size = 128
    network.final.weight.data *= 0.2  # to some 8 levels
    folder = tmp_path_factory.mktemp("weights")
    save_immunizer(network, folder)
    return folder


@pytest.fixture(scope="module")
def visit(runtime: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Opens the page with the embedded network, or with `weights`, from the disk; nothing goes wrong in it."""
    pytest.importorskip("onnx", reason="pip install 'editproof[onnx]'")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    said, asked = [], []
    pages = {own: tmp_path_factory.mktemp("page") for own in (False, True)}
    for own, folder in pages.items():
        more = ["--weights", str(weights)] if own else []
        assert main(["export", "--page", str(folder), "--runtime", str(runtime), *more]) == 0
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def enter(own: bool = False, heard: bool = True, **settings: Any) -> Any:
            page = chromium.new_context(**settings).new_page()
            page.set_default_timeout(PATIENCE)
            page.on("console", lambda message: said.append(message.text) if heard and message.type == "error" else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"file://{pages[own]}/index.html")
            return page

        yield enter
        chromium.close()
    assert asked and all(url.startswith(("file:", "blob:")) for url in asked)
    assert not said, said


def photos(folder: Path) -> list[Path]:
    """In colour and grey, smaller and larger than what the networks see, and one that lies on its side."""
    save_png(folder / "wide.png", tiny.pictures(1, 100, 167)[0])
    save_png(folder / "grey.png", tiny.pictures(1, 150, 75)[0].mean(0, keepdim=True).expand(3, -1, -1))
    save_png(folder / "large.png", tiny.pictures(1, 140, 601)[0])
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(folder / "wide.png") as image:
        image.save(folder / "turned.jpg", quality=95, exif=turned)
    return sorted(folder.iterdir())


def protect(page: Any, photo: Path) -> bytes:
    page.set_input_files("#photo", photo)
    page.click("#protect")
    page.locator("#result").wait_for()
    assert page.evaluate("document.activeElement.id") == "download"
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert waiting.value.suggested_filename == f"{photo.stem}-protected.png"
    return Path(waiting.value.path()).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_the_page_protects_as_the_library_does(own: bool, visit: Callable, weights: Path, tmp_path: Path) -> None:
    page, differences = visit(own), []
    for photo in photos(tmp_path):
        made = open_photo(photo, protect(page, photo))
        other = {"method": "diffvax", "knobs": {"weights": str(weights)}} if own else {}
        protect_photos([photo], tmp_path / "out", budget=Linf(8 / 255), **other)
        expected = open_photo(tmp_path / "out" / f"{photo.stem}-protected.png")
        original = open_photo(photo)
        differences.append((made.levels.int() - expected.levels.int()).abs().flatten())
        assert 4 <= (made.levels.int() - original.levels).abs().max() <= 8
        assert made.marked and made.grey == original.grey and made.exif is None
        assert page.locator("#before").evaluate("image => [image.naturalHeight, image.naturalWidth]") == [*made.size]
    off = torch.cat(differences)
    assert off.max() <= 2 and (off <= 1).float().mean() >= WITHIN_ONE and (off == 0).float().mean() >= EXACT


def test_strength_and_what_is_refused(visit: Callable, tmp_path: Path) -> None:
    page, photo = visit(), tmp_path / "photo.png"
    save_png(photo, tiny.pictures(1, 120, 100)[0])
    page.locator("#strength").fill("3")
    changed = (open_photo(photo, protect(page, photo)).levels.int() - open_photo(photo).levels).abs().max()
    assert changed == 3
    protect_photos([photo], tmp_path)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:200])
    Image.new("RGB", (100, 12)).save(tmp_path / "thin.png")
    for name, key in (
        ("photo-protected.png", "page_marked"), ("broken.png", "page_unreadable"), ("thin.png", "page_size")
    ):  # fmt: skip
        page.set_input_files("#photo", tmp_path / name)
        page.click("#protect")
        text = texts.catalog("en")[key].format(width=100, height=12, least=16, most=16384)
        page.locator("#status.problem", has_text=text).wait_for()
        assert page.locator("#result").is_hidden()
    with pytest.raises(Exception, match="Failed to fetch"):
        visit(heard=False).evaluate("fetch('https://example.org/?photo')")  # the browser itself forbids it


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(390, "dark", "de"), (1280, "light", "tr"), (1920, "dark", "fr")]
)
def test_everybody_can_use_it(width: int, scheme: str, language: str, visit: Callable, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'editproof[dev]'")
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme, locale=language, bypass_csp=True)
    save_png(tmp_path / "photo.png", tiny.pictures(1, 120, 100)[0])
    protect(page, tmp_path / "photo.png")
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")], found
    own, shown = texts.catalog(language), page.inner_text("body")
    assert all(own[key] in shown for key in ("page_private", "page_photo", "does_not", "protect", "done_1"))
    assert page.evaluate("document.documentElement.lang") == language
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(web_runtime, "ADDRESS", "http://127.0.0.1:9/nobody.tgz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / browser_page.FIRST).write_text("an earlier page")
    new = ["--page", str(tmp_path / "new")]
    for arguments, told in (
        ([], "neither --onnx and --page: allowed is one of them"),
        ([*new, "--onnx", "x.onnx"], "both --onnx and --page: allowed is one of them"),
        (["--onnx", "x.onnx", "--runtime", "x"], "would change nothing without --page"),
        (new, "could not be downloaded from http://127.0.0.1:9/nobody.tgz"),
        ([*new, "--runtime", str(tmp_path / "none.tgz")], "cannot be read"),
        ([*new, "--runtime", str(tmp_path / "other.tgz")], "has no package/dist"),
        ([*new, "--runtime", str(tmp_path / "empty")], "has no ort.wasm.min.js"),
        (["--page", str(tmp_path / "old")], "exists; allowed"),
    ):
        assert main(["export", *arguments]) == 2
        said = capsys.readouterr().err
        assert told in " ".join(said.split()), said
    assert not (tmp_path / "new").exists()
