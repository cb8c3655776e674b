"""What a benchmark says in words: shares of edits that succeed, floors, worst cases, transfer; tables for people."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from editproof.bench.estimates import Cell, summarise
from editproof.bench.report.exports import comma_separated, latex, markdown
from editproof.bench.report.page import NARROW, overview, sentences, write_report
from editproof.bench.report.tables import Field
from editproof.bench.report.verdicts import success_table, test_table, transfer_tables
from editproof.bench.verdict import (
    above_floor,
    after_any,
    beaten_by,
    headline,
    left_out,
    split_on,
    transfer,
    unmatched,
)
from editproof.cli.main import main

test_table.__test__ = False  # type: ignore[attr-defined]  # a table of tests, no test
PHOTOS, SEEDS = 12, 3
# method -> counter -> of each photo's three edits, which succeed
SUCCESS = {
    "none": {"none": (1, 1, 1), "jpeg:75": (1, 1, 1), "resize:0.5": (1, 1, 1)},
    "noise": {"none": (1, 1, 1), "jpeg:75": (1, 1, 1), "resize:0.5": (1, 1, 1)},
    "strong": {"none": (0, 0, 1), "jpeg:75": (0, 1, 0), "resize:0.5": (0, 0, 1)},
}
COUNTERS = ("none", "jpeg:75", "resize:0.5")
CHANGE = {"none": 0.0, "noise": 0.1, "strong": 0.4}


def made_up(editor: str = "e", success: dict = SUCCESS, on: str = "") -> list[dict[str, Any]]:
    rows = []
    for method, counters in success.items():
        for counter, answers in counters.items():
            for photo in range(PHOTOS):
                for seed in range(SEEDS):
                    change = CHANGE[method] + 0.001 * photo
                    done = float(answers[seed])
                    metrics = {"success": done, "kept": 1.0, "obeyed": done, "broken": 0.0, "psnr": 30.0,
                               "change": change, "chance": 0.3 if seed else 0.5, "disruption": change / 0.3,
                               "region-ssim": 1 - change}  # fmt: skip
                    label = f"{method}{on}" if method == "strong" else method
                    rows.append({"photo": f"{photo:02}.png", "method": label, "editor": editor, "counter": counter,
                                 "budget": "0" if method == "none" else "8/255", "prompt": "plain red background",
                                 "seed": seed, "norm": None, "eps": 0.0, "metrics": metrics})  # fmt: skip
    return rows


def test_the_headline() -> None:
    rows = made_up()
    lines = headline(summarise(rows), rows, "e", ["none", "strong", "noise"])
    assert lines[0].startswith("e: of 36 edits of 12 unprotected photos 100\u00a0% [76, 100] succeed")
    assert lines[1] == "With random noise (8/255): 100\u00a0% [76, 100]; after jpeg:75 100\u00a0% [76, 100]."
    assert lines[2].startswith("Protected by strong (8/255): 33\u00a0% [") and "67\u00a0%" in lines[2]
    assert "if every counter-attack is tried" in lines[2] and len(lines) == 3


def test_what_cannot_be_known_is_said() -> None:
    rows = made_up()
    for row in rows:
        row["metrics"]["success"] = None
    assert "no prompt has a result that is known" in headline(summarise(rows), rows, "e", ["none", "strong"])[0]
    for row in rows:
        del row["metrics"]["success"]
    assert "was not measured (metric `success`" in headline(summarise(rows), rows, "e", ["none", "strong"])[0]
    assert success_table(summarise(rows), rows, "e", ["none", "strong"], []) == []


def test_an_attacker_who_tries_everything() -> None:
    """Of seeds 0, 1, 2 one succeeds at once and another after JPEG: two of three."""
    found = after_any(made_up())
    assert found[Cell("e", "strong", "8/255", "any")]["success"].mean == pytest.approx(2 / 3)
    assert found[Cell("e", "none", "0", "any")]["success"].mean == 1
    assert found[Cell("e", "strong", "8/255", "any")]["success"].edits == PHOTOS * SEEDS
    cut = [r for r in made_up() if (r["counter"], r["photo"]) != ("resize:0.5", "00.png") or r["method"] != "strong"]
    found = after_any(cut)  # a run that was stopped: of one photo not everything has been tried
    assert found[Cell("e", "strong", "8/255", "any")]["success"].edits == (PHOTOS - 1) * SEEDS


def test_photos_that_could_not_be_made_visible_enough_are_told() -> None:
    rows = [
        {**row, "budget": "psnr=28", "eps": 64 / 255 if row["photo"] < "03" else 0.1} if row["budget"] != "0" else row
        for row in made_up()
    ]
    lines = headline(summarise(rows), rows, "e", ["none", "strong", "noise"])
    assert next(line for line in lines if "could not be made" in line).startswith("e: 3 of 12 photos protected by ")
    rows = [{**row, "budget": row["budget"].replace("28", "30")} for row in rows]  # reached
    assert not unmatched(rows) and not unmatched(made_up())


def test_only_what_exceeds_both_floors_is_counted() -> None:
    """.4 is above noise's .1 and, with two seeds, above what another one changes, .3; with the third, .5, it is not."""
    rows = made_up()
    assert above_floor(rows)[Cell("e", "strong", "8/255", "none")].mean == 0
    found = above_floor([row for row in rows if row["seed"]])
    assert found[Cell("e", "strong", "8/255", "none")].mean == 1
    assert not any(cell.method in ("none", "noise") for cell in found)
    told = [{**row, "method": "noise:mask=untold"} if row["method"] == "noise" else row for row in rows]
    assert above_floor(told).keys() == above_floor(rows).keys() == {Cell("e", "strong", "8/255", c) for c in COUNTERS}
    loud = [{**row, "metrics": {**row["metrics"], "change": 0.9}} if row["method"] == "noise" and row["photo"] ==
            "00.png" and row["seed"] == 2 else row for row in rows if row["seed"]]  # fmt: skip
    assert above_floor(loud)[Cell("e", "strong", "8/255", "none")].mean == pytest.approx(11 / 12)
    assert above_floor([row for row in rows if row["method"] != "noise"]) == {}


def test_how_many_more_edits_fail_than_both_floors_let_fail() -> None:
    rows = made_up()
    gain = beaten_by(summarise(rows), Cell("e", "strong", "8/255", "none"))
    assert gain is not None and gain.mean == pytest.approx(2 / 3) and 0.29 < gain.low < 2 / 3 < gain.high < 0.9
    assert beaten_by(summarise(rows), Cell("e", "noise", "8/255", "none")) is None
    weak_noise = made_up(success={**SUCCESS, "noise": {"none": (0, 1, 1)}})
    gain = beaten_by(summarise(weak_noise), Cell("e", "strong", "8/255", "none"))
    assert gain is not None and gain.mean == pytest.approx(1 / 3)  # what noise does as well is not the method's


def test_tables() -> None:
    rows = made_up()
    summary = summarise(rows)
    lines = success_table(summary, rows, "e", ["none", "noise", "strong"], ["psnr"])
    assert [line["method"].text for line in lines] == ["none", "noise", "strong"]
    strong = lines[2]
    assert strong["edits succeed"].value == pytest.approx(1 / 3) and strong[
        "all counters tried"
    ].value == pytest.approx(2 / 3)
    assert strong["fail beyond both floors"].value == pytest.approx(2 / 3) and strong["psnr"].value == 30
    tests = test_table(summary, "e", ["none", "noise", "strong"], "disruption")
    assert [line["methods"].text for line in tests] == ["noise - strong"]  # none has no budget
    assert tests[0]["p (Holm)"].value < 0.001 and tests[0]["first higher on"].text == "0 of 12"
    assert tests[0]["difference"].value == pytest.approx(-0.3 / 0.3667, rel=0.01)  # of the ratios of means


def test_transfer() -> None:
    """A method that attacks one editor, tested on both."""
    strong = {"strong": {"none": (0, 0, 0)}}
    weak = {"strong": {"none": (0, 1, 1)}}
    rows = [*made_up("a", {**SUCCESS, **strong}, ":on=a"), *made_up("b", {**SUCCESS, **weak}, ":on=a")]
    rows += [*made_up("a", weak, ":on=b"), *made_up("b", strong, ":on=b")]
    summary = summarise(rows)
    table = transfer(summary)["strong", "8/255"]
    assert {a: {t: e.mean for t, e in row.items()} for a, row in table.items()} == {
        "a": {"a": 0, "b": pytest.approx(2 / 3)}, "b": {"a": pytest.approx(2 / 3), "b": 0},
    }  # fmt: skip
    assert left_out(table, "a") == pytest.approx(2 / 3) and math.isnan(left_out(table, "c"))
    (lines,) = transfer_tables(summary, "success").values()
    assert [line["attacked"].text for line in lines] == ["a", "b", "(none)", "(noise)"]
    assert lines[0]["mean of those not attacked"].text == "67\u00a0%" and lines[2]["tested on b"].value == 1
    assert transfer(summarise(made_up())) == {}
    assert split_on("m:steps=2:on=x/y") == ("m:steps=2", "x/y") and split_on("m") == ("m", None)


def test_tables_for_people() -> None:
    lines = [
        {"method": Field("a_b & 5 %"), "D": Field("1.00 [0.90, 1.10]", 1.0, True, "jpeg:75")},
        {"method": Field("c")},
    ]
    assert markdown(lines).splitlines()[2:] == ["| a_b & 5 % | **1.00 [0.90, 1.10] jpeg:75** |", "| c | - |"]
    made = latex(lines, "100 % <x>")
    assert r"a\_b \& 5 \% & \textbf{1.00 [0.90, 1.10] jpeg:75} \\" in made and r"\caption{100 \% $<$x$>$}" in made
    assert made.count("{") == made.count("}") and "\u00a0" not in latex([{"m": Field("5\u00a0%")}], "")
    assert list(csv.reader(comma_separated(lines).splitlines())) == [["method", "D"], ["a_b & 5 %", "1"], ["c", ""]]


def test_the_report_leads_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_up()))
    text = write_report(tmp_path).read_text()
    assert text.index("of 36 edits of 12 unprotected photos") < text.index('class="facts"') < text.index('id="success"')
    assert {path.suffix for path in tmp_path.glob("tables.*")} == {".md", ".tex", ".csv"}
    assert "| strong | 8/255 | 33\u00a0% [" in (tmp_path / "tables.md").read_text()
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("e: of 36 edits of 12 unprotected photos")
    assert sentences(tmp_path)[2].startswith("Protected by strong") and len(overview(tmp_path)) == 2
    assert list(next(iter(overview(tmp_path).values()))[0]) == list(NARROW)
