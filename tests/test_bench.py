"""The benchmark on tiny random editors: its rows, going on after kill -9, matching of visibility, data, settings."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import typer
import yaml
from PIL import Image

from editproof.bench import config as bench_config
from editproof.bench import run as benchmark
from editproof.bench.config import make_config
from editproof.bench.data import BenchPhoto, centred_mask, mask_source, read_photos
from editproof.bench.methods import match_visibility, parse_method
from editproof.bench.rows import prompts_for
from editproof.bench.run import run_bench
from editproof.bench.store import OWN, Store, from_json, key_of, read_lines, read_rows, to_json
from editproof.cli.main import app, main
from editproof.editors import EDITORS
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.metrics import METRICS, Trial, psnr
from editproof.photo.reading import open_photo, save_png

FAST = {"size": 64, "edit_steps": 1, "prompts": ["a hat"], "counters": ["none", "jpeg:50"], "batch": 2, "seeds": [0]}
FEW = ["psnr", "region-ssim", "disruption"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos with masks, one of another shape."""
    folder = tmp_path_factory.mktemp("data")
    for i, picture in enumerate([*tiny.pictures(2, 64, 64), tiny.pictures(1, 48, 84)[0]]):
        save_png(folder / "images" / f"p{i}.png", picture)
        mask = tiny.hole(1, *picture.shape[-2:])[0].expand(3, -1, -1)
        save_png(folder / "masks" / f"mask_p{i}.png", mask)
    return folder


@pytest.fixture
def bench(data: Path, tiny_folder: Callable, tmp_path: Path) -> Callable:
    """Run with FAST's settings and others; -> the rows. Editors are tiny ones by their kind."""

    def run(out: str = "out", **more: Any) -> list[dict[str, Any]]:
        values = {"data": str(data), "metrics": FEW, "editors": ["sd-inpaint"], **FAST, **more}
        values["editors"] = [str(tiny_folder(name)) for name in values["editors"]]
        run_bench(make_config(values), tmp_path / out)
        return read_rows(tmp_path / out / "results.jsonl")

    return run


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of an editor has edited."""
    counted: list[int] = []
    plain = Editor.edit

    def edit(self: Editor, images: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        counted.append(len(images))
        return plain(self, images, *more, **named)

    monkeypatch.setattr(Editor, "edit", edit)
    return counted


METHODS = ["none", "noise", "photoguard-encoder:steps=2", "diffusionguard:steps=2", "decontext:steps=2"]


def test_a_row_for_each_combination_and_nothing_twice(bench: Callable, edits: list[int], tmp_path: Path) -> None:
    wanted = {"editors": ["sd-inpaint", "flux-kontext"], "methods": METHODS, "budgets": ["4/255", "paper"],
              "seeds": [0, 5], "limit": 2}  # fmt: skip
    rows = bench(**wanted)
    assert set(Counter(map(key_of, rows)).values()) == {1}
    assert len(rows) == 2 * 2 * 2 * 2 * (1 + 2 * 3)  # editors, photos, counters, seeds, none and 3 methods with budgets
    assert {r["editor"] for r in rows if r["method"].startswith("diffusionguard")} == {"sd-inpaint"}
    assert {r["editor"] for r in rows if r["method"].startswith("decontext")} == {"flux-kontext"}
    skipped = json.loads((tmp_path / "out" / "run.json").read_text())["skipped"]
    assert {(s["method"], s["editor"]) for s in skipped} == {
        ("decontext:steps=2", "sd-inpaint"), ("diffusionguard:steps=2", "flux-kontext"),
    }  # fmt: skip
    for row in rows:
        metrics = {name: from_json(value) for name, value in row["metrics"].items()}
        assert set(metrics) == set(FEW)
        if row["method"] == "none":
            assert metrics["psnr"] == float("inf") and row["budget"] == "0"
            assert metrics["disruption"] == 0  # the same picture, the same edit
        else:
            assert 10 < metrics["psnr"] < 60 and metrics["disruption"] > 0
    # two seeds and the one after each, of every original after each counter; one edit a row but where that is it
    originals = 2 * 2 * 4 * 2
    assert sum(edits) == originals + sum(r["method"] != "none" for r in rows)
    timings = read_lines(tmp_path / "out" / "timings.jsonl")
    assert {line["kind"][0] for line in timings} == {"protect", "edit", "counter", "metrics"}
    assert all(line["peak_memory_bytes"] > 1e7 and line["seconds_per_photo"] >= 0 for line in timings)

    edits.clear()
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    assert bench(**wanted) == rows
    assert edits == [] and (tmp_path / "out" / "results.jsonl").read_bytes() == before


DRIVER = """
import os, random, signal, sys, time
from pathlib import Path
from editproof.bench.config import make_config
from editproof.bench.run import run_bench
import editproof.editors.inpaint, diffusers, transformers

config, folder = make_config(eval(sys.argv[1])), Path(sys.argv[2])

def start(out):
    child = os.fork()
    if child == 0:
        run_bench(config, out)
        os._exit(0)
    return child

started = time.monotonic()
assert os.waitpid(start(folder / "unbroken"), 0)[1] == 0
needed = time.monotonic() - started
chance = random.Random(int(sys.argv[3]))
for _ in range(3):
    child = start(folder / "killed")
    time.sleep(chance.uniform(0.05, 0.9) * needed)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rows = folder / "killed" / "results.jsonl"
    print(len(rows.read_bytes().splitlines()) if rows.exists() else "no file", flush=True)
assert os.waitpid(start(folder / "killed"), 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_the_rows_are_the_same(data: Path, tiny_folder: Callable, tmp_path: Path) -> None:
    values = {**FAST, "data": str(data), "editors": [str(tiny_folder("sd-inpaint"))], "metrics": ["psnr"],
              "methods": ["none", "noise", "photoguard-encoder:steps=2"]}  # fmt: skip
    seed = int.from_bytes(os.urandom(4))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, repr(values), str(tmp_path), str(seed)], env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    unbroken, killed = (tmp_path / name / "results.jsonl" for name in ("unbroken", "killed"))
    assert len(unbroken.read_bytes().splitlines()) == 3 * 3 * 2
    assert unbroken.read_bytes() == killed.read_bytes(), f"seed {seed}: {done.stdout}"
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def test_goes_on_after_any_line_and_half_a_line(bench: Callable, edits: list[int], tmp_path: Path) -> None:
    whole = bench(methods=["noise"], counters=["none", "resize:0.5", "flip"])
    results = tmp_path / "out" / "results.jsonl"
    text = results.read_bytes()
    lines = text.splitlines(keepends=True)
    for kept, torn in ((0, b'{"photo": "p0'), (4, b""), (7, lines[7][:-1])):  # the last one lacks its end only
        results.write_bytes(b"".join(lines[:kept]) + torn)
        edits.clear()
        assert bench(methods=["noise"], counters=["none", "resize:0.5", "flip"]) == whole
        assert results.read_bytes() == text
        assert edits == []  # all in the cache
    for picture in (tmp_path / "out" / "cache").rglob("*.png"):
        picture.write_bytes(picture.read_bytes()[:40])  # cut off by a loss of power
    results.write_bytes(b"".join(lines[:5]))
    assert bench(methods=["noise"], counters=["none", "resize:0.5", "flip"]) == whole
    assert edits


def test_more_of_everything_is_added(bench: Callable, edits: list[int]) -> None:
    first = bench(methods=["noise"], metrics=["psnr"])
    edits.clear()
    second = bench(methods=["noise"], metrics=["psnr", "region-ssim"])
    assert edits == []  # a further metric is taken of the edits that are there
    assert [r["metrics"]["psnr"] for r in second] == [r["metrics"]["psnr"] for r in first]
    third = bench(methods=["noise", "immunizer"], metrics=["psnr", "region-ssim"], counters=["none"])
    assert len(third) == len(first) + 3 and all(row in third for row in second)


def test_results_do_not_depend_on_the_batch(bench: Callable) -> None:
    alone = bench("alone", methods=["noise", "photoguard-encoder:steps=2"], batch=1)
    together = bench("together", methods=["noise", "photoguard-encoder:steps=2"], batch=3)
    assert list(map(key_of, alone)) == list(map(key_of, together))
    for a, b in zip(alone, together, strict=True):
        assert a["metrics"] == pytest.approx(b["metrics"], rel=0.02, abs=2e-3)  # float32, then 8 bits


def test_workers_write_the_same_rows(bench: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"methods": ["noise", "photoguard-encoder:steps=2"], "batch": 1, "metrics": ["psnr", "region-ssim"]}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = bench("alone", **wanted)
        plain, calls = Editor.edit, Counter[str]()

        def edit(self: Editor, *more: Any, **named: Any) -> torch.Tensor:
            calls["edit"] += 1
            if calls["edit"] == 7:
                raise UserError("the seventh edit fails")
            return plain(self, *more, **named)

        monkeypatch.setattr(Editor, "edit", edit)
        with pytest.raises(UserError, match="the seventh edit fails"):
            bench("together", workers=2, **wanted)
        assert 0 < len(read_rows(tmp_path / "together" / "results.jsonl")) < len(alone)
        assert bench("together", workers=2, **wanted) == alone
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("reference", ["same", "untouched"])
def test_what_edits_are_compared_with(reference: str, bench: Callable) -> None:
    rows = bench(methods=["none", "noise"], counters=["none", "flip", "crop:0.8", "jpeg:20", "flip+jpeg:20"], limit=1,
                 reference=reference)  # fmt: skip
    found = {(r["method"], r["counter"]): r["metrics"]["disruption"] for r in rows}
    assert found["none", "none"] == found["none", "flip"] == found["none", "crop:0.8"] == 0  # only at another place
    for counter in ("jpeg:20", "flip+jpeg:20"):
        assert (found["none", counter] > 0) == (reference == "untouched")
    assert 0 < found["noise", "flip"] < 1
    assert found["noise", "none"] == pytest.approx(found["noise", "flip"], rel=0.9)


def test_truths_are_of_the_prompts_that_have_them(bench: Callable, tmp_path: Path) -> None:
    picture = tiny.pictures(1, 64, 64)[0]
    for name, image in (("images/a", picture), ("truths/a", picture), ("masks/a", tiny.hole(1)[0].expand(3, -1, -1))):
        save_png(tmp_path / "data" / f"{name}.png", image)
    line = {"file_name": "a.png", "prompts": ["copy"], "truths": ["truths/a.png"]}
    (tmp_path / "data" / "metadata.jsonl").write_text(json.dumps(line))
    rows = bench(data=str(tmp_path / "data"), prompts=["copy", "other"], methods=["none"], metrics=["truth-psnr"],
                 counters=["none", "flip"])  # fmt: skip
    found = {(row["prompt"], row["counter"]): row["metrics"]["truth-psnr"] for row in rows}
    assert found["other", "none"] is None is found["other", "flip"]
    edit = next(line["edit"] for line in read_lines(tmp_path / "out" / "pictures.jsonl")
                if (line["prompt"], line["counter"]) == ("copy", "flip"))  # fmt: skip
    pixels = open_photo(tmp_path / "out" / "cache" / edit[:2] / f"{edit}.png").pixels
    assert found["copy", "flip"] == pytest.approx(psnr(pixels[None], picture[None].flip(-1)).item(), abs=1e-3)
    with pytest.raises(UserError, match="what an edit should be"):
        bench("other", metrics=["truth-psnr"])


def test_photos_are_kept_without_the_edits(bench: Callable, tmp_path: Path) -> None:
    rows = bench(methods=["noise"], cache="photos", gallery=1)
    names = {key_of(line): line for line in read_lines(tmp_path / "out" / "pictures.jsonl")}
    for row in rows:
        line = names[key_of(row)]
        there = {what: (tmp_path / "out" / "cache" / line[what][:2] / f"{line[what]}.png").is_file()
                 for what in ("original", "protected", "edit", "attacked")}  # fmt: skip
        assert there == {"original": True, "protected": True, "edit": True, "attacked": row["photo"] == "p0.png"}
    protected = open_photo(next((tmp_path / "out" / "cache").glob(f"*/{names[key_of(rows[0])]['protected']}.png")))
    original = open_photo(next((tmp_path / "out" / "cache").glob(f"*/{names[key_of(rows[0])]['original']}.png")))
    assert (protected.pixels - original.pixels).abs().max() <= 8 / 255 + 1e-6


def test_equal_visibility(bench: Callable) -> None:
    methods = ["noise", "photoguard-encoder:steps=3", "none"]
    rows = bench(methods=methods, match="psnr=32", counters=["none"], metrics=["psnr", "linf", "ssim"])
    for row in rows:
        if row["method"] == "none":
            assert row["budget"] == "0"
            continue
        assert row["budget"] == "psnr=32" and row["norm"] == "Linf"
        assert row["metrics"]["psnr"] == pytest.approx(32, abs=0.02)
        assert row["metrics"]["linf"] <= row["eps"] + 1 / 255
    rows = bench("other", methods=["noise"], match="ssim=0.95", counters=["none"], metrics=["ssim"])
    assert [row["metrics"]["ssim"] for row in rows] == pytest.approx([0.95] * 3, abs=2e-3)


def test_search_of_a_level() -> None:
    """A method that changes all pixels by its whole budget: the level is known, as is what lies between two."""
    images, asked = torch.full((3, 3, 32, 32), 100 / 255), Counter[int]()

    def protect(chosen: list[int], level: int) -> torch.Tensor:
        asked[level] += len(chosen)
        return images[chosen] + level / 255

    def run(target: float) -> tuple[torch.Tensor, list[float]]:
        return match_visibility(
            protect, images, lambda x: psnr(x, images), target, lambda values, wanted: values > wanted, 0
        )

    at_five = -20 * torch.tensor(5 / 255).log10().item()
    result, eps = run(at_five - 0.001)
    assert (result * 255).round().unique().tolist() == [105, 106]
    assert eps == pytest.approx([5 / 255] * 3, abs=2e-4)
    assert set(asked) <= {8, 4, 6, 5}
    result, eps = run(60)  # fainter than one level everywhere
    assert (result * 255).round().unique().tolist() == [100, 101]
    assert psnr(result, images).tolist() == pytest.approx([60] * 3, abs=0.05)
    result, eps = run(5)  # more than is searched
    assert (result * 255).round().unique().tolist() == [164] and eps == pytest.approx([64 / 255] * 3)


def test_transfer_protects_against_another_editor(bench: Callable, tiny_folder: Callable) -> None:
    other = f"photoguard-encoder:steps=2:on={tiny_folder('flux-kontext')}"
    rows = bench(methods=["photoguard-encoder:steps=2", other], counters=["none"])
    assert {row["method"] for row in rows} == {
        "photoguard-encoder:steps=2",
        "photoguard-encoder:steps=2:on=flux-kontext",
    }
    values = {row["method"]: row["metrics"]["disruption"] for row in rows if row["photo"] == "p0.png"}
    assert len(set(values.values())) == 2


def test_methods_are_told_the_mask_unless_they_are_not(bench: Callable, tmp_path: Path, data: Path) -> None:
    bench(
        methods=["noise", "noise:mask=untold", "immunizer", "immunizer:mask=told"],
        limit=1,
        metrics=["psnr"],
        counters=["none"],
    )
    for line in read_lines(tmp_path / "out" / "pictures.jsonl"):
        protected, original = (
            open_photo(next((tmp_path / "out" / "cache").glob(f"*/{line[what]}.png"))).pixels
            for what in ("protected", "original")
        )
        inside = tiny.hole(1, 64, 64)[0] > 0.5
        told = line["method"] in ("noise", "immunizer:mask=told")
        assert bool((protected != original).logical_and(inside).any()) != told, line["method"]


def test_other_settings_or_photos_need_another_folder(bench: Callable, data: Path, tmp_path: Path) -> None:
    bench(methods=["noise"], metrics=["psnr"], counters=["none"])
    for changed, said in (({"edit_steps": 3}, "edit_steps 1, this is edit_steps 3"), ({"limit": 2}, "limit None"),
                          ({"preset": "fast"}, "preset"), ({"masks": "centre"}, "masks auto"),
                          ({"reference": "untouched"}, "reference same")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            bench(methods=["noise"], metrics=["psnr"], counters=["none"], **changed)
    save_png(tmp_path / "data" / "p0.png", tiny.pictures(1, 64, 64)[0])
    with pytest.raises(UserError, match="other photos"):
        bench(methods=["noise"], metrics=["psnr"], counters=["none"], data=str(tmp_path / "data"))


def test_other_weights_under_the_same_name_need_another_folder(
    bench: Callable, edits: list[int], tiny_folder: Callable, tmp_path: Path
) -> None:
    """An editor or the immunizer that was trained anew; its edits and protected photos are not those in the cache."""
    settings: dict[str, Any] = {
        "methods": ["noise", "immunizer"],
        "metrics": ["psnr"],
        "counters": ["none"],
        "limit": 1,
    }
    bench(**settings)
    weights = json.loads((tmp_path / "out" / "run.json").read_text())["weights"]
    folder = Path(tiny_folder("sd-inpaint"))
    assert set(weights) == {folder.name, "immunizer"} and all(len(value) == 32 for value in weights.values())
    made = len(edits)
    bench(**settings)
    assert len(edits) == made  # nothing to do
    (folder / "trained-anew.txt").write_text("other weights")
    try:
        with pytest.raises(UserError, match=f"made with other weights of {folder.name}; allowed: the same, or another"):
            bench(**settings)
        shutil.copytree(tmp_path / "out" / "cache", tmp_path / "other" / "cache")
        bench("other", **settings)
        assert len(edits) == 2 * made  # the cache is of the old weights
    finally:
        (folder / "trained-anew.txt").unlink()


def test_one_run_at_a_time(bench: Callable, tmp_path: Path) -> None:
    with Store(tmp_path / "out"), pytest.raises(UserError, match="another benchmark"):
        bench(methods=["noise"])


@pytest.mark.parametrize("name", OWN)
def test_only_files_of_a_benchmark_are_written_over(name: str, bench: Callable, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("method: mine\n")
    with pytest.raises(UserError, match=f"{re.escape(name)}' was not written by `editproof bench`; allowed: another"):
        bench(methods=["none"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "method: mine\n"


def test_settings_that_nothing_came_of_leave_no_config(bench: Callable, tmp_path: Path) -> None:
    for scheduler, said in (("ddimm", "scheduler 'ddimm' is unknown; allowed: ddim"), ("ddim", "its own scheduler")):
        with pytest.raises(UserError, match=said):
            bench(methods=["none"], editors=["flux-kontext"], scheduler=scheduler)
        assert not (tmp_path / "out" / "config.yml").exists()
    assert bench(methods=["none"], editors=["sd-inpaint"], counters=["none"])


DAMAGED = {  # file -> what somebody makes of it
    "results.jsonl": (b"[1]\n", b'{"photo": 1}\n', b"[" * 100_000 + b"\n", b"\xff\n", "metrics"),
    "pictures.jsonl": (b'{"photo": 1}\n', b"5\n"),
    "timings.jsonl": (b'{"kind": 5, "photos": "x", "seconds_per_photo": []}\n',),
    "config.yml": (b"# editproof bench\n5", b"# editproof bench\nmethods: 5\ngallery: [x]\n", b"[" * 5000, b"\xff"),
    "run.json": (b'{"data_sha256": 1}', b'["data_sha256"]', b"[" * 100_000, b"{"),
}


def test_damaged_files_are_told_in_one_line(
    bench: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(methods=["none", "noise"], counters=["none"])
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    for name, contents in DAMAGED.items():
        for content in contents:
            if isinstance(content, str):
                content = whole[name].replace(b'"metrics": {', b'"metrics": 5, "m": {')
            (tmp_path / "out" / name).write_bytes(content)
            capsys.readouterr()
            code = main(["report", str(tmp_path / "out")])
            said = capsys.readouterr().err
            assert (code == 0 and not said) or (code == 2 and said.count("\n") == 1), (name, content[:40], said)
            with suppress(UserError):
                bench(methods=["none", "noise"], counters=["none"])
            for other, text in whole.items():
                (tmp_path / "out" / other).write_bytes(text)


def test_settings_on_disk_make_the_same_run(bench: Callable, tmp_path: Path, data: Path) -> None:
    rows = bench(methods=["noise"], counters=["none"])
    config = yaml.safe_load((tmp_path / "out" / "config.yml").read_text())
    assert config["data"] == data.name  # no path of this machine
    assert main(["bench", "--config", str(tmp_path / "out" / "config.yml"), "--data", str(data), "--out",
                 str(tmp_path / "again")]) == 0  # fmt: skip
    assert read_rows(tmp_path / "again" / "results.jsonl") == rows
    assert str(tmp_path) not in (tmp_path / "out" / "results.jsonl").read_text()
    assert str(tmp_path) not in (tmp_path / "again" / "report.html").read_text().replace(config["editors"][0], "")


def test_the_command_line_overrides_the_file(data: Path, tiny_folder: Callable, tmp_path: Path) -> None:
    config = {**FAST, "data": "nowhere", "editors": [str(tiny_folder("sd-inpaint"))], "methods": ["immunizer"],
              "match": "psnr=30", "metrics": ["psnr"]}  # fmt: skip
    (tmp_path / "c.yml").write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    line = f"bench --config {tmp_path}/c.yml --data {data} --out {out} --methods noise --budgets 4/255 --counters none"
    assert main([*line.split(), "--prompt", "a, b", "--seeds", "3"]) == 0
    rows = read_rows(out / "results.jsonl")
    assert {(r["method"], r["budget"], r["prompt"], r["seed"], r["counter"]) for r in rows} == {
        ("noise", "4/255", "a, b", 3, "none")
    }
    assert (out / "report.html").is_file() and (out / "summary.csv").is_file()
    assert main(["bench", "--out", str(out), "--data", str(data), "--seeds", "4"]) == 0  # all else is as it was
    rows = read_rows(out / "results.jsonl")
    assert {(r["method"], r["budget"], r["prompt"], r["seed"], r["counter"]) for r in rows} == {
        ("noise", "4/255", "a, b", seed, "none") for seed in (3, 4)
    }
    assert main(["report", str(out)]) == 0


def test_prompts_by_editor_and_kind(bench: Callable, tmp_path: Path) -> None:
    rows = bench(methods=["noise"], counters=["none"], prompts={"sd-inpaint": ["x", "y"], "all": ["z"]})
    assert {row["prompt"] for row in rows} == {"x", "y"}
    with pytest.raises(UserError, match="no prompts for editor"):
        bench("other", methods=["noise"], prompts={"kontext": ["x"]})


CONFIGS = {  # settings that cannot be used -> what the one line says
    "methods: [nothing]": "'nothing' is unknown",
    "methods: ['noise:steps=0']": "steps=0",
    "methods: ['noise:size=3']": "no setting 'size'",
    "methods: ['noise:mask=maybe']": "mask=maybe",
    "methods: ['noise:on=tiny-inpaint']": "no on=",
    "methods: ['none:steps=1']": "no settings",
    "methods: ['decontext:on=nowhere']": "unknown editor 'nowhere'",
    "editors: [nowhere]": "unknown editor 'nowhere'",
    "editors: []": "editors",
    "counters: [nothing]": "'nothing' is unknown",
    "counters: ['jpeg:0']": "jpeg:0",
    "metrics: [nothing]": "metric 'nothing' is unknown",
    "budgets: [0]": "budget '0'",
    "budgets: [0.0001]": "less than one level",
    "budgets: ['l2:x']": "budget 'l2:x' is no L2 budget",
    "match: psnr": "psnr= a number",
    "match: disruption=1": "unknown metric",
    "match: ssim=2": "ssim= a number between",
    "seeds: [-1]": "seeds: -1; allowed: a whole number from 0 to",
    "seeds: []": "seeds is empty",
    "preset: slow": "preset: 'slow'; allowed: fast or paper or sizes",
    "masks: mine": "masks: 'mine'",
    "cache: some": "cache: 'some'",
    "reference: x": "reference: 'x'",
    "batch: 0": "batch: 0",
    "edit_steps: 1.5": "edit_steps: 1.5",
    "guidance: -1": "guidance: -1; allowed: a number",
    "colour: red": "unknown setting 'colour'",
    "prompts: nowhere.txt": "nowhere.txt",
    "prompts: []": "prompts",
    "prompts: {}": "prompts",
    "sources: x": "sources: 'x'",
    "sources: {nothing: x}": "metric 'nothing' is unknown",
    "sources: {psnr: x}": "metric 'psnr' has no model",
    "data: nowhere": "'nowhere' is not a folder",
    "data: 3": "no data",
    "device: abacus": "abacus",
    "- a list": "holds a list",
    "a: [": "is not YAML",
    "limit: 1\nmasks: files\ndata: bare": "has no mask",
    "data: promptless": "has no prompts",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_settings_that_cannot_be_used_are_one_line(
    text: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bare", "promptless"):
        save_png(tmp_path / name / "p.png", tiny.pictures(1)[0])
    plain = {} if text.startswith(("- ", "a: [")) else {"data": str(data), "prompts": ["a"], **yaml.safe_load(text)}
    if "promptless" in text:
        del plain["prompts"]
    Path("c.yml").write_text(yaml.safe_dump(plain) if plain else text)
    assert main(["bench", "--config", "c.yml", "--out", "out"]) == 2
    error = capsys.readouterr().err.strip()
    assert CONFIGS[text] in error and error.count("\n") == 0
    assert not Path("out").exists()


@pytest.mark.parametrize("arguments", ["--match psnr=30 --match-psnr 30", "--match-psnr 30 --budgets 4/255", "",
                                       "--prompts f --prompt p", "--config nowhere.yml"])  # fmt: skip
def test_options_that_exclude_each_other(arguments: str, data: Path, tmp_path: Path) -> None:
    start = ["bench", "--out", str(tmp_path / "out")]
    assert (
        main(
            start
            + (["--data", str(data)] if "--match" in arguments or "--prompt" in arguments else [])
            + arguments.split()
        )
        == 2
    )
    assert not (tmp_path / "out").exists()


def test_layouts_of_data(tmp_path: Path, data: Path) -> None:
    assert [(p.name, p.size, p.prompts, p.mask is not None) for p in read_photos(data)] == [
        ("p0.png", (64, 64), (), True), ("p1.png", (64, 64), (), True), ("p2.png", (48, 84), (), True),
    ]  # fmt: skip
    split = tmp_path / "diffvax" / "validation"
    for i in range(2):
        save_png(split / "images" / f"a{i}.png", tiny.pictures(1)[0])
        save_png(split / "masks" / f"mask_a{i}.png", tiny.hole(1)[0].expand(3, -1, -1))
        save_png(split / "truths" / f"t{i}.png", tiny.pictures(1)[0])
    listed = [{"file_name": f"images/a{i}.png", "prompts": ["x", "y", "x"]} for i in (1, 0)]
    listed[1] |= {"prompts": ["z"], "truths": ["truths/t0.png"]}
    (split / "metadata.jsonl").write_text("\n".join(map(json.dumps, listed)) + "\n\n")
    found = read_photos(tmp_path / "diffvax")
    assert [(p.name, p.prompts, len(p.truths)) for p in found] == [("a0.png", ("z",), 1), ("a1.png", ("x", "y"), 0)]
    assert mask_source(found, "auto") == "files" and mask_source(found, "centre") == "centre"
    assert read_photos(tmp_path / "diffvax", limit=1) == found[:1]

    veto = tmp_path / "veto"
    for name in ("b.png", "c.png"):
        save_png(veto / "images" / name, tiny.pictures(1)[0])
    (veto / "prompts.csv").write_text('\ufeffImage,Instruction\nb.png,"a, b"\nimages/c.png,c\nb,second\n')
    with pytest.raises(UserError, match="twice"):
        read_photos(veto)
    (veto / "prompts.csv").write_text('\ufeffImage,Instruction\nb.png,"a, b"\nimages/c.png,c\nb.png,second\n')
    found = read_photos(veto)
    assert [(p.name, p.prompts) for p in found] == [("b.png", ("a, b", "second")), ("c.png", ("c",))]
    assert mask_source(found, "auto") == "centre"
    save_png(veto / "masks" / "b.png", tiny.hole(1)[0].expand(3, -1, -1))
    with pytest.raises(UserError, match=r"'c.png' has no mask"):
        mask_source(read_photos(veto), "auto")


def test_vetobench_as_its_authors_lay_it_out(tmp_path: Path) -> None:
    """Photos by their numbers, below images/ or images/base/; of four columns one is what the editor is told."""
    head = "idx,original_prompt,editing_instruction,edited_prompt\n"
    for where in ("images", "images/base"):
        folder = tmp_path / where.replace("/", "-") / "general"
        for name in ("0.png", "10.jpg"):
            save_png(folder / where / name, tiny.pictures(1)[0])
        (folder / "prompts.csv").write_text(f'{head}10,a cat,a hat on it,a cat in a hat\n0,b,"c, d",e\n')
        below = where.removeprefix("images").lstrip("/")
        found = [(Path(p.name).as_posix(), p.prompts, p.image.is_file()) for p in read_photos(folder)]
        names = [f"{below}/{name}".lstrip("/") for name in ("0.png", "10.jpg")]
        assert found == [(names[0], ("c, d",), True), (names[1], ("a hat on it",), True)]
    (folder / "prompts.csv").write_text(f"{head}7,a,b,c\n")
    with pytest.raises(UserError, match="7"):
        read_photos(folder)


def parquet_of(path: Path, **columns: list) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def test_a_parquet_file_becomes_a_folder_with_the_same_files(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", tiny.pictures(1)[0])
    content = (tmp_path / "a.png").read_bytes()
    shown = [{"bytes": content, "path": "x.png"}, {"bytes": content, "path": None}]
    file = parquet_of(
        tmp_path / "v.parquet", image=shown, editing_instruction=["a hat", "a\nb"], idx=[7, 8], category=["gore", None]
    )
    assert main(["data", "unpack", str(file), "--data-dir", str(tmp_path / "out")]) == 0
    assert [(p.name, p.prompts) for p in read_photos(tmp_path / "out")] == [("0.png", ("a hat",)), ("1.png", ("a\nb",))]
    assert (tmp_path / "out" / "images" / "1.png").read_bytes() == content
    assert (tmp_path / "out" / "prompts.csv").read_text().splitlines()[:2] == [
        "idx,instruction,category",
        "0,a hat,gore",
    ]


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"prompt": ["a"]}, [], "which column has the photos; allowed: none"),
        ({"image": [b"x"], "text": ["a"]}, [], "which column has the prompts; allowed: text"),
        ({"image": [b"x"], "text": ["a"]}, ["--prompts", "image"], "no column 'image' of prompts; allowed: text"),
        ({"image": [b"x"], "text": ["a"]}, ["--prompts", "text"], "row 0"),
        ({"image": [None, b"x"], "prompt": ["a", "b"]}, [], "row 0"),
        ({}, [], "cannot be read as parquet"),
    ],
)
def test_a_parquet_file_that_cannot_be_used(
    columns: dict, options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "v.parquet"
    if columns:
        parquet_of(file, **columns)
    assert main(["data", "unpack", str(file), "--data-dir", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == (["v.parquet"] if columns else [])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metadata.jsonl", '{"file_name": "../x.png"}', "inside"),
        ("metadata.jsonl", '{"file_name": 3}', "line 1"),
        ("metadata.jsonl", "[]", "line 1"),
        ("metadata.jsonl", '{"file_name": "x.png"}', "does not exist"),
        ("metadata.jsonl", '{"file_name": "p0.png", "prompts": "a"}', "a list of texts"),
        ("metadata.jsonl", '{"file_name": "p0.png", "prompts": ["a"], "truths": []}\n{"file_name": "p0.png"}', "twice"),
        ("metadata.jsonl", '{"file_name": "p0.png", "prompts": ["a"], "truths": ["b", "c"]}', "one file for each"),
        ("metadata.jsonl", "", "no photos"),
        ("prompts.csv", "a,b\nc,d\n", "columns a, b"),
        ("prompts.csv", "image,prompt\n/x.png,d\n", "inside"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(name: str, text: str, said: str, tmp_path: Path) -> None:
    save_png(tmp_path / "p0.png", tiny.pictures(1)[0])
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_photos(tmp_path)


def test_centred_mask_keeps_a_middle() -> None:
    mask = centred_mask((64, 96))
    assert mask.shape == (1, 64, 96)
    assert mask[0, 32, 48] == 0 and mask[0, 0].min() == 1 and mask[0, :, 0].min() == 1
    assert 0.25 < 1 - mask.mean().item() < 0.4
    torch.testing.assert_close(mask, mask.flip(-1))


def test_methods_with_settings(tmp_path: Path) -> None:
    spec = parse_method("photoguard-encoder:momentum=0.5:prompt=a face", "fast")
    assert spec.settings == {"steps": 20, "momentum": 0.5, "prompt": "a face"} and spec.told
    assert not parse_method("immunizer", None).told and parse_method("immunizer:mask=told", None).told
    (tmp_path / "weights.pth").write_bytes(b"x")
    first = parse_method(f"diffvax:weights={tmp_path}/weights.pth", None)
    assert first.told and first.label == "diffvax:weights=weights.pth" and str(tmp_path) not in first.label
    (tmp_path / "weights.pth").write_bytes(b"y")
    assert parse_method(f"diffvax:weights={tmp_path}/weights.pth", None).identity != first.identity
    with pytest.raises(UserError, match=r"nowhere\.pth': no such file"):
        parse_method("diffvax:weights=nowhere.pth", None)


def test_numbers_that_json_has_not() -> None:
    for value in (float("inf"), float("-inf"), 0.123456, 3.0):
        assert from_json(json.loads(json.dumps(to_json(value), allow_nan=False))) == value
    assert to_json(float("nan")) is None and from_json(None) != from_json(None)


def test_the_smallest_and_the_largest_picture(bench: Callable, tmp_path: Path) -> None:
    """A photo in another format, far from the editor's size, without masks or a list: still one row each."""
    tiny_photo = (tiny.pictures(1, 20, 200)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    (tmp_path / "plain").mkdir()
    Image.fromarray(tiny_photo).save(tmp_path / "plain" / "ä photo.JPG", quality=95)
    rows = bench(data=str(tmp_path / "plain"), methods=["noise"], metrics=["psnr"])
    assert [row["photo"] for row in rows] == ["ä photo.JPG"] * 2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["masks"] == "centre"


def test_time_left_is_told(data: Path, tiny_folder: Callable, tmp_path: Path) -> None:
    told: list[float | None] = []
    lines: list[str] = []
    config = make_config({**FAST, "data": str(data), "editors": [str(tiny_folder("sd-inpaint"))], "methods": ["noise"],
                          "metrics": ["psnr"]})  # fmt: skip
    run_bench(config, tmp_path, progress=lambda what, done, left: told.append(left), tell=lines.append)
    assert told[0] is None and told[-1] is not None
    assert "left" in lines[-1] and "noise" in lines[-1] and "sd-inpaint" in lines[-1]
    assert bench_config.editor_label("/a/b") == "b" and benchmark.environment(torch.device("cpu"))["device"]


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", [*sorted((ROOT / "configs").glob("*/*.yml")), ROOT / "configs" / "own.yml"], ids=str)
def test_shipped_configs_can_be_used(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("diffvax_trained.pth").write_bytes(b"x")
    values = yaml.safe_load(path.read_text())
    coming = {"tiny-kontext"} - set(EDITORS)
    values["editors"] = [name for name in values["editors"] if name not in coming]
    config = benchmark.resolve(make_config(values))
    for text in config.methods:
        parse_method(text, config.preset)
    photo = BenchPhoto("p", tmp_path, None, ("a prompt",), (), (64, 64))
    assert all(prompts_for(config, [photo], name)[0] for name in config.editors)
    if config.published:
        assert all(len(row) == len(config.published["columns"]) for row in config.published["rows"].values())
        assert config.published["source"]


def test_commands_in_the_documentation() -> None:
    """Every option is one that the command has; what is named in the repository is there."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "benchmark.md").read_text(), flags=re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert len(commands) > 8
    for name, *arguments in commands:
        typer.main.get_command(app).commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
        for argument in arguments:
            assert not argument.startswith("configs/") or (ROOT / argument).is_file()


def test_success_is_measured_with_what_the_editor_was_given(
    bench: Callable, tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is in the photo comes from its mask, also where the editor takes none, and moves with the photo."""
    seen: list[Trial] = []
    plain = METRICS["structure"].measure

    def spy(trial: Trial, source: str | None) -> torch.Tensor:
        seen.append(trial)
        return plain(trial, source)

    monkeypatch.setitem(METRICS, "structure", replace(METRICS["structure"], measure=spy))
    rows = bench(methods=["noise"], editors=["sd-inpaint", "flux-kontext"], counters=["none", "flip+jpeg:50"], limit=2,
                 metrics=["structure", "obeyed", "broken"], prompts=["a plain red background"])  # fmt: skip
    assert all(0 <= row["metrics"]["broken"] <= 1 and row["metrics"]["obeyed"] in (0, 1) for row in rows)
    seen = [trial for trial in seen if len(trial.prompts) == 2]
    assert [trial.mask is None for trial in seen] == [False, False, True, True]
    for whole, moved in (seen[:2], seen[2:]):
        kept = (1 - whole.mask) if whole.mask is not None else whole.person
        turned = (1 - moved.mask) if moved.mask is not None else moved.person
        assert 0 < kept.mean() < 1 and torch.equal(turned, kept.flip(-1))
        assert torch.equal(whole.given, whole.protected) and not torch.equal(moved.given, moved.protected)
        assert (moved.given - moved.protected.flip(-1)).abs().mean() < 0.1
    assert torch.equal((1 - seen[0].mask), seen[2].person)


def test_every_method_against_every_editor(bench: Callable, tiny_folder: Callable) -> None:
    names = [str(tiny_folder("sd-inpaint")), str(tiny_folder("flux-kontext"))]
    assert benchmark.against_all(["none", "noise", "veto", "veto:on=tiny-kontext"], ["a/b", "tiny-kontext"]) == (
        "none", "noise", "veto:on=a/b", "veto:on=tiny-kontext",
    )  # fmt: skip
    rows = bench(methods=["none", "photoguard-encoder:steps=2"], editors=["sd-inpaint", "flux-kontext"], transfer=True,
                 counters=["none", f"vae@{names[1]}"], limit=1)  # fmt: skip
    methods = {(row["method"], row["editor"]) for row in rows}
    labels = [f"photoguard-encoder:steps=2:on={Path(name).name}" for name in names]
    assert methods == {(m, Path(e).name) for m in ["none", *labels] for e in names}
    assert {row["counter"] for row in rows} == {"none", f"vae:1@{Path(names[1]).name}"}
