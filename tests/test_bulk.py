"""Bulk: every photo once, the same bytes whoever does it and however often it is killed; containers; failures told."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import tiny
import torch
from PIL import Image
from test_kills import Killed, killed_after

import editproof
from editproof.bulk import storage
from editproof.bulk.run import protect_many
from editproof.bulk.sources import Unit, find_units
from editproof.bulk.work import do_units
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.files import digest
from editproof.immunizer.network import NestedUNet, save_immunizer
from editproof.protection import in_memory
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    folder = tmp_path_factory.mktemp("weights")
    save_immunizer(network, folder)
    return str(folder)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are done in this process, so that a test need not wait for one to start."""
    from editproof.bulk import run, work

    def done(units: list[Unit], plan: Any, workers: int) -> Any:
        handler = work.start(plan, 1, 0)
        for i in range(0, len(units), plan.batch):
            for rows in handler(units[i : i + plan.batch]):
                yield from rows

    monkeypatch.setattr(run, "by_processes", done)


def picture(seed: int = 0, height: int = 60, width: int = 80, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = (tiny.pictures(seed + 1, height, width)[seed].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(pixels).save(file, format=format)
    return file.getvalue()


def fill(folder: str | Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        storage.write(f"{folder}/{name}", picture(i % 7))


def asked(weights: str, **more: Any) -> ProtectSettings:
    return ProtectSettings(knobs={"weights": weights}, device="cpu", **more)


def files(url: str | Path, reports: bool = False) -> dict[str, bytes]:
    """What is below a place; of reports all but the seconds, if they are wanted."""
    system, path = fsspec.core.url_to_fs(str(url))
    system.invalidate_cache()
    found = {}
    for name in system.find(path):
        short, content = name[len(path) :].lstrip("/"), system.cat_file(name)
        if short.startswith("_reports/"):
            if not reports or short.endswith(".csv"):
                continue
            content = b"\n".join(
                json.dumps({**json.loads(line), "seconds": 0}).encode()
                for line in ([content] if short.endswith(".json") else content.splitlines())
            )
        found[short] = content
    return found


def statuses(rows: Any) -> dict[str, str]:
    return {found["photo"]: found["status"] for found in rows}


@pytest.mark.parametrize("place", ["folder", "memory://bulk"])
def test_a_tree_of_photos_becomes_a_tree_of_the_bytes_of_protect(
    place: str, here: None, weights: str, tmp_path: Path
) -> None:
    base = str(tmp_path) if place == "folder" else f"{place}/{tmp_path.name}"
    fill(f"{base}/photos", ["a.png", "summer/b.png", "summer/a.jpg"])
    storage.write(f"{base}/photos/summer/bad.jpg", b"no picture")
    storage.write(f"{base}/photos/.hidden/c.png", picture())
    storage.write(f"{base}/photos/notes.txt", b"text")
    told: list[int] = []
    rows = list(protect_many(f"{base}/photos", f"{base}/out", asked(weights), count=told.append))
    assert told == [4]  # for the progress bar
    expected = {"a.png": "protected", "summer/b.png": "protected", "summer/a.jpg": "protected"}
    assert statuses(rows) == {**expected, "summer/bad.jpg": "failed"}
    made = files(f"{base}/out")
    assert set(made) == {f"{name}-protected.png" for name in expected}
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "a.png").write_bytes(storage.read(f"{base}/photos/a.png"))
    list(protect_photos([tmp_path / "check/a.png"], tmp_path / "checked", knobs={"weights": weights}, device="cpu"))
    assert made["a.png-protected.png"] == (tmp_path / "checked" / "a-protected.png").read_bytes()
    report = json.loads(storage.read(f"{base}/out/_reports/summer/b.png.json"))
    assert report["photo"] == "b.png"
    table = list(csv.DictReader(io.StringIO(storage.read(f"{base}/out/_reports/_failures.csv").decode())))
    assert [failure["photo"] for failure in table] == ["summer/bad.jpg"]
    assert "not a picture" in table[0]["error"]


def test_what_is_done_is_left_and_what_is_other_is_not_overwritten(here: None, weights: str, tmp_path: Path) -> None:
    fill(tmp_path / "photos", ["a.png", "b.png"])
    run = [str(tmp_path / "photos"), str(tmp_path / "out")]
    assert set(statuses(protect_many(*run, asked(weights))).values()) == {"protected"}
    first = files(tmp_path / "out", reports=True)
    assert set(statuses(protect_many(*run, asked(weights))).values()) == {"done before"}
    (tmp_path / "out" / "a.png-protected.png").unlink()
    again = protect_many(*run, asked(weights))
    assert statuses(again) == {"a.png": "protected", "b.png": "done before"}
    rows = list(protect_many(*run, asked(weights, seed=1)))
    assert all("is not what these settings make" in found["error"] for found in rows)
    assert files(tmp_path / "out", reports=True) == first
    (tmp_path / "photos" / "b.png").write_bytes(picture(5))
    assert statuses(protect_many(*run, asked(weights))) == {"a.png": "done before", "b.png": "failed"}
    assert statuses(protect_many(*run, asked(weights), overwrite=True)) == {"a.png": "protected", "b.png": "protected"}
    fill(tmp_path / "again", ["x.png"])
    (tmp_path / "again" / "y.png").write_bytes((tmp_path / "out" / "a.png-protected.png").read_bytes())
    rows = protect_many(str(tmp_path / "again"), str(tmp_path / "twice"), asked(weights))
    assert statuses(rows) == {"x.png": "protected", "y.png": "protected already"}


def test_a_kill_after_any_step_leaves_no_report_beside_another_result(here: None, tmp_path: Path) -> None:
    """Killed while it overwrites another run's results; then the same command goes on from there."""
    noise, other = (ProtectSettings(method="noise", seed=seed) for seed in (0, 1))
    fill(tmp_path / "photos", ["a.png", "b.png"])
    tar_of(tmp_path / "photos" / "s.tar", {"x/1.png": picture(0)})

    def run(out: Path, settings: ProtectSettings, overwrite: bool = False) -> dict[str, str]:
        return statuses(protect_many(str(tmp_path / "photos"), str(out), settings, overwrite=overwrite))

    steps: list[str] = []
    with killed_after(None, steps):
        run(tmp_path / "whole", noise, overwrite=True)
    whole = files(tmp_path / "whole", reports=True)
    run(tmp_path / "before", other)
    for point in range(len(steps) + 4):
        out = tmp_path / str(point)
        shutil.copytree(tmp_path / "before", out)
        with contextlib.suppress(Killed), killed_after(point, []):
            run(out, noise, overwrite=True)
        for report in out.glob("_reports/*.json*"):
            told = json.loads(report.read_text().splitlines()[0] if report.suffix == ".jsonl" else report.read_text())
            result = out / ("s.tar" if report.suffix == ".jsonl" else f"{report.stem}-protected.png")
            assert not result.exists() or digest(result) == told["protected_sha256"], (point, result)
        run(out, noise, overwrite=True)
        assert files(out, reports=True) == whole, point
        assert not list(out.rglob(".editproof-*")), point


def test_results_of_others_stay(here: None, tmp_path: Path) -> None:
    """A file that no run wrote, a result that somebody has changed, a damaged report."""
    noise = ProtectSettings(method="noise")
    fill(tmp_path / "photos", ["a.png", "b.png", "c.png", "d.png"])
    run = [str(tmp_path / "photos"), str(tmp_path / "out")]
    storage.write(f"{run[1]}/a.png-protected.png", b"mine")
    found = {row["photo"]: row for row in protect_many(*run, noise)}
    assert found["a.png"]["status"] == "failed" and "exists and is not what" in found["a.png"]["error"]
    storage.write(f"{run[1]}/b.png-protected.png", b"changed")
    storage.write(f"{run[1]}/_reports/c.png.json", b"[" * 9000)
    assert statuses(protect_many(*run, noise)) == {
        "a.png": "failed", "b.png": "failed", "c.png": "failed", "d.png": "done before",
    }  # fmt: skip
    assert files(run[1])["a.png-protected.png"] == b"mine"


def test_another_run_that_is_done_meanwhile_is_not_overwritten(here: None, tmp_path: Path) -> None:
    """Two runs with other settings at once: the later one of a photo fails, the pair of files stays whole."""
    fill(tmp_path / "photos", ["a.png"])
    run = [str(tmp_path / "photos"), str(tmp_path / "out")]
    protect_contents = in_memory.protect_contents

    def meanwhile(photos: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(in_memory, "protect_contents", protect_contents)
            assert statuses(protect_many(*run, ProtectSettings(method="noise", seed=1))) == {"a.png": "protected"}
        return protect_contents(photos)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_memory, "protect_contents", meanwhile)
        assert statuses(protect_many(*run, ProtectSettings(method="noise"))) == {"a.png": "failed"}
    report = json.loads(storage.read(f"{run[1]}/_reports/a.png.json"))
    assert report["seed"] == 1 and report["protected_sha256"] == digest(tmp_path / "out" / "a.png-protected.png")


def test_a_mask_goes_with_the_settings(here: None, weights: str, tmp_path: Path) -> None:
    fill(tmp_path / "photos", ["a.png"])
    mask = Image.new("L", (80, 60), 0)
    mask.paste(255, (0, 0, 40, 60))
    mask.save(tmp_path / "mask.png")
    run = [str(tmp_path / "photos"), str(tmp_path / "out"), asked(weights, mask=tmp_path / "mask.png")]
    list(protect_many(*run))  # type: ignore[arg-type]
    assert json.loads((tmp_path / "out/_reports/a.png.json").read_text())["protected_share"] == 0.5
    mask.save(tmp_path / "mask.png", compress_level=0)  # other bytes
    assert statuses(protect_many(*run)) == {"a.png": "failed"}  # type: ignore[arg-type]


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def test_webdataset_shards_stay_shards(here: None, weights: str, tmp_path: Path) -> None:
    tar_of(
        tmp_path / "shards" / "s-000.tar",
        {"x/1.jpg": picture(0), "x/1.json": b"{}", "x/2.png": b"bad", "x/2.json": b"{}", "x/3.seg.png": picture(1)},
    )
    (tmp_path / "shards" / "s-001.tar").write_bytes(b"no tar" * 500)
    run = [str(tmp_path / "shards"), str(tmp_path / "out")]
    rows = list(protect_many(*run, asked(weights)))
    assert statuses(rows) == {
        "s-000.tar/x/1.jpg": "protected", "s-000.tar/x/2.png": "failed", "s-000.tar/x/3.seg.png": "protected",
        "s-001.tar": "failed",
    }  # fmt: skip
    made = files(tmp_path / "out")
    assert set(made) == {"s-000.tar"}
    shard = members(made["s-000.tar"])
    assert set(shard) == {"x/1.png", "x/1.json", "x/3.seg.png"}
    fill(tmp_path / "check", ["0.png"])
    list(protect_many(str(tmp_path / "check"), str(tmp_path / "checked"), asked(weights)))
    assert shard["x/1.png"] == (tmp_path / "checked" / "0.png-protected.png").read_bytes()
    lines = (tmp_path / "out/_reports/s-000.tar.jsonl").read_text().splitlines()
    assert [json.loads(line)["photo"] for line in lines] == ["s-000.tar", "1.jpg", "3.seg.png"]
    assert statuses(protect_many(*run, asked(weights)))["s-000.tar"] == "done before"
    assert files(tmp_path / "out") == made
    tar_of(tmp_path / "protected" / "p.tar", {"1.png": shard["x/1.png"], "1.txt": b"caption"})
    rows = list(protect_many(str(tmp_path / "protected"), str(tmp_path / "twice"), asked(weights)))
    assert statuses(rows) == {"p.tar/1.png": "protected already"}


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_files_keep_their_other_columns(nested: bool, here: None, weights: str, tmp_path: Path) -> None:
    cells: list[Any] = [picture(0), None, b"bad", picture(1)]
    if nested:
        cells = [None if cell is None else {"bytes": cell, "path": f"{i}.png"} for i, cell in enumerate(cells)]
    table = pyarrow.table({"id": [1, 2, 3, 4], "image": cells})
    (tmp_path / "in").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "in" / "p.parquet")
    run = [str(tmp_path / "in"), str(tmp_path / "out")]
    rows = list(protect_many(*run, asked(weights), batch=2))
    assert statuses(rows) == {"p.parquet#0": "protected", "p.parquet#2": "failed", "p.parquet#3": "protected"}
    made = pyarrow.parquet.read_table(tmp_path / "out" / "p.parquet")
    assert made.schema == table.schema
    assert made.column("id").to_pylist() == [1, 2, 3, 4]
    contents = [cell["bytes"] if nested and cell else cell for cell in made.column("image").to_pylist()]
    assert [content is None for content in contents] == [False, True, True, False]
    assert contents[0].startswith(b"\x89PNG")
    assert statuses(protect_many(*run, asked(weights), batch=2)) == {"p.parquet": "done before"}
    rows = list(protect_many(str(tmp_path / "in"), str(tmp_path / "other"), asked(weights), image="photo"))
    assert "no column 'photo'; allowed: id, image" in rows[0]["error"]


def test_lists_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "photos", ["a.png", "b/c.png", "b/d.jpg"])
    listed = tmp_path / "list.txt"
    lines = [str(tmp_path / "photos/a.png"), "# comment", "", "https://example.org/x/y z.jpg?size=3"]
    listed.write_text("\n".join([*lines, lines[0]]))
    units = find_units(str(listed))
    assert [(unit.url, unit.name.partition("-")[2], unit.kind) for unit in units] == [
        (lines[0], "a.png", "photo"), (lines[3], "y_z.jpg", "photo"),
    ]  # fmt: skip
    assert len({unit.name for unit in units}) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert find_units("-") == units
    assert [unit.name for unit in find_units(f"{tmp_path}/photos/b/*.png")] == ["c.png"]
    assert [unit.name for unit in find_units(f"{tmp_path}/photos/**/*.png")] == ["a.png", "b/c.png"]
    assert [unit.name for unit in find_units(f"{tmp_path}/photos/b/d.jpg")] == ["d.jpg"]


def test_photos_behind_urls(here: None, weights: str, tmp_path: Path) -> None:
    """A list of addresses, one of which answers 404; the bytes are those of the same photo on a disk."""
    fill(tmp_path / "web", ["a.png", "b/c.png"])

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        (tmp_path / "list.txt").write_text(f"{url}/a.png\n{url}/b/c.png\n{url}/gone.png\n")
        rows = list(protect_many(str(tmp_path / "list.txt"), str(tmp_path / "out"), asked(weights)))
    finally:
        server.shutdown()
        server.server_close()
    assert {row["photo"].partition("-")[2]: row["status"] for row in rows} == {
        "a.png": "protected", "c.png": "protected", "gone.png": "failed",
    }  # fmt: skip
    assert f"{url}/gone.png" in next(row["error"] for row in rows if row["status"] == "failed")
    list(protect_many(str(tmp_path / "web"), str(tmp_path / "check"), asked(weights)))
    (made,) = (tmp_path / "out").glob("*-a.png-protected.png")
    assert made.read_bytes() == (tmp_path / "check/a.png-protected.png").read_bytes()


def test_what_cannot_be_used_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "photos", ["a.png"])
    (tmp_path / "empty").mkdir()
    photos, out = str(tmp_path / "photos"), str(tmp_path / "out")
    for arguments, said in (
        ([str(tmp_path / "none"), out], "does not exist"),
        ([str(tmp_path / "empty"), out], "nothing in"),
        ([photos, photos], "is the source, or inside it"),
        ([photos, f"{photos}/out"], "is the source, or inside it"),
        (["nowhere://x/y", out], "'nowhere://x/y' cannot be used"),
        ([photos, out, "--method", "nothing"], "method 'nothing' is unknown"),
        ([photos, out, "--format", "doc"], "format 'doc' is unknown"),
        ([photos, out, "--mask", "none.png"], "mask 'none.png' does not exist"),
        ([photos, out, "--gpus", "1"], "--address and --gpus are of Ray's"),
    ):
        assert main(["bulk", *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_one_unit_fails_with_is_its_own_affair(weights: str, tmp_path: Path) -> None:
    from editproof.bulk.plan import Plan
    from editproof.protection.settings import load_task

    fill(tmp_path / "photos", ["a.png"])
    (tmp_path / "out").write_text("a file where a folder should be")
    plan = Plan(asked(weights), str(tmp_path / "out"), str(tmp_path / "reports"), request={})
    units = [Unit(str(tmp_path / "photos/a.png"), "a.png", "photo"), Unit(str(tmp_path / "gone.png"), "g.png", "photo")]
    rows = do_units(units, plan, load_task(asked(weights)))
    assert [found["status"] for (found,) in rows] == ["failed", "failed"]
    assert "is a file, not a folder" in rows[0][0]["error"]
    assert "No such file" in rows[1][0]["error"]


@pytest.mark.parametrize("source", ["photos", "shards"])
def test_a_full_disk_ends_the_run_with_one_line(
    source: str, here: None, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fill(tmp_path / "photos", [f"{i}.png" for i in range(6)])
    for i in range(6):
        tar_of(tmp_path / "shards" / f"{i}.tar", {"x.png": picture(i)})
    room, write, refused = [5], storage.writing, []

    @contextlib.contextmanager
    def until_full(url: str, **more: Any) -> Any:
        if not room[0]:
            refused.append(url)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= 1
        with write(url, **more) as file:
            yield file

    monkeypatch.setattr(storage, "writing", until_full)
    run = ["bulk", str(tmp_path / source), str(tmp_path / "out"), "--set", f"weights={weights}", "--device", "cpu"]
    assert main(run) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("No space left on device") == 1 and "the same command goes on" in said
    assert len(refused) == 2, "one unit, and the table of failures"
    assert len(files(tmp_path / "out")) in (2, 3)
    room[0] = 100
    assert main(run) == 0
    assert len(files(tmp_path / "out")) == 6


# With processes: the local pool, and Ray.


def command(weights: str, out: str, *more: str) -> list[str]:
    knobs = ["--set", f"weights={weights}", "--device", "cpu"]
    return [sys.executable, "-m", "editproof", "bulk", "photos", out, *knobs, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1]), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.slow
def test_killed_three_times_it_ends_with_every_photo_once_and_the_same_bytes(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "bulk_kills.py"
    run = [sys.executable, str(script), "--count", "200", "--out", str(tmp_path / "kills")]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *events, last, unbroken, found = map(json.loads, done.stdout.splitlines())
    assert [event["killed"] for event in events] == [
        "the command", "the command and its workers", "a worker", "the command"
    ]  # fmt: skip
    assert all(0 < event["after"] < 200 for event in events)
    assert "done before" in last["last_run"] and "200 protected" in unbroken["unbroken"]
    assert found["the_same_bytes"] and found["files"] == {".png": 200, ".json": 200, ".csv": 1}


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_makes_the_same(weights: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    fill(tmp_path / "photos", [f"{i % 3}/{i}.png" for i in range(12)])
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    for out, more in (("local", ["--workers", "1"]), ("ray", ["--ray", "--workers", "2"])):
        done = subprocess.run(command(weights, out, *more), cwd=tmp_path, env=environment(), capture_output=True)
        assert done.returncode == 1, done.stderr.decode()  # for bad.png
        assert b"bad.png" in done.stderr
    assert b"12 protected, 1 failed" in done.stdout
    assert files(tmp_path / "ray", reports=True) == files(tmp_path / "local", reports=True)
    assert len(files(tmp_path / "ray")) == 12


def test_without_ray_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: str) -> None:
    fill(tmp_path / "photos", ["a.png"])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"editproof\[ray\]"):
        list(protect_many(str(tmp_path / "photos"), str(tmp_path / "out"), asked(weights), ray=True))


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(self: object, path: str, **more: object) -> bool:
        raise RuntimeError("Could not connect\nto the endpoint")  # as botocore's errors, which are no OSErrors

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "isdir", no_answer)
    with pytest.raises(UserError, match=r"source 'memory://photos' cannot be read \(Could not connect to the endpoint"):
        find_units("memory://photos")
