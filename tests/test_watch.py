"""What happens by itself: a folder that is watched, an entry that starts the page, completion, `--verbose`."""

import http.server
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from editproof.budgets import Linf
from editproof.cli import app as app_cli
from editproof.cli import shortcut
from editproof.cli.main import LOG, main
from editproof.errors import UserError
from editproof.photo.reading import save_png
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings
from editproof.protection.watching import watch

SETTINGS = ProtectSettings(budget=Linf(8 / 255), preset="fast")
ODD = '/home/O\'Neil "100%"/python'  # a name that has to be quoted


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, tiny.pictures(1, 48, 64)[0])


def nothing() -> None:
    """Nothing happens between two looks."""


class Enough(Exception):
    """Ends a watch that would go on for ever."""


def watched(folder: Path, out: Path, *between: Callable[[], Any]) -> list[dict[str, Any]]:
    """What a watch tells while these things happen between its looks."""
    happens, told = iter(between), []

    def pause(seconds: float) -> None:
        assert seconds > 0
        try:
            next(happens)()
        except StopIteration:
            raise Enough from None

    try:
        for outcome in watch(folder, out, SETTINGS, pause=pause):
            told += [outcome] if outcome else []
    except Enough:
        return told
    raise AssertionError("a watch ended by itself")


def test_photos_that_are_put_into_a_folder_are_protected(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "protected"
    save(folder / "first.png")
    whole = (folder / "first.png").read_bytes()
    growing = folder / "deeper" / "second.png"

    def begin() -> None:
        growing.parent.mkdir()
        growing.write_bytes(whole[:100])

    told = watched(folder, out, nothing, begin, lambda: growing.write_bytes(whole), nothing, nothing, nothing)
    assert [outcome["photo"] for outcome in told] == ["first.png", "second.png"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        "deeper/second-protected.png",
        "first-protected.png",
    ]
    protect_photos(folder / "first.png", tmp_path / "by hand", settings=SETTINGS)
    assert (out / "first-protected.png").read_bytes() == (tmp_path / "by hand" / "first-protected.png").read_bytes()
    assert watched(folder, out, nothing, nothing) == []  # started again, it does nothing twice


def test_a_bad_file_is_told_once_until_it_changes(tmp_path: Path) -> None:
    folder, out, bad = tmp_path / "in", tmp_path / "out", tmp_path / "in" / "bad.png"
    folder.mkdir()
    bad.write_text("no picture")
    good = folder / "good.png"
    told = watched(folder, out, nothing, nothing, lambda: save(good), nothing, nothing, lambda: save(bad), nothing,
                   nothing)  # fmt: skip
    assert ["error" in outcome for outcome in told] == [True, False, False]
    assert "bad.png" in told[0]["error"] and [outcome["photo"] for outcome in told[1:]] == ["good.png", "bad.png"]


def test_what_cannot_be_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, out, said in ((tmp_path / "none", tmp_path, "is no folder"), (tmp_path, tmp_path, "another --out")):
        with pytest.raises(UserError, match=said):
            next(watch(folder, out, SETTINGS))
    with pytest.raises(UserError, match="a file, not a folder"):
        next(watch(tmp_path, Path(__file__) / "out", SETTINGS))
    assert main(["watch", str(tmp_path / "none")]) == 2 and "is no folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(seconds: float) -> None:
        if (tmp_path / "protected").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "__kwdefaults__", {"pause": pause})
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    assert main(["watch", str(tmp_path)]) == 130
    said = capsys.readouterr()
    assert "a.png -> " in said.out and "failed: " in said.err and "b.png" in said.err
    assert (tmp_path / "protected" / "a-protected.png").is_file()


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_an_entry_starts_the_page(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPDATA", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert shortcut.usual_folder(system).is_relative_to(tmp_path)

    def words(python: str) -> list[str]:
        """What the entry runs, as that system reads it."""
        name, content = shortcut.entry(system, python)
        assert name.startswith("editproof.")
        if system == "linux":
            (line,) = (line for line in content.splitlines() if line.startswith("Exec="))
            return shlex.split(line.removeprefix("Exec=").replace("\\\\", "\\").replace("%%", "%"))
        if system == "darwin":
            assert content.startswith("#!/bin/sh\n")
            return shlex.split(content.splitlines()[1].removeprefix("exec "))
        return shlex.split(content.splitlines()[1].replace("%%", "%"), posix=False)

    rest = ["-m", "editproof", "app", "--open"]
    if system == "win32":  # where names have no quotes
        assert words(r"C:\my 100%\python.exe") == [r'"C:\my 100%\python.exe"', *rest]
        return
    assert words(ODD) == [ODD, *rest]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [*words(sys.executable), "--help"]
    helped = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "browser" in helped.stdout


def test_the_entry_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shortcut", "--folder", str(tmp_path / "menu")]) == 0
    (file,) = (tmp_path / "menu").iterdir()
    assert os.access(file, os.X_OK) and str(file) in capsys.readouterr().out
    assert main(["shortcut", "--folder", str(tmp_path / "menu")]) == 2 and "--overwrite" in capsys.readouterr().err


def test_a_second_double_click_opens_the_page_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    titles, shown = ["editproof", "other"], list[str]()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<html><title>{titles[-1]}</title>".encode())

        def log_message(self, *told: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    assert not app_cli.is_running(url)
    titles.pop()
    monkeypatch.setattr(app_cli.webbrowser, "open", shown.append)
    assert main(["app", "--open", "--port", str(server.server_port)]) == 0 and shown == [url]
    server.shutdown()
    server.server_close()
    assert not app_cli.is_running(url)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str) -> None:
    asked = {"_EDITPROOF_COMPLETE": f"complete_{shell}", "COMP_WORDS": "editproof pro", "COMP_CWORD": "1",
             "_TYPER_COMPLETE_ARGS": "editproof pro", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    code = "import sys; sys.argv = ['editproof']; from editproof.cli.main import main; main()"
    environment = {**os.environ, **asked, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "protect" in found.stdout


def test_verbose_says_where_an_error_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    level, handlers = LOG.level, list(LOG.handlers)
    command = ["protect", str(tmp_path / "none.png"), "--out", str(tmp_path / "out")]
    try:
        assert main(command) == 2
        quiet = capsys.readouterr().err
        assert main(["--verbose", *command]) == 2
        said = capsys.readouterr().err
    finally:
        LOG.setLevel(level)
        LOG.handlers = handlers
    assert "Traceback" not in quiet and quiet.count("\n") == 1
    assert "Traceback" in said and "Python" in said and said.endswith(quiet)
