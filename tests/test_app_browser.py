"""The web app in Chromium, as visitors use it. Skipped where there is no playwright or no Chromium."""

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import app_server
import pytest
import tiny
from PIL import Image

from editproof.app import texts
from editproof.bench.checking import check_download
from editproof.bench.demo import astronaut
from editproof.budgets import Linf
from editproof.photo.reading import save_png
from editproof.protection.files import protect_photos

pytest.importorskip("gradio", reason="pip install 'editproof[app]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'editproof[dev]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip
CLOSING = (
    "AbortError: signal is aborted",
    "Unexpected error Connection errored out",
    "No draw texture found for",
)  # Gradio's, on a reload
PATIENCE = 120_000  # milliseconds; a machine may have much else to do
SIDE = 256  # of the portrait
FADED = """() => document.getAnimations().every(
  one => !(one instanceof CSSTransition) || one.playState !== "running")"""  # colours fade in
SAID = """page => page.textContent + [...page.querySelectorAll("*")].flatMap(
  part => ["aria-label", "title", "alt", "placeholder"].map(name => part.getAttribute(name) ?? "")).join("\\n")"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[app_server.Served]:
    folder = tmp_path_factory.mktemp("app")
    with app_server.running(folder / "log", "--results", str(folder)) as served:
        yield served
        assert not served.our_errors()


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable]:
    """A language's windows, which share what they have fetched."""
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield cache(lambda locale: chromium.new_context(locale=locale))
        chromium.close()


@pytest.fixture
def visitor(served: app_server.Served, browser: Callable) -> Iterator[Callable]:
    """Opens the page as a new visitor; at the end, nobody's page has complained or asked another computer."""
    pages, said, asked = [], [], []

    def enter(width: int = 1280, scheme: str = "light", locale: str = "en-US") -> Any:
        page = browser(locale).new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.answers = set()  # that the page still waits for
        page.on("request", lambda request: page.answers.add(request) if "/queue/data" in request.url else None)
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: page.answers.discard(request))
        page.goto(served.url)
        page.locator("#protect").wait_for()
        return page

    yield enter
    for page in pages:
        page.close()
    elsewhere = [url for url in asked if not url.startswith((served.url, "data:", "blob:"))]
    said = [text for text in said if not text.startswith(CLOSING)]
    assert asked and not elsewhere and not said


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_png(tmp_path / "photo one.png", tiny.pictures(1, 100, 150)[0])
    return tmp_path / "photo one.png"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who is found."""
    path = tmp_path_factory.mktemp("portrait") / "portrait.png"
    save_png(path, astronaut(SIDE)[0][0])
    return path


def upload(page: Any, files: Any) -> None:
    """Into the Protect tab; returns once the page has looked at it."""
    page.locator("#photos input[type=file]").set_input_files(files)
    page.locator("#found img, .problem").first.wait_for()


def settle(page: Any) -> None:
    """Wait until everything that was asked for is answered."""
    page.wait_for_timeout(100)  # for what an answer asks for
    while page.answers:
        page.wait_for_timeout(50)


def protect(page: Any) -> None:
    page.locator("#protect").click()
    page.locator("#protect-status", has_text="Done").wait_for()
    page.locator("#slider img").first.wait_for()


def download(page: Any) -> bytes:
    with page.expect_download() as waiting:
        page.locator("#download").click()
    return Path(waiting.value.path()).read_bytes()


@cache
def library(photo: Path, mask: str | None = "auto", eps: float = 8 / 255, method: str = "immunizer") -> Path:
    """What the library makes of a photo with the page's settings: the file."""
    out = photo.parent / f"library-{method}-{round(eps * 255)}"
    editor = None if method == "immunizer" else "tiny-inpaint"
    (report,) = protect_photos(
        [photo], out, method=method, editor=editor, mask=mask, preset="fast", budget=Linf(eps)
    )  # fmt: skip
    return out / report["protected"]


def check_accessible(page: Any) -> None:
    """No finding of axe-core that it calls serious or critical."""
    page.wait_for_function(FADED)
    found = axe.Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], [node["target"] for node in one["nodes"]]) for one in serious]


@pytest.mark.parametrize(("width", "scheme"), [(1920, "light"), (768, "dark"), (390, "dark")])
def test_upload_find_protect_download(width: int, scheme: str, visitor: Callable, portrait: Path) -> None:
    page = visitor(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not re.search(r"\b(tiny-inpaint|eps|SSIM|PSNR|seed)\b", page.inner_text("body"), flags=re.IGNORECASE)
    assert "It cannot stop every editor" in page.inner_text("#honest")
    if width != 390:
        check_accessible(page)
    upload(page, portrait)
    page.locator("#note", has_text="One person was found").wait_for()
    page.locator("#looks img").first.wait_for()
    protect(page)
    button = page.locator("#download").bounding_box()
    assert button["x"] >= 0 and button["x"] + button["width"] <= width
    assert button["y"] - page.locator("#protect").bounding_box()["y"] < 300  # right below the button that was pressed
    page.get_by_role("button", name="Figures, what was changed").click()
    page.locator("#change img").wait_for()
    assert "PSNR" in page.inner_text("#facts") and "never impossible" in page.inner_text("#facts")
    check_accessible(page)
    assert download(page) == library(portrait).read_bytes()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_thorough_is_chosen_on_the_first_screen(visitor: Callable, photo: Path) -> None:
    page = visitor(390)
    how = page.locator("#how")
    assert how.get_by_label("Quick", exact=True).is_checked()
    page.get_by_role("button", name="More settings").click()
    page.locator("#other input").click()
    page.get_by_role("option", name="photoguard-encoder").click()
    sync_api.expect(how.get_by_label("Quick", exact=True)).not_to_be_checked()
    how.get_by_label("Thorough").check()
    sync_api.expect(page.locator("#other input")).to_have_value("None: what is chosen in step 3")
    upload(page, photo)
    page.locator("#looks", has_text="“Thorough” takes longer").wait_for()
    settle(page)
    protect(page)
    assert download(page) == library(photo, method="autoencoder").read_bytes()
    page.reload()
    page.locator("#slider img").first.wait_for()
    assert how.get_by_label("Thorough").is_checked()


def test_by_keyboard_alone(visitor: Callable, portrait: Path) -> None:
    """Tab, arrows, Enter and Space reach everything: the strength, who is protected, both lines, the download."""
    page = visitor(1280)
    upload(page, portrait)
    page.locator("#looks img").first.wait_for()
    focused = "document.activeElement.matches"

    def tab_to(selector: str) -> Any:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"{focused}({selector!r})"):
                return page.locator(selector).first
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#found img")
    page.locator(".cross").wait_for()
    page.keyboard.press("Enter")  # in the middle, where the person is
    page.locator("#note", has_text="Nobody is chosen").wait_for()
    page.keyboard.press("Enter")
    page.locator("#note", has_text="One person").wait_for()
    tab_to("#who input")
    page.keyboard.press("Space")
    page.locator("#note", has_text="Nobody is chosen").wait_for()
    page.keyboard.press("Space")
    page.locator("#note", has_text="One person").wait_for()
    settle(page)
    tab_to("#strength input[type=range]")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.locator("#level", has_text="Plain to see").wait_for()
    settle(page)
    before = tab_to("#looks input")
    page.keyboard.press("ArrowRight")
    assert "51%" in page.locator(".pair").first.get_attribute("style") and before.get_attribute("aria-label")
    tab_to("#protect")
    page.keyboard.press("Enter")
    page.locator("#slider img").first.wait_for()
    line = tab_to("#slider [role=slider]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert line.get_attribute("aria-valuenow") == "60"
    covered = re.search(r"inset\(0px 0px 0px ([\d.]+)%", page.locator("#slider img").nth(1).get_attribute("style"))
    assert float(covered[1]) == pytest.approx(60, abs=1.5)
    page.locator("#protect").focus()
    tab_to("#download")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert Path(waiting.value.path()).read_bytes() == library(portrait, eps=11 / 255).read_bytes()


@pytest.mark.parametrize("language", texts.LANGUAGES[1:])
def test_other_languages(language: str, visitor: Callable, photo: Path) -> None:
    page, own = visitor(390, locale=f"{language}-{language.upper()}"), texts.catalog(language)
    page.get_by_role("tab", name=own["tab_protect"]).wait_for()
    upload(page, photo)
    page.locator("#region").get_by_label(own["what_whole"]).check()
    page.locator("#note", has_text=own["whole_told"]).wait_for()
    page.locator("#looks", has_text=own["look_smooth"]).wait_for()
    page.locator("#protect").click()
    page.locator("#protect-status", has_text=own["done_1"]).wait_for()
    page.locator("#slider [role=slider]").wait_for()
    assert page.evaluate("document.documentElement.lang") == language
    english = {text for text in texts.catalog("en").values() if len(text) > 12 and "{" not in text} - set(own.values())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})  # all tabs have a place
    for tab, title in {"protect": "step_2", "check": "check_title", "edit": "edit_intro", "compare": "compare_intro",
                       "results": "results_none"}.items():  # fmt: skip
        page.get_by_role("tab", name=own[f"tab_{tab}"]).click()
        page.get_by_text(own[title]).first.wait_for()
        if tab in ("check", "edit"):
            page.get_by_text(own["check_some"]).locator("visible=true").wait_for()  # it is told when the tab is opened
        shown = page.locator(".gradio-container").evaluate(SAID)
        assert own[title] in shown and not [text for text in english if text in shown]


def test_several_photos_and_a_bad_one(visitor: Callable, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    save_png(tmp_path / "two.png", tiny.pictures(2, 96, 64)[1])
    page = visitor()
    upload(page, tmp_path / "bad.png")
    bad = page.locator("#protect-status .problem")
    assert "bad.png' is not a picture that can be read" in bad.inner_text() and "/" not in bad.inner_text()
    page.locator("#photos").get_by_label("Clear").click()
    page.locator("#region").get_by_label("Everything").check()
    page.locator("#photos input[type=file]").set_input_files([photo, tmp_path / "bad.png", tmp_path / "two.png"])
    page.locator("#which input").wait_for()
    page.locator("#protect").click()
    page.locator("#slider img").first.wait_for()
    assert "bad.png" in bad.inner_text()
    with zipfile.ZipFile(io.BytesIO(download(page))) as archive:
        assert archive.namelist() == ["photo one-protected.png", "two-protected.png"]
        assert archive.read("two-protected.png") == library(tmp_path / "two.png", None).read_bytes()


def test_three_photos_from_the_first_page_to_after_the_upload(
    visitor: Callable, served: app_server.Served, portrait: Path, photo: Path, tmp_path: Path
) -> None:
    """A newcomer's way: a portrait, a photo without people and a HEIC; the ZIP; one of them back from a website."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install 'editproof[heic]'")
    heic, back = tmp_path / "phone.heic", tmp_path / "back.jpg"
    pillow_heif.from_pillow(Image.open(portrait).crop((20, 0, 220, 200))).save(heic, quality=90)
    page = visitor(768)
    upload(page, [portrait, photo, heic])
    page.locator("#which input").wait_for()
    page.locator("#note", has_text="One person was found").wait_for()
    settle(page)
    page.locator("#protect").click()
    page.locator("#protect-status", has_text="Done. 3 files are ready").wait_for()
    page.locator("#download", has_text="Download all 3 as a ZIP").wait_for()
    with zipfile.ZipFile(io.BytesIO(download(page))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files == {made.name: made.read_bytes() for made in map(library, (portrait, photo, heic))} and len(files) == 3
    with Image.open(io.BytesIO(files["portrait-protected.png"])) as published:
        published.convert("RGB").resize((SIDE // 2, SIDE // 2)).save(back, quality=75)
    page.get_by_role("tab", name="After upload").click()
    page.locator("#check-told", has_text="Here you will read").wait_for()
    page.get_by_text("What you protected on this page.").locator("visible=true").wait_for()
    page.locator("#check-which input").click()
    page.get_by_role("option", name="portrait-protected.png").click()
    page.locator("#check-downloaded input[type=file]").set_input_files(back)
    page.locator("#check-downloaded", has_text="back").wait_for()
    page.locator("#check").click()
    page.locator("#check-told h3").wait_for()
    told = page.inner_text("#check-told")
    left = check_download(portrait, library(portrait), back, editors=[]).perturbation_left
    assert 0 < left < 1 and f"what the protection added is left: {left:.0%}." in told
    assert f"{SIDE // 2} x {SIDE // 2} pixels (JPEG)" in told and "This is no promise" in told


def test_stop_ends_the_computation(visitor: Callable, served: app_server.Served, photo: Path) -> None:
    page, photo = visitor(), photo.rename(photo.with_name("nobody else's.png"))
    upload(page, photo)
    page.get_by_role("button", name="More settings").click()
    page.locator("#other input").click()
    page.get_by_role("option", name="photoguard-encoder").click()
    page.locator("#protect").click()
    page.locator("#protect-status", has_text="Protecting nobody else's.png, about").wait_for()
    stopped = served.computations("stopped")
    page.locator("#protect-stop").click()
    page.locator("#protect-status", has_text="Stopped").wait_for()
    served.wait_until(lambda: served.computations("stopped") > stopped)  # a step that was begun ends
    assert not [path for path in served.files() if path.name.startswith("nobody else's-protected")]


def test_two_visitors_at_once(visitor: Callable, photo: Path, tmp_path: Path) -> None:
    save_png(tmp_path / "other.png", tiny.pictures(2, 100, 120)[1])
    pages = {file: visitor() for file in (photo, tmp_path / "other.png")}
    for file, page in pages.items():
        upload(page, file)
    for page in pages.values():
        page.locator("#protect").click()
    for file, page in pages.items():
        page.locator("#slider img").first.wait_for()
        assert download(page) == library(file).read_bytes()


def test_a_reload_keeps_the_work_and_starting_over_deletes_it(
    visitor: Callable, served: app_server.Served, photo: Path
) -> None:
    save_png(photo, tiny.pictures(3, 90, 120)[2])  # a photo that nobody else has
    page = visitor()
    upload(page, photo)
    page.locator("#region").get_by_label("Everything").check()
    page.locator("#note", has_text="whole picture").wait_for()
    page.locator("#strength input[type=range]").fill("11")
    page.locator("#level", has_text="Plain to see").wait_for()
    settle(page)
    protect(page)
    first = download(page)
    for again in (page.reload, lambda: (page.goto("about:blank"), page.go_back())):
        again()
        page.locator("#slider img").first.wait_for()
        assert page.locator("#region").get_by_label("Everything").is_checked()
        assert page.locator("#strength input[type=range]").input_value() == "11"
        page.locator("#looks img").first.wait_for()
        page.locator("#photos", has_text="photo one").wait_for()
        settle(page)
        assert download(page) == first
    mine = [found for content in (photo.read_bytes(), first) for found in served.copies(content)]
    assert len(mine) >= 2
    page.locator("#start-over").click()
    served.wait_until(lambda: not any(path.exists() for path in mine))
    page.locator("#note", has_text="Choose a photo first").wait_for()


def test_what_was_painted_is_there_after_a_reload(visitor: Callable, served: app_server.Served, photo: Path) -> None:
    save_png(photo, tiny.pictures(4, 100, 150)[3])
    page = visitor()
    page.locator("#region").get_by_label("What I paint over").check()
    page.locator("#photos input[type=file]").set_input_files(photo)
    page.locator("#painter canvas").first.wait_for()
    page.locator("#looks img").first.wait_for()
    settle(page)
    page.wait_for_timeout(1000)  # the painter fits its picture in
    page.locator("#painter canvas").first.scroll_into_view_if_needed()
    box = page.locator("#painter canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 15, y)
    page.mouse.down()
    page.mouse.move(x + 15, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    settle(page)
    protect(page)
    first = download(page)
    for _ in range(3):
        page.reload()
        page.locator("#slider img").first.wait_for()
        page.locator("#painter canvas").first.wait_for()
        settle(page)
        page.locator("#protect-status", has_text="Done").wait_for()
        done = served.computations("done")
        page.locator("#protect").click()
        served.wait_until(lambda done=done: served.computations("done") > done)
        settle(page)
        assert download(page) == first


def test_what_is_left_after_an_upload(visitor: Callable, portrait: Path, tmp_path: Path) -> None:
    back = tmp_path / "from the website.jpg"
    page = visitor(390)
    page.get_by_role("tab", name="After upload").click()
    page.locator("#check").click()
    page.locator("#check-status .problem", has_text="Nothing is protected on this page yet").wait_for()
    page.get_by_role("tab", name="Protect").click()
    upload(page, portrait)
    protect(page)
    with Image.open(io.BytesIO(download(page))) as published:
        published.convert("RGB").resize((200, 200)).save(back, quality=70)
    page.get_by_role("tab", name="After upload").click()
    page.locator("#check-downloaded input[type=file]").set_input_files(back)
    page.locator("#check-downloaded", has_text="from the").wait_for()
    page.locator("#check").click()
    page.locator("#check-told h3").wait_for()
    told = page.inner_text("#check-told")
    checked = check_download(portrait, library(portrait), back, editors=[])
    assert f"{checked.perturbation_left:.0%}" in told
    assert f"The download has 200 x 200 pixels (JPEG); the protected photo had {SIDE} x {SIDE}." in told
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_work_goes_on_while_the_page_is_away(visitor: Callable, served: app_server.Served, photo: Path) -> None:
    page = visitor()
    upload(page, photo)
    page.get_by_role("button", name="More settings").click()
    page.locator("#other input").click()
    page.get_by_role("option", name="photoguard-encoder").click()
    page.locator("#protect").click()
    page.locator("#protect-status", has_text="Protecting photo one.png, about").wait_for()
    page.reload()
    page.locator("#protect-status", has_text="Protecting photo one.png, about").wait_for()
    page.locator("#download").wait_for()
    assert not page.locator("#protect-stop").is_visible() and page.locator("#protect").is_enabled()
    page.locator("#protect").click()
    page.locator("#protect-status", has_text="Protecting photo one.png, about").wait_for()
    stopped = served.computations("stopped")
    page.close()  # whoever stays away needs nothing computed, and nothing kept
    with served.hurrying():
        served.wait_until(lambda: served.computations("stopped") > stopped and not served.files())


def test_edit_both_compare_and_results(visitor: Callable, served: app_server.Served) -> None:
    page = visitor()
    page.get_by_role("tab", name="Try to edit").click()
    page.locator("#edit").click()
    page.locator("#edit-status .problem", has_text="Nothing is protected on this page yet").wait_for()
    page.get_by_role("tab", name="Protect").click()
    page.get_by_role("button", name="Take the example").locator("visible=true").click()
    page.locator("#found img").wait_for()
    protect(page)
    page.get_by_role("tab", name="Try to edit").click()
    page.locator("#edit-photo input").and_(page.locator("[aria-label='Photo']")).wait_for()
    page.locator("#counter input").click()
    page.get_by_role("option", name="saves it as a JPEG of quality 75", exact=True).click()
    page.locator("#edit").click()
    for name in ("original", "protected"):
        page.locator(f"#edit-{name} img").wait_for()
    assert re.search(r"edit of the original (worked|failed).*did as told: (yes|no)", page.inner_text("#edit-told"))
    page.locator("#edit-details").get_by_role("button", name="The figures").click()
    page.locator("#edit-figures", has_text="as much as another try does").wait_for()
    assert "tiny-inpaint" in page.inner_text("#edit-told") and "JPEG of quality 75" in page.inner_text("#edit-told")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Take the example").locator("visible=true").click()
    page.locator("#compare-photo", has_text="astronaut").wait_for()
    page.locator("#compare").click()
    page.locator("#figure img").wait_for()
    assert [row.split()[0] for row in page.locator("#compare-table tbody tr").all_inner_texts()] == [
        "noise",
        "immunizer",
    ]
    page.get_by_role("tab", name="Results").click()
    page.locator("#no-report", has_text="no benchmark here yet").wait_for()
    script = "document.querySelector('h1').textContent = 'it ran'"
    served.log.with_name("report.html").write_text(f"<!doctype html><h1>A report</h1><script>{script}</script>")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Results").click()
    page.frame_locator("iframe.report").locator("h1", has_text="it ran").wait_for()
