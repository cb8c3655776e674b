"""The documentation: its examples run, its tables are the package's, its links lead somewhere, the site builds."""

import html.parser
import os
import re
import subprocess
import sys
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


def test_the_site_builds_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'editproof[docs]'")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.name: Links(path.read_text()) for path in tmp_path.glob("*.html")}
    assert {page.stem for page in PAGES if page.parent.name == "docs"} <= {Path(name).stem for name in pages}
    for name, page in pages.items():
        assert page.loads and not [address for address in page.loads if "//" in address and "data:" not in address]
        for link in page.links if name != "404.html" else ():
            address, _, place = link.partition("#")
            if "://" in link or address.startswith(("mailto:", "/")):
                continue
            target = Path(address).name or ("index.html" if address in (".", "./") else name)
            assert (tmp_path / target).exists(), (name, link)
            assert not place or urllib.parse.unquote(place) in pages[target].places, (name, link)
    assert "editproof.protection.apply.protect" in pages["reference.html"].places
    assert "24 portraits" in (tmp_path / "results.html").read_text()
