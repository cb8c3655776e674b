"""Runs that are killed at every step on the disk: never one run's report beside another's result, always a way on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from clip_maker import make

from editproof.cli.main import main
from editproof.errors import UserError
from editproof.files import TEMPORARY, digest
from editproof.photo.reading import open_photo, save_png
from editproof.protection import batch
from editproof.protection.files import each_protected, protect_photos
from editproof.protection.pair import turn
from editproof.video.reading import open_clip

STEPS = (
    "open",
    "replace",
    "unlink",
    "remove",
    "rmdir",
    "mkdir",
)  # of module os: all of ours on a disk but for file contents


class Killed(BaseException):
    """The process is gone: whatever would still be done to the disk, by `finally` too, raises this."""


@contextmanager
def killed_after(point: int | None, done: list[str]) -> Iterator[None]:
    """Let `point` steps be done to the disk, each noted in `done`, and none after them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, really in [(name, vars(os)[name]) for name in STEPS]:

            def step(*arguments: Any, name: str = name, really: Callable = really, **options: Any) -> Any:
                if point is not None and len(done) >= point:
                    raise Killed
                result = really(*arguments, **options)
                done.append(name)
                return result

            patch.setattr(os, name, step)
        yield


def protect_photo(folder: Path) -> list[str]:
    save_png(folder / "a.png", tiny.pictures(1, 60, 80)[0])
    return ["protect", str(folder / "a.png")]


def protect_folder(folder: Path) -> list[str]:
    for name in ("a.png", "below/b.png"):
        save_png(folder / "in" / name, tiny.pictures(1, 60, 80)[0])
    return ["protect", str(folder / "in"), "-r"]


def protect_clip(folder: Path) -> list[str]:
    return ["protect", str(make(folder / "a.mkv", 3, (48, 32), sound=False)), "--codec", "ffv1"]


def state(out: Path) -> dict[str, Any]:
    """What lies below a folder; of reports, without the seconds."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        content: Any = path.read_bytes()
        if path.suffix == ".json":
            content = {**json.loads(content), "seconds": 0}
        found[path.relative_to(out).as_posix()] = content
    return found


@pytest.mark.parametrize(
    ("prepare", "overwrite"),
    [
        (protect_photo, False),
        (protect_photo, True),
        (protect_folder, False),
        (protect_clip, False),
        (protect_clip, True),
    ],
)
def test_a_kill_after_any_step(
    prepare: Callable[[Path], list[str]], overwrite: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*prepare(tmp_path), "--method", "noise"]

    def run(out: str, *more: str) -> int:
        return main([*command, "--out", str(tmp_path / out), *more])

    again = ["--overwrite"] if overwrite else []
    steps: list[str] = []
    with killed_after(None, steps):
        assert run("whole", *again) == 0
    whole = state(tmp_path / "whole")
    if overwrite:
        assert run("before", "--seed", "1") == 0  # another run's results lie there
    assert len(steps) >= 5
    for point in range(len(steps) + (3 if overwrite else 0)):
        out, done = str(point), list[str]()
        if overwrite:
            shutil.copytree(tmp_path / "before", tmp_path / out)
        with killed_after(point, done):
            try:
                complete = run(out, *again) == 0
            except Killed:
                complete = False
        for name, report in state(tmp_path / out).items():
            if name.endswith("-protected.json"):
                result = (tmp_path / out / name).with_name(report["protected"])
                assert not result.exists() or digest(result) == report["protected_sha256"], (point, name)
        finished = state(tmp_path / out).items() >= whole.items()
        code = run(out, *again)
        assert code == 0 or (code == 2 and finished and not again), (point, capsys.readouterr().err)
        assert state(tmp_path / out) == whole, point
        assert not complete or finished
        assert not [path for path in (tmp_path / out).rglob("*") if path.name.startswith(TEMPORARY)], point


def test_a_report_of_another_request_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*protect_photo(tmp_path), "--method", "noise", "--out", str(tmp_path)]
    assert main(command) == 0
    (tmp_path / "a-protected.png").rename(tmp_path / "kept.png")
    assert main([*command, "--seed", "1"]) == 2
    assert "a-protected.json' exists" in capsys.readouterr().err
    assert main(command) == 0
    assert open_photo(tmp_path / "a-protected.png").sha256 == digest(tmp_path / "kept.png")


def together(command: list[str], count: int = 2) -> list[int]:
    """Exit codes of a command that is run so many times at once, in processes of their own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "editproof", *command]
    runs = [subprocess.Popen(whole, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(count)]
    said = [run.communicate()[1] for run in runs]
    assert all(not text or (text.startswith("error: ") and text.count("\n") == 1) for text in said), said
    return [run.returncode for run in runs]


def test_the_same_clip_twice_at_once(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 12)
    codes = together(["protect", str(path), "--method", "noise", "--out", str(tmp_path / "out")])
    assert sorted(codes) in ([0, 2], [0, 0]) and open_clip(tmp_path / "out" / "a-protected.mp4").frames == 12
    report = json.loads((tmp_path / "out" / "a-protected.json").read_bytes())
    assert report["protected_sha256"] == digest(tmp_path / "out" / "a-protected.mp4")
    assert len(state(tmp_path / "out")) == 2


def test_another_run_at_work_on_a_clip_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*protect_clip(tmp_path), "--method", "noise", "--out", str(tmp_path / "out")]
    with turn(tmp_path / "out" / "a-protected.json"):
        assert main(command) == 2
    assert "another run is at work on" in capsys.readouterr().err
    assert main(command) == 0


def test_clips_of_one_stem_keep_apart(tmp_path: Path) -> None:
    long = f"{'n' * 240}.mkv"  # no room for more in the name of the folder for unfinished work
    for name in ("a.mp4", "a.mov", "a.mkv", long):
        path = make(tmp_path / name, 2, (32, 32), sound=False)
        assert main(["protect", str(path), "--method", "noise", "--out", str(tmp_path / "out")]) == 0
    assert sorted(state(tmp_path / "out")) == [
        "a-protected.json", "a-protected.mp4", "a.mkv-protected.json", "a.mkv-protected.mkv", "a.mov-protected.json",
        "a.mov-protected.mov", f"{long[:-4]}-protected.json", f"{long[:-4]}-protected.mkv",
    ]  # fmt: skip


def test_a_result_that_another_run_has_written_meanwhile_stays(tmp_path: Path) -> None:
    """Two runs with other settings into one folder: the later one of a photo is refused, the pair stays whole."""
    save_png(tmp_path / "a.png", tiny.pictures(1, 60, 80)[0])
    first, second, same = (
        each_protected([tmp_path / "a.png"], tmp_path / "out", method="noise", seed=seed) for seed in (0, 1, 0)
    )
    real, runs = batch.finish, [second, same]

    def meanwhile(*arguments: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch, "finish", real)
            list(runs.pop(0))
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "finish", meanwhile)
        with pytest.raises(UserError, match=r"a-protected\.png' exists"):
            list(first)
        before = state(tmp_path / "out")
        assert before["a-protected.json"]["seed"] == 1
        (tmp_path / "out" / "a-protected.png").unlink()
        (tmp_path / "out" / "a-protected.json").unlink()
        again = protect_photos([tmp_path / "a.png"], tmp_path / "out", method="noise", seed=0)
        assert len(list(again)) == 1 and not runs  # the very same result: nothing is wrong
    assert state(tmp_path / "out")["a-protected.json"]["seed"] == 0


def test_unfinished_work_of_other_clips_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, parts = [*protect_clip(tmp_path), "--method", "noise"], tmp_path / "out" / ".editproof-b.mp4.parts"
    parts.mkdir(parents=True)
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert f"or delete it: {parts}\n" in capsys.readouterr().out and parts.is_dir()
    parts.rmdir()
    assert main([*command, "--out", str(tmp_path / "out"), "--overwrite"]) == 0
    assert "unfinished work" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        "edit a.png --prompt x --out a.png", "edit a.png --prompt x --mask m.png --out m.png",
        "edit a.png --prompt x --out ./link.png", "edit a.mkv --prompt x --out a.mkv",
        "edit a.mkv --prompt x --mask m.mkv --out m.mkv", "protect a.png --look a.png",
        "protect a.png --mask m.png --look m.png", "compare a.png --prompt x --out a.png",
        "compare a.png --prompt x --mask m.png --out m.png",
    ],
)  # fmt: skip
def test_what_a_result_is_made_of_is_not_overwritten(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "m.png"):
        save_png(Path(name), tiny.pictures(1, 64, 64)[0])
    for name in ("a.mkv", "m.mkv"):
        make(Path(name), 2, (32, 32), sound=False)
    Path("link.png").symlink_to("a.png")
    before = state(tmp_path)
    assert main([*command.split(), "--overwrite"]) == 2
    assert "one of the files that it is made of" in " ".join(capsys.readouterr().err.split())
    assert state(tmp_path) == before


def test_what_a_killed_edit_has_left_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_png(tmp_path / "a.png", tiny.pictures(1, 64, 64)[0])
    left = tmp_path / f"{TEMPORARY}0123456789abcdef.tmp"
    left.write_bytes(b"half")
    edit = ["edit", str(tmp_path / "a.png"), "--prompt", "snow", "--editor", "nobody", "--out", str(tmp_path / "b.png")]
    assert main(edit) == 2 and not left.exists()
