"""Folders: the tree is kept, bad files do not stop a run, and a killed run ends as an unbroken one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from killed import killed_at
from PIL import Image

import editproof
from editproof.cli.main import main
from editproof.files import TEMPORARY
from editproof.immunizer.network import NestedUNet, save_immunizer
from editproof.photo.reading import open_photo, save_png
from editproof.protection import batch as bulk
from editproof.protection import task
from editproof.protection.batch import batches
from editproof.protection.files import protect_photos
from editproof.protection.task import Job
from editproof.resolution import working_size


def photo(path: Path, height: int = 60, width: int = 80) -> Path:
    save_png(path, tiny.pictures(1, height, width)[0])
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """photos/: two good ones of one stem, one below, one bad, one that is no picture, one hidden."""
    folder = tmp_path / "photos"
    photo(folder / "a.png")
    Image.open(folder / "a.png").save(folder / "a.bmp")
    photo(folder / "summer" / "beach" / "b.png", 80, 60)
    (folder / "summer" / "bad.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("text")
    photo(folder / ".hidden" / "c.png")
    return folder


def results(out: Path) -> dict[str, bytes]:
    """Every file below `out`; of reports, without the seconds."""
    found = {}
    for path in (p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps({**json.loads(content), "seconds": 0}).encode()
        found[path.relative_to(out).as_posix()] = content
    return found


def run(tree: Path, *more: str) -> int:
    return main(["protect", str(tree), "--recursive", "--out", str(tree.parent / "out"), "--method", "noise", *more])


def test_the_tree_is_kept_and_bad_files_are_listed_at_the_end(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree) == 1
    said = capsys.readouterr()
    assert set(results(tree.parent / "out")) == {
        "a-protected.png", "a-protected.json", "a.png-protected.png", "a.png-protected.json",
        "summer/beach/b-protected.png", "summer/beach/b-protected.json",
    }  # fmt: skip
    assert "3 protected, 1 failed" in said.out
    assert said.err.count("\n") == 1
    assert "bad.jpg" in said.err
    for name, source in (("a-protected", "a.bmp"), ("a.png-protected", "a.png")):
        assert json.loads((tree.parent / "out" / f"{name}.json").read_text())["photo"] == source


def test_what_is_done_is_skipped_and_what_changed_is_done_again(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tree)
    first = results(tree.parent / "out")
    capsys.readouterr()
    assert run(tree) == 1
    assert "3 done before, 1 failed" in capsys.readouterr().out
    assert results(tree.parent / "out") == first
    (tree.parent / "out" / "a-protected.png").unlink()
    (tree / "summer" / "bad.jpg").unlink()
    assert run(tree) == 0
    assert "1 protected, 2 done before" in capsys.readouterr().out
    assert results(tree.parent / "out") == first
    photo(tree / "summer" / "beach" / "b.png", 70, 60)  # another picture of that name
    assert run(tree) == 1
    said = capsys.readouterr()
    assert "b-protected.png' exists and is not what these settings make" in said.err
    assert results(tree.parent / "out") == first
    assert run(tree, "--overwrite") == 0
    assert open_photo(tree.parent / "out/summer/beach/b-protected.png").size == (70, 60)


def test_other_settings_do_not_pass_for_done(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tree)
    first = results(tree.parent / "out")
    for other in (["--seed", "1"], ["--eps", "4/255"]):
        capsys.readouterr()
        assert run(tree, *other) == 1
        assert "4 failed" in capsys.readouterr().out
        assert results(tree.parent / "out") == first
    assert run(tree, "--seed", "1", "--overwrite") == 1
    assert results(tree.parent / "out")["a-protected.png"] != first["a-protected.png"]


def test_results_beside_the_photos_are_not_protected_again(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["protect", str(tree), "-r", "--out", str(tree), "--method", "noise"]
    assert main(arguments) == 1
    first = results(tree)
    capsys.readouterr()
    assert main(arguments) == 1
    assert "3 done before, 3 protected already" in " ".join(capsys.readouterr().out.split())
    assert results(tree) == first


def test_an_out_folder_inside_is_not_looked_into(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "summer" / "bad.jpg").unlink()
    for _ in range(2):
        assert main(["protect", str(tree), "-r", "--out", str(tree / "out"), "--method", "noise"]) == 0
    assert "3 done before\n" in capsys.readouterr().out


def test_a_photo_is_never_overwritten_by_a_result(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = photo(tree / "a-protected.png").read_bytes()
    (tree / "a.bmp").unlink()
    assert main(["protect", str(tree), "-r", "--out", str(tree), "--method", "noise", "--overwrite"]) == 1
    assert "one of the photos to protect" in capsys.readouterr().err
    assert (tree / "a-protected.png").read_bytes() == mine


def test_several_inputs_keep_their_names_and_files_may_be_among_them(tree: Path, tmp_path: Path) -> None:
    other = photo(tmp_path / "more" / "a.png").parent
    lone = photo(tmp_path / "lone.png")
    arguments = ["protect", str(tree), str(other), str(lone), "-r", "--out", str(tmp_path / "out"), "--method", "noise"]
    assert main(arguments) == 1
    assert {name for name in results(tmp_path / "out") if name.endswith(".png")} == {
        "photos/a-protected.png", "photos/a.png-protected.png", "photos/summer/beach/b-protected.png",
        "more/a-protected.png", "lone-protected.png",
    }  # fmt: skip


def test_folders_need_to_be_asked_for_and_to_hold_photos(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protect", str(tree), "--out", str(tree.parent / "out")]) == 2
    assert "--recursive" in capsys.readouterr().err
    (tree.parent / "none").mkdir()
    assert main(["protect", str(tree.parent / "none"), "-r", "--out", str(tree.parent / "out")]) == 2
    assert "no photo in" in capsys.readouterr().err
    assert not (tree.parent / "out").exists()


def test_folders_that_cannot_be_read_or_written_are_listed(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir, access = os.scandir, os.access
    closed = str(tree / "summer")

    def refuse(path: str) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may do everything
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != closed and access(path, mode))
    assert run(tree) == 1
    said = capsys.readouterr()
    assert "2 protected, 1 failed" in said.out
    assert f"'{closed}' may not be read by this user" in said.err
    monkeypatch.undo()
    (tree.parent / "out" / "summer").write_text("a file where a folder should be")
    assert run(tree) == 1
    said = capsys.readouterr()
    assert "2 done before, 2 failed" in said.out
    assert "is a file, not a folder" in said.err


def test_a_mask_that_does_not_fit_is_a_fault_of_that_photo(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = Image.new("L", (80, 60), 255)
    mask.paste(0, (0, 0, 40, 60))
    mask.save(tree.parent / "mask.png")
    assert run(tree, "--mask", str(tree.parent / "mask.png")) == 1
    assert "80 x 60 pixels, another aspect ratio" in capsys.readouterr().err
    report = json.loads((tree.parent / "out" / "a-protected.json").read_text())
    assert report["protected_share"] == 0.5


def test_a_full_disk_ends_the_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> dict:
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(bulk, "finish", full)
    assert run(tree) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_an_unexpected_fault_is_listed_and_the_rest_goes_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = task.finish

    def faulty(ready: task.Ready, *arguments: object) -> dict:
        if ready.job.photo.name == "a.png":
            raise MemoryError
        return original(ready, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk, "finish", faulty)
    assert run(tree) == 1
    said = capsys.readouterr()
    assert "2 protected, 2 failed" in said.out
    assert "not enough memory" in said.err


def test_photos_are_protected_twice_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "a.png")
    first = ["protect", str(tmp_path / "a.png"), "--out", str(tmp_path), "--method", "noise"]
    assert main(first) == 0
    again = ["protect", str(tmp_path / "a-protected.png"), "--out", str(tmp_path / "out"), "--method", "noise"]
    for reason in ("it holds the mark", "so says 'a-protected.json'"):
        capsys.readouterr()
        assert main(again) == 2
        assert reason in capsys.readouterr().err
        Image.open(tmp_path / "a-protected.png").convert("RGB").save(tmp_path / "a-protected.png")  # without its mark
    assert main([*again, "--force"]) == 0
    (tmp_path / "a-protected.json").write_text('{"protected": 5')
    assert main([*again, "--overwrite"]) == 0


def test_batches_hold_one_working_size_and_not_too_many_pixels() -> None:
    def job(name: str, size: tuple[int, int], done: bool = False) -> Job:
        return Job(Path(name), size, Path(name), Path(name), done)

    jobs = [job(str(i), (3000, 4000) if i % 3 else (400, 300), done=i < 5) for i in range(30)]

    def size_for(size: tuple[int, int]) -> tuple[int, int]:
        return working_size(*size, 256)

    rows = batches(jobs, size_for)
    assert sorted(int(j.photo.name) for row in rows for j in row) == list(range(30))
    for row in rows:
        assert len({j.size for j in row}) == 1
        assert len(row) <= 8
        assert sum(j.size[0] * j.size[1] for j in row) <= 24_000_000
    assert len(rows) == 2 + 10
    assert rows == batches([Job(j.photo, j.size, j.output, j.report, False) for j in jobs], size_for) or any(
        j.done for j in jobs
    )
    shape = [[j.photo for j in row] for row in rows]
    assert shape == [[j.photo for j in row] for row in batches([job(str(j.photo), j.size) for j in jobs], size_for)]
    assert len(batches([job("giant", (10_000, 15_000)), job("other", (10_000, 15_000))], size_for)) == 2


def test_progress_counts_photos(tree: Path) -> None:
    told: list[float] = []
    counted: list[int] = []
    outcomes = list(
        protect_photos(
            [tree], tree.parent / "out", method="noise", recursive=True, progress=told.append, count=counted.append
        )
    )
    assert counted == [3]
    assert told == sorted(told)
    assert told[-1] == 3
    assert len(outcomes) == 4


def test_killed_and_started_again_it_ends_with_the_same_files(tmp_path: Path) -> None:
    """Killed with -9 while it writes; nothing half-written is left, and the rest is what an unbroken run makes."""
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    save_immunizer(network, tmp_path / "weights")
    for i in range(40):
        photo(tmp_path / "photos" / str(i % 3) / f"{i}.png", 200 + 40 * (i % 2), 240)
    environment = {**os.environ, "PYTHONPATH": str(Path(editproof.__file__).parents[1])}

    def start(out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "editproof", "protect", "photos", "--recursive", "--out", out]
        command += ["--set", "weights=weights"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    arguments = ["protect", "photos", "--recursive", "--out", "killed", "--set", "weights=weights"]
    code = "from editproof.cli.main import main; main(sys.argv[1:])"
    killed_at("os:replace", 12, code, arguments, tmp_path)  # with a file that is written and has no name yet
    done = results(tmp_path / "killed")
    assert 3 <= sum(name.endswith("-protected.png") for name in done) < 40
    for name in done:
        if name.endswith("-protected.png"):
            open_photo(tmp_path / "killed" / name)
    assert list((tmp_path / "killed").rglob(f"{TEMPORARY}*.tmp"))  # one, or more where other threads were writing, too
    left = tmp_path / "killed" / "0" / f"{TEMPORARY}another-x.tmp"
    left.write_bytes(b"half")
    runs = [start("killed"), start("unbroken")]
    assert [process.wait() for process in runs] == [0, 0]
    assert not left.exists()
    assert results(tmp_path / "killed") == results(tmp_path / "unbroken")
    assert len(results(tmp_path / "unbroken")) == 80


def test_a_name_too_long_for_its_result_fails_alone_and_again(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own question whether such a file exists is an error; so the first run, without a folder, passed."""
    photo(tree / ("n" * 251 + ".png"))
    for _ in range(2):
        assert run(tree) == 1
        said = capsys.readouterr()
        assert "too long a name" in said.err and "2 failed" in said.out + said.err
