"""The documentation: its examples run, its tables are the package's, its links lead somewhere, the site builds."""

import functools
import html.parser
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

from editproof.cli.models_table import editors_table, methods_table
from editproof.methods import METHODS
from editproof.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "training" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_a_method_an_editor_and_a_metric_of_ones_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editproof.methods.METHODS", METHODS)
    text = (ROOT / "docs" / "researchers.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    names: dict = {}
    try:
        exec(compile(code, "docs/researchers.md", "exec"), names)
    finally:
        METHODS.pop("far-latents", None)
        METRICS.pop("warmth", None)
    said = capsys.readouterr().out
    assert said.count("tensor([") == 3 and "nan" not in said
    change = (names["protected"] - names["photo"]).abs()
    assert 0 < change.max() <= 16 / 255 + 1e-6 and (change * names["mask"]).max() == 0
    edits = names["edits"]
    assert names["edited"].shape == names["photo"].shape and (names["edited"] != edits[0]).any()


@pytest.mark.parametrize(("what", "table"), [("methods", methods_table), ("editors", editors_table)])
def test_tables_are_the_packages(what: str, table: object) -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    assert f"<!-- {what} -->\n{table()}\n<!-- /{what} -->" in text  # type: ignore[operator]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#", address):
            assert (page.parent / address.partition("#")[0]).exists(), address


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_each_page_says_first_for_whom_it_is(page: Path) -> None:
    assert re.match(r"# [^\n]+\n\n\*For [^*\n]+\.\*(\s|$)", page.read_text())


class Links(html.parser.HTMLParser):
    """What a page loads, what it links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found["id"]} if "id" in found else set()
        if "src" in found or (tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect")):
            self.loads.append(found.get("src") or found["href"])
        elif tag == "a" and "href" in found:
            self.links.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="pip install 'editproof[docs]'")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("way", ["disk", "http"])
def test_the_site_is_searched_and_fits_a_phone(way: str, site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"{site.as_uri()}/" if way == "disk" else f"http://127.0.0.1:{server.server_port}/"
    asked, said = [], []
    with sync_api.sync_playwright() as play:
        page = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{base}index.html")
        meta = page.locator(".md-search-result__meta")
        page.locator(".md-search__input").click()
        meta.filter(has_text="Type to start searching").wait_for()
        page.keyboard.type("coordinates", delay=20)
        meta.filter(has_text="matching document").wait_for()
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url(lambda url: "index.html" not in url)
        assert "oordinates" in page.inner_text("article")
        page.set_viewport_size({"width": 390, "height": 844})
        for name in sorted({path.name for path in site.glob("*.html")} - {"404.html"}):  # servers give that one
            page.goto(f"{base}{name}")
            page.wait_for_function("document.documentElement.classList.contains('js')")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, (
                name
            )  # wide tables scroll by themselves
        page.close()
    server.shutdown()
    server.server_close()
    assert not said and not [url for url in asked if not url.startswith((base, "data:", "blob:", "about:"))]


def test_the_site_builds_and_needs_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.name: Links(path.read_text()) for path in site.glob("*.html")}
    assert {page.stem for page in PAGES if page.parent.name == "docs"} <= {Path(name).stem for name in pages}
    for name, page in pages.items():
        assert page.loads and not [address for address in page.loads if "//" in address and "data:" not in address]
        for link in page.links if name != "404.html" else ():
            address, _, place = link.partition("#")
            if "://" in link or address.startswith(("mailto:", "/")):
                continue
            target = Path(address).name or ("index.html" if address in (".", "./") else name)
            assert (site / target).exists(), (name, link)
            assert not place or urllib.parse.unquote(place) in pages[target].places, (name, link)
    assert "editproof.protection.apply.protect" in pages["reference.html"].places
    assert "24 portraits" in (site / "results.html").read_text()
