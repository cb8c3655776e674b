"""Statistics on known numbers; the report of made-up rows, opened in a browser where there is one; the figure."""

import csv
import html.parser
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from PIL import Image

from editproof.bench.estimates import Cell, Estimate, best, number, summarise, worst_counter, written
from editproof.bench.report.charts import Point, curves
from editproof.bench.report.gallery import SIDE
from editproof.bench.report.page import overview, write_report
from editproof.bench.report.tables import heat_maps, size_of
from editproof.bench.store import digest, picture_path
from editproof.cli.main import main
from editproof.metrics import METRICS
from editproof.photo.reading import save_png

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>.png'
METHODS = {"none": 0.0, "noise": 0.05, "photoguard-encoder": 0.4, "diffvax:mask=told": 0.9}
COUNTERS = {"none": 1.0, "jpeg:75": 0.5, "resize:0.5+jpeg:75": 0.25}


def made_up_rows() -> list[dict[str, Any]]:
    """Nine photos, one with a hostile name; what is left of each method after each counter is known."""
    rows = []
    chance = np.random.default_rng(0)
    for editor in ("tiny-inpaint", "a/b <i>"):
        for method, strength in METHODS.items():
            for budget, factor in {"0": 0}.items() if method == "none" else {"16/255": 2, "4/255": 0.5}.items():
                for counter, left in COUNTERS.items():
                    for photo in (*(f"{letter}.png" for letter in "abcdefgh"), HOSTILE):
                        d = strength * factor * left + chance.normal(0, 0.01)
                        key = {"photo": photo, "method": method, "budget": budget, "editor": editor, "counter": counter}
                        psnr = "inf" if method == "none" else 40 - 3 * factor
                        metrics = {"psnr": psnr, "ssim": 1 - factor / 50, "region-ssim": 1 - d, "disruption": d,
                                   "fdfr": None}  # fmt: skip
                        rows.append({**key, "prompt": "</script><b>a hat", "seed": 0, "norm": "Linf", "eps": 0.0,
                                     "metrics": metrics})  # fmt: skip
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark's folder with these rows and pictures for the first photo."""
    out = tmp_path / "out <u>"
    out.mkdir()
    rows = made_up_rows()
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = []
    original, *others = tiny.pictures(4, 300, 200)
    names = [digest("x", picture) for picture in (original, *others)]
    for name, picture in zip(names, (original, *others), strict=True):
        save_png(picture_path(out, name), picture)
    for row in rows:
        if row["photo"] in ("a.png", HOSTILE):
            pictures = dict(zip(("original", "protected", "edit", "attacked"), names, strict=True))
            lines.append({**{k: row[k] for k in row if k not in ("metrics", "norm", "eps")}, **pictures})
    (out / "pictures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    timing = {"kind": ["protect", "noise", "tiny-inpaint"], "photos": 5, "seconds_per_photo": 2.5,
              "peak_memory_bytes": 2**20, "device": "cpu"}  # fmt: skip
    (out / "timings.jsonl").write_text(json.dumps(timing) + "\n")
    published = {"source": "A <paper>", "columns": ["psnr"], "rows": {"<method>": [1.5]}}
    lists = {"editors": ["tiny-inpaint", "a/b <i>"], "methods": [*METHODS], "counters": [*COUNTERS]}
    (out / "config.yml").write_text(yaml.safe_dump({"data": "photos", **lists, "published": published}))
    (out / "run.json").write_text(json.dumps({
        "masks": "files", "skipped": [{"method": "veto", "editor": "tiny-inpaint", "why": "for others"}],
        "sessions": [{"torch": "2"}], "data_sha256": "ab" * 32}))  # fmt: skip
    return out


def test_a_photo_counts_once() -> None:
    cell = {"editor": "e", "method": "m", "budget": "b", "counter": "none"}
    measured = (("a", 0.0), ("a", 0.2), ("a", None), ("b", 0.5))
    rows = [{**cell, "photo": photo, "metrics": {"disruption": d}} for photo, d in measured]
    (found,) = summarise(rows).values()
    assert found["disruption"].mean == pytest.approx((0.1 + 0.5) / 2) and found["disruption"].photos == 2


def estimate(*values: float) -> Estimate:
    """Of a photo for each value."""
    named = {str(number): value for number, value in enumerate(values)}
    return Estimate(float(np.mean(values)), 0, 0, len(values), values=named)


UP, DOWN = [0.1 * i for i in range(9)], [1 - 0.1 * i for i in range(9)]


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("disruption", {"a": UP, "b": [v + 0.01 * (i + 1) for i, v in enumerate(UP)]}, "b"),  # intervals overlap
        ("region-ssim", {"a": UP, "b": [v + 0.01 * (i + 1) for i, v in enumerate(UP)]}, "a"),  # lower is stronger
        ("disruption", {"a": UP, "b": DOWN}, None),
        (
            "disruption",
            {"a": [0.0] * 19 + [99.0], "b": [0.1 * i for i in range(1, 21)]},
            None,
        ),  # one photo rules the mean of a
        ("disruption", {"a": UP, "b": UP}, None),
        ("disruption", {"a": [1, 2, 3, 4], "b": [2, 4, 6, 8]}, None),  # too few photos to tell
        ("disruption", {"a": UP}, None),  # alone
        ("disruption", {"a": UP, "b": [math.nan] * 9}, None),
    ],
)
def test_the_best_is_marked_only_where_a_paired_test_says_so(metric: str, values: dict, expected: str | None) -> None:
    assert best({name: estimate(*numbers) for name, numbers in values.items()}, metric) == expected


def test_disruption_is_a_ratio_of_means_and_a_median() -> None:
    cell = {"editor": "e", "method": "m", "budget": "b", "counter": "none", "prompt": "p", "seed": 0}
    parts = {"a": (0.2, 0.4), "b": (0.3, 0.1), "c": (0.1, 0.5)}  # change, chance
    rows = [
        {**cell, "photo": photo, "metrics": {"disruption": change / chance, "region-ssim": 1 - change}}
        for photo, (change, chance) in parts.items()
    ]
    (found,) = summarise(rows).values()
    assert found["disruption"].mean == pytest.approx(0.6 / 1.0) and found["disruption"].median == pytest.approx(0.5)
    unchanged = {**rows[0], "method": "none", "metrics": {"disruption": 0.0, "region-ssim": 1.0}}
    both = summarise([*rows, unchanged])  # what another seed changes is known from the other row
    assert both[Cell("e", "none", "b", "none")]["disruption"].mean == 0
    assert np.mean(list(found["disruption"].values.values())) == pytest.approx(found["disruption"].mean)  # for tests
    (only,) = summarise([{**row, "metrics": {"disruption": row["metrics"]["disruption"]}} for row in rows]).values()
    assert only["disruption"].mean == pytest.approx((0.5 + 3 + 0.2) / 3)  # without its parts


def test_what_another_seed_changes_is_known_as_exactly_as_rows_tell_it() -> None:
    """Six digits are kept of each number: the edit that changed least tells the scale worst, `chance` tells it best."""
    key = {"editor": "e", "budget": "b", "counter": "none", "prompt": "p", "photo": "a", "seed": 0}

    def row(method: str, change: float, chance: float, **more: Any) -> dict[str, Any]:
        told = {"disruption": round(change / chance, 6), "region-ssim": round(1 - change, 6)}
        return {**key, "method": method, "metrics": told, **more}

    rows = [row("strong", 0.5, 0.04), row("weak", 1.4e-6, 0.04)]  # .000001 / .000035 would be a scale of .029
    found = summarise(rows)[Cell("e", "strong", "b", "none")]["disruption"]
    assert found.mean == pytest.approx(0.5 / 0.04, rel=1e-4)
    rows = [{**r, "metrics": {**r["metrics"], "chance": 0.05}} for r in rows]
    assert summarise(rows)[Cell("e", "strong", "b", "none")]["disruption"].mean == pytest.approx(0.5 / 0.05)
    still = [row(method, 0.0, 0.04, photo="b") for method in ("strong", "weak")]  # a photo that nothing changes
    found = summarise([row("strong", 0.5, 0.04), *still])[Cell("e", "strong", "b", "none")]["disruption"]
    assert found.mean == pytest.approx(0.5 / 0.08, rel=1e-4)  # its scale is the editor's, not 1


def test_worst_counters_are_compared_on_one_scale() -> None:
    """After a counter-attack that changes edits much by itself, the same ratio is a larger change."""
    rows = []
    for photo in range(9):
        for method, counter, chance in (("a", "jpeg:75", 0.1), ("b", "blur:1", 0.4)):
            change = (1 + 0.01 * photo + 0.1 * (method == "a")) * chance  # a is a little stronger on every photo
            key = {"editor": "e", "budget": "b", "counter": counter, "prompt": "p", "photo": str(photo), "seed": 0}
            metrics = {"disruption": change / chance, "region-ssim": 1 - change}
            rows.append({**key, "method": method, "metrics": metrics})
    cells = {cell.method: estimates["disruption"] for cell, estimates in summarise(rows).items()}
    assert best(cells, "disruption") == "a"


def test_what_the_strongest_counter_attack_leaves() -> None:
    summary = summarise(made_up_rows())
    cell = Cell("tiny-inpaint", "photoguard-encoder", "16/255", "none")
    counter, estimate = worst_counter(summary, cell, "disruption")  # type: ignore[misc]
    assert counter == "resize:0.5+jpeg:75" and estimate.mean == pytest.approx(0.2, abs=0.02)
    counter, estimate = worst_counter(summary, cell, "region-ssim")  # type: ignore[misc]
    assert counter == "resize:0.5+jpeg:75" and estimate.mean == pytest.approx(0.8, abs=0.02)
    assert worst_counter(summary, cell, "fdfr") is None
    (heat, _) = heat_maps(
        summary, "tiny-inpaint", ["none", "noise", "diffvax:mask=told"], ["none", "jpeg:75"], "disruption"
    )
    assert heat.budget == "4/255"
    shares = {method: [cell[1] for cell in cells if cell] for method, cells in heat.lines}
    assert shares["none"] == pytest.approx([0, 0], abs=0.02)
    assert shares["diffvax:mask=told"] == pytest.approx([0.25, 0.125], abs=0.02)  # of 1.8, the largest of all


def test_numbers_as_they_are_written() -> None:
    assert [number(x) for x in (0.04567, 0.4567, 4.567, 45.67, 456.7, math.inf, math.nan)] == [
        "0.046", "0.457", "4.57", "45.7", "457", "∞", "-",
    ]  # fmt: skip
    assert written(Estimate(0.5, 0.25, 0.75, 9)) == "0.500 [0.250, 0.750]"
    assert written(Estimate(0.305, 0.236, 0.389, 9), share=True) == "30\u00a0% [24, 39]"
    assert written(Estimate(0.996, 0.98, 1.0, 9), share=True) == "99.6\u00a0% [98, 100]"  # 100 would say that all do
    assert written(Estimate(-0.004, -1.0, 0.0, 9), share=True) == "-0.4\u00a0% [-100, 0]"
    assert written(Estimate(0.5, 0.25, 0.75, 9, 0.4), with_median=True) == "0.500 [0.250, 0.750], median 0.400"
    assert written(Estimate(0.5, math.nan, math.nan, 1)) == "0.500" and written(None) == "-"
    assert sorted(["paper", "psnr=32", "16/255", "l2:8", "0.03", "4/255", "0"], key=size_of) == [
        "0", "4/255", "0.03", "16/255", "l2:8", "paper", "psnr=32",
    ]  # fmt: skip


def test_curves_stay_in_their_frame() -> None:
    sure, unsure = Estimate(1, 0.9, 1.1, 5), Estimate(2, math.nan, math.nan, 1)
    drawing = str(curves({"a": [Point("4/255", sure, unsure), Point("8/255", unsure, sure)], "b": []}, "x", "y <z>"))
    assert "<z>" not in drawing and drawing.count('class="dot"') == 2 and drawing.count('class="bar"') == 1
    places = [float(number) for number in re.findall(r'(?:x1|x2|y1|y2)="([\d.-]+)"', drawing)]
    assert min(places) >= 0 and max(places) <= 640
    assert curves({"a": []}, "x", "y") == ""
    assert "nan" not in str(curves({"a": [Point("4/255", Estimate(math.inf, 1, 1, 5), sure)]}, "x", "y"))


class Page(html.parser.HTMLParser):
    """Counts tags, keeps what refers to elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_report_is_one_file_that_needs_no_other(folder: Path) -> None:
    text = write_report(folder).read_text()
    page = Page(text)
    assert page.addresses and all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.tags.count("script") == 1  # ours: no name or prompt has become one
    assert "b" not in page.tags[: page.tags.index("header")] and "u" not in page.tags and "i" not in page.tags
    assert "&lt;img src=x onerror=alert(2)&gt;" in text and "&lt;method&gt;" in text and "A &lt;paper&gt;" in text
    assert page.tags.count("img") == 2 * 2 * (2 + 3 * 3)  # editors, photos; photo and edit; three of each method
    assert page.tags.count("svg") > 4
    for words in ("veto on tiny-inpaint", "--config config.yml --data photos", "torch 2", "summary.csv"):
        assert words in text
    lines = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert len(lines) == 2 * (1 + 3 * 2) * 3 * 5
    one = next(x for x in lines if x["method"] == "diffvax:mask=told" and x["metric"] == "disruption")
    assert float(one["low"]) <= float(one["mean"]) <= float(one["high"]) and (one["photos"], one["edits"]) == ("9", "9")
    assert one["median"] and {line["median"] for line in lines if line["metric"] == "psnr"} == {""}


def test_the_report_marks_the_best(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert text.count('class="best"') == 2 * 2 * 2  # editors, budgets; disruption and what the worst counter leaves
    (first, second) = overview(folder).values()
    assert [line["method"] for line in first] == [*METHODS, *list(METHODS)[1:]]
    assert [line["budget"] for line in first] == ["0"] + ["4/255"] * 3 + ["16/255"] * 3
    assert [line["method"] for line in first if "*" in line["disruption"]] == ["diffvax:mask=told"] * 2
    assert first[1]["s/photo"] == "2.50" and second[1]["s/photo"] == "-"
    assert first[3]["disruption, worst counter"].endswith("resize:0.5+jpeg:75")


def test_pictures_are_small_and_few(folder: Path) -> None:
    assert Page(write_report(folder, photos=0).read_text()).tags.count("img") == 0
    text = write_report(folder, photos=1).read_text()
    assert Page(text).tags.count("img") == 2 * (2 + 3 * 3)
    shutil.rmtree(folder / "cache")  # rows without pictures, as they are published
    assert Page(write_report(folder).read_text()).tags.count("img") == 0
    assert SIDE <= 256 and len(text) < 500_000


def test_a_report_of_one_row_and_of_every_metric(tmp_path: Path) -> None:
    row = made_up_rows()[40]
    for metrics in (dict.fromkeys(METRICS, 0.5), {"psnr": 30.0}, {"clip-t": None}):
        (tmp_path / "results.jsonl").write_text(json.dumps({**row, "metrics": metrics}) + "\n")
        assert "<h2" in write_report(tmp_path).read_text()
        assert main(["report", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no results.jsonl"),
        ('{"photo": "half a ro', "holds no results.jsonl"),
        ('{"photo": 1}\n', "no rows of"),
        ("nothing\n", "line 1 is damaged"),
        ('{"photo": "a", "method": "m", "budget": "b", "editor": "e", "prompt": "p", "seed": 0, "counter": "none", '
         '"metrics": {"nothing": 1}}\n', "unknown metric 'nothing'"),
    ],
)  # fmt: skip
def test_folders_that_are_no_benchmark(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.jsonl").write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_the_report_in_a_browser(folder: Path) -> None:
    """Needs playwright and a Chromium: pip install playwright, and `playwright install chromium` or the system's."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright to open the report")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    page_file = write_report(folder)
    with sync_api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("dialog", lambda dialog, said=said: (said.append(dialog.message), dialog.dismiss()))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            page.click("#summary ~ div th:nth-child(3) button")  # disruption
            order = page.eval_on_selector_all(
                "#summary ~ div >> nth=0 >> tbody tr", "rows => rows.map(row => Number(row.cells[2].dataset.value))"
            )
            assert order == sorted(order) and len(order) == 7
            before = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.click("#theme")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert said == []
            assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
            page.close()
        browser.close()


def test_figure_of_many_photos(tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, size in (("a", (64, 64)), ("b", (48, 96))):
        save_png(tmp_path / f"{name}.png", tiny.pictures(1, *size)[0])
        save_png(tmp_path / "masks" / f"mask_{name}.png", tiny.hole(1, *size)[0].expand(3, -1, -1))
    photos = [str(tmp_path / f"{name}.png") for name in "ab"]
    command = ["compare", *photos, "--prompt", "a hat", "--editor", str(tiny_folder("sd-inpaint")), "--out",
               str(tmp_path / "figure.png"), "--methods", "noise,photoguard-encoder:steps=1"]  # fmt: skip
    assert main([*command, "--mask", str(tmp_path / "masks")]) == 0
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width == 2 * 16 + 4 * 256 + 3 * 8
        assert 2 * 16 + 256 + 128 < figure.height < 2 * 16 + 256 + 128 + 200
    for more, said in (([], "exists"), (["--overwrite", "--methods", "decontext"], "decontext works on"),
                       (["--overwrite", "--methods", "nothing"], "unknown"),
                       (["--overwrite", "--mask", photos[0]], "black-and-white"),
                       (["--overwrite", "--mask", str(tmp_path / "figure.png")], "another name"),
                       (["--overwrite", "--mask", str(tmp_path)], "") ,
                       (["--out", str(tmp_path / "f.jpg")], ".png")):  # fmt: skip
        capsys.readouterr()
        code = main([*command, *more])
        assert (code == 2 and said in capsys.readouterr().err) or (not said and code == 0)


def test_figure_of_a_data_folder(tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By number, each photo with its own prompt and mask, and a column for the masks."""
    data, lines = tmp_path / "data" / "validation", []
    for i in range(3):
        save_png(data / "images" / f"image_{i}.png", tiny.pictures(1, 64, 64)[0])
        save_png(data / "masks" / f"mask_image_{i}.png", tiny.hole(1, 64, 64)[0].expand(3, -1, -1))
        lines.append(json.dumps({"file_name": f"images/image_{i}.png", "prompts": [f"hat {i}", "none"]}))
    (data / "metadata.jsonl").write_text("\n".join(lines))
    command = ["compare", "--data-dir", str(tmp_path / "data"), "--editor", str(tiny_folder("sd-inpaint")), "--methods",
               "noise", "--show-mask", "--out", str(tmp_path / "figure.png")]  # fmt: skip
    assert main([*command, "--images", "2,0"]) == 0
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width == 2 * 16 + 4 * 256 + 3 * 8
        assert 2 * 256 < figure.height < 2 * 256 + 200
    for more, said in ((["--images", "5"], "allowed: 0 to 2"), (["--images", "x"], "allowed are numbers"),
                       ([str(tmp_path / "figure.png")], "one of the two")):  # fmt: skip
        capsys.readouterr()
        assert main([*command, "--overwrite", *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["compare", "--out", str(tmp_path / "f.png"), "--prompt", "a"]) == 2
