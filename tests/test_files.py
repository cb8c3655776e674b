"""Files that are written whole or not at all, checks of outputs, locks, and what killed runs have left."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from editproof import files
from editproof.errors import UserError
from editproof.files import TEMPORARY, atomic, check_folder, check_output, clean, digest, held, printable


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("name", ["a.txt", "b.txt"])
def test_an_interrupted_write_leaves_what_was_there(
    interruption: type[BaseException], name: str, tmp_path: Path
) -> None:
    def write() -> None:
        with atomic(tmp_path / name) as file:
            file.write(b"half")
            raise interruption

    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(interruption):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_what_has_taken_the_name_meanwhile_stays(tmp_path: Path) -> None:
    """Two runs that were both checked before either had written."""

    def write(text: bytes, overwrite: bool) -> None:
        with atomic(tmp_path / "a", overwrite=overwrite) as file:
            file.write(text)
            (tmp_path / "a").write_bytes(b"another run's")

    with pytest.raises(UserError, match="exists"):
        write(b"mine", False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"another run's"]
    write(b"mine", True)
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_folders_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path / "not" / "yet")
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_folder(tmp_path / "file" / "below")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UserError, match="cannot be written to"):
        check_folder(tmp_path)


@pytest.mark.parametrize(("private", "umask", "mode"), [(False, 0o022, 0o644), (False, 0o007, 0o660), (True, 0, 0o600)])
def test_files_have_the_permissions_of_the_moment(private: bool, umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)  # long after the import
    try:
        with atomic(tmp_path / "a", private=private) as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_importing_changes_no_umask() -> None:
    code = "import os; os.umask = lambda mask: 1 / 0; import editproof.files, editproof.photo, editproof.video.protect"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    check_output(tmp_path / "new", overwrite=False)
    check_output(tmp_path / "there", overwrite=True)
    for path, said in (
        ("there", "exists"),
        ("n" * 256, "too long a name"),
        (".", "is a folder"),
        ("a\0b", "zero in its name"),
    ):
        with pytest.raises(UserError, match=said):
            check_output(tmp_path / path, overwrite=False)


def test_a_lock_is_held_once_and_goes(tmp_path: Path) -> None:
    lock, inside = tmp_path / "new" / ".lock", []
    with held(lock, "taken"):
        with pytest.raises(UserError, match="taken"), held(lock, "taken"):
            inside.append("twice")
        waiting = threading.Thread(target=lambda: _hold(lock, inside))
        waiting.start()
        waiting.join(0.2)
        assert lock.exists() and not inside
    waiting.join()
    assert inside == ["waited"] and not lock.exists()


def _hold(lock: Path, inside: list[str]) -> None:
    with held(lock):
        assert lock.exists()
        inside.append("waited")


def test_waiting_runs_take_turns(tmp_path: Path) -> None:
    """Whoever waited for a lock that was removed meanwhile does not hold it beside one who made it anew."""
    here, most = [0], []

    def work() -> None:
        for _ in range(50):
            with held(tmp_path / ".lock"):
                here[0] += 1
                most.append(here[0])
                here[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 300


WRITER = """
import sys
from pathlib import Path
from editproof.files import atomic, held
with atomic(Path(sys.argv[1]) / "a") as file, held(Path(sys.argv[1]) / ".editproof-a.lock"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_only_what_dead_runs_have_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by locks: in another container a process number means another process, or none."""
    monkeypatch.setattr("psutil.pid_exists", lambda number: False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    unfinished = {path.name for path in tmp_path.iterdir()}
    assert len(unfinished) == 2
    for name in ("1-old.tmp", "new.tmp", "b.lock"):
        (tmp_path / f"{TEMPORARY}{name}").write_bytes(b"half")
    (tmp_path / f"{TEMPORARY}mine.txt").write_bytes(b"of somebody else")
    clean([tmp_path, tmp_path / "not there"])
    assert {path.name for path in tmp_path.iterdir()} == unfinished | {f"{TEMPORARY}mine.txt"}
    writer.kill()
    writer.communicate()
    clean([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == [f"{TEMPORARY}mine.txt"]


def test_a_file_being_begun_survives_a_cleaner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a file's making and its locking another run may remove it: then another is made."""
    lock, cleaned = files._lock, []

    def late(file: object, wait: bool = False) -> bool:
        if wait and not cleaned:
            cleaned.append(1)
            monkeypatch.setattr(files, "_lock", lock)
            clean([tmp_path])
        return lock(file, wait)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "_lock", late)
    with atomic(tmp_path / "a") as file:
        file.write(b"whole")
    assert cleaned and (tmp_path / "a").read_bytes() == b"whole"


def test_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


NAMES = {
    "plain é 写真 \U0001f468\u200d\U0001f469": "plain é 写真 \U0001f468\u200d\U0001f469",
    "\x1b]0;title\x07\x1b[2J": "\\x1b]0;title\\x07\\x1b[2J",
    "gnp.\u202eexe": "gnp.\\u202eexe",
    "a\r\nerror: b": "a\\r\\nerror: b",
    "bad \udcff": "bad \\udcff",
    "\x9b31m": "\\x9b31m",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_safely(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In what a command prints of a photo, of a failure, of an error, and on the app's page."""
    from editproof.app.words import plain
    from editproof.cli.display import ERR, OUT, print_summary, protected_line
    from editproof.cli.main import main

    assert printable(name) == NAMES[name] and plain(UserError(f"P {name}")) == f"P {NAMES[name]}"
    report = {"photo": name, "protected": "x.png", "mask": None, "protected_share": 1.0, "psnr_db": 40.0,
              "linf_levels": 8, "seconds": 1.0}  # fmt: skip
    OUT.print(protected_line(report, Path("out")), markup=False, soft_wrap=True)
    print_summary(Path("out"), {"failed": 1}, [f"photo '{name}' is damaged"])
    ERR.print(name)
    assert main(["protect", name, "--out", str(tmp_path)]) == 2
    said = "".join(capsys.readouterr())
    assert not {c for c in said if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\udcff"} - {"\n"}
    assert f"photo '{NAMES[name]}' is damaged\n" in said and f"{NAMES[name]} -> out/x.png" in said


def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as error, atomic(tmp_path / "a.png"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.filename == str(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    check_folder(tmp_path)
    with pytest.raises(UserError, match="the current folder is gone; allowed"):
        check_folder("out")
