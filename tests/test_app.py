"""The web app without a browser: its words, a visitor's files, work that can be stopped, the HTTP API."""

import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import app_server
import clip_maker
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor

from editproof.app import gate, pictures, protecting, visits, words, work
from editproof.app.editing_both import edit_both
from editproof.app.protecting import Choices, facts, protect_all
from editproof.app.regions import repainted_part
from editproof.app.visits import Visit, keep, leave, sweep, visit
from editproof.app.work import Stopped, Told, follow, seconds
from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.counters import COUNTERS, parse_chain, parse_counter
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import held
from editproof.methods import METHODS
from editproof.photo.decoding import SUFFIXES
from editproof.photo.reading import open_photo, save_png
from editproof.protection.apply import DEFAULT_BUDGET, DEFAULT_METHOD
from editproof.protection.files import protect_photos
from editproof.protection.settings import ProtectSettings
from editproof.video.protect import protect_clip
from editproof.video.reading import SUFFIXES as CLIPS

PAINT = {"layers": [np.zeros((48, 64, 4), np.uint8)]}  # what Gradio's painter gives
PAINT["layers"][0][10:20, 5:50] = 255


def middle(image: Tensor) -> tuple[Tensor, str]:
    """Finds a person in the middle of every picture."""
    height, width = image.shape[-2:]
    mask = torch.ones(1, 1, height, width)
    mask[..., height // 8 : height * 3 // 4, width // 4 : width * 3 // 4] = 0
    return mask, "one person found"


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editproof.people.finding.auto_mask", middle)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Visit]:
    yield visit("here", tmp_path)
    leave("here")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_png(tmp_path / "photo.png", tiny.pictures(1, 96, 128)[0])
    return tmp_path / "photo.png"


def quiet(what: str, share: float) -> None:
    assert what and 0 <= share <= 1


def test_the_words_are_those_of_the_library() -> None:
    assert words.eps_of("balanced") == DEFAULT_BUDGET.eps
    assert [words.eps_of(word) for word in words.STRENGTHS] == sorted(words.eps_of(word) for word in words.STRENGTHS)
    assert words.eps_of(words.USUAL) == DEFAULT_BUDGET.eps
    for wrong in ("huge", words.WEAKEST - 1, words.STRONGEST + 1):
        with pytest.raises(UserError, match=f"strength '{wrong}' is unknown; allowed: invisible"):
            words.eps_of(wrong)
    for counter in words.COUNTERS:
        parse_counter(counter)
        assert not any(COUNTERS[name].moves or COUNTERS[name].needs_editor for name, *_ in parse_chain(counter))
    assert not set(CLIPS) & set(SUFFIXES)


def test_status_lines_are_text() -> None:
    told = Told('<b>"&', 0.25, 40.0)
    for said in (words.bar(told), words.said("<b>"), words.problem("<b>", "two")):
        assert "<b>" not in said and "&lt;b&gt;" in said and ("role=" in said)
    assert "about 40 s left" in words.bar(told)
    assert [seconds(left) for left in (None, 0.2, 89, 200)] == ["", "about 1 s left", "about 89 s left",
                                                               "about 3 min left"]  # fmt: skip


def test_errors_name_no_folder_and_no_option(here: Visit, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    (done,), wrong = protect_all(here, [photo], Choices(), quiet)
    none, (bad, again) = protect_all(here, [tmp_path / "bad.png", done.file], Choices(), quiet)
    assert not wrong and not none
    assert bad.startswith("Photo 'bad.png' is not a picture")
    assert "is protected already" in again and 'tick "Protect again"' in again
    assert str(tmp_path) not in bad + again and "--" not in bad + again
    (tmp_path / "film.mp4").write_text("no film")
    _, (clip,) = protect_all(here, [tmp_path / "film.mp4"], Choices(), quiet)
    assert clip.startswith("Clip 'film.mp4' is")
    for photos, said in (([], "No photo"), ([photo] * 51, "too many"), ([photo] * 2, "one photo at a time")):
        with pytest.raises(UserError, match=said):
            protect_all(here, photos, Choices(region=words.PAINTED), quiet)


@pytest.mark.parametrize(
    ("suffix", "format", "written"),
    [("png", "png", "png"), ("jpg", "png", "png"), ("jpg", "source", "jpeg"), ("webp", "source", "webp"),
     ("bmp", "source", "png"), ("tif", "source", "tiff")],
)  # fmt: skip
def test_files_are_the_librarys(
    suffix: str, format: str, written: str, here: Visit, photo: Path, tmp_path: Path
) -> None:
    source = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.open(photo).convert("RGB").save(source, **({} if suffix == "bmp" else {"exif": exif}))
    choices = Choices(region=words.WHOLE, strength="strong", format=format, seed=3)
    (done,), _ = protect_all(here, [source], choices, quiet)
    (report,) = protect_photos([source], tmp_path / "out", budget=Linf(16 / 255), seed=3, preset="fast", format=written)
    assert done.file.name == report["protected"]
    assert done.file.read_bytes() == (tmp_path / "out" / report["protected"]).read_bytes()
    kept = open_photo(done.file).exif
    assert suffix == "bmp" or (kept is not None and b"a description" in kept)
    assert "never impossible" in facts(done) and f"{report['psnr_db']:.1f} dB" in facts(done)
    assert ("left in the file" in facts(done)) == (written == "jpeg")


@pytest.mark.parametrize("method", words.HOW)
def test_both_ways_give_the_librarys_bytes(method: str, here: Visit, photo: Path, tmp_path: Path) -> None:
    choices = Choices(method=words.method_of(method, ""), editor="tiny-inpaint", strength=words.USUAL)
    (done,), wrong = protect_all(here, [photo], choices, quiet)
    settings = ProtectSettings(method=method, editor=None if method == "immunizer" else "tiny-inpaint", mask="auto",
                               preset="fast")  # fmt: skip
    (report,) = protect_photos([photo], tmp_path / "out", settings=settings)
    assert not wrong and done.report["method"] == method
    assert done.file.read_bytes() == (tmp_path / "out" / report["protected"]).read_bytes()


def test_which_method_runs() -> None:
    assert list(words.HOW) == [DEFAULT_METHOD, "autoencoder"] and set(words.HOW) <= set(METHODS)
    assert words.method_of("autoencoder", "") == words.method_of("autoencoder", None) == "autoencoder"
    assert words.method_of("autoencoder", "mist") == words.method_of(None, "mist") == "mist"
    assert words.method_of(None, None) == words.method_of(None, "") == DEFAULT_METHOD


def test_long_clips_are_for_quick(here: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="pip install 'editproof[video]'")
    clip = clip_maker.make(tmp_path / "film.mp4")
    frames = protecting.open_clip(clip).frames
    monkeypatch.setattr(protecting, "SHORT", frames - 1)
    choices = Choices(region=words.WHOLE, method="autoencoder", editor="tiny-inpaint", again=True)
    done, (said,) = protect_all(here, [clip], choices, quiet)
    assert not done and said.startswith(f"“film.mp4” has {frames} frames. For clips of more than {frames - 1} frames")
    assert "choose “Quick”" in said and "\n" not in said
    here.language = "de"
    assert "„Schnell“" in protect_all(here, [clip], choices, quiet)[1][0]
    protecting.check_clip(here, clip, DEFAULT_METHOD)
    monkeypatch.setattr(protecting, "SHORT", frames)
    protecting.check_clip(here, clip, "autoencoder")


def test_clips_are_the_librarys(here: Visit, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install 'editproof[video]'")
    clip = clip_maker.make(tmp_path / "film.mp4")
    choices = Choices(region=words.WHOLE, method="noise")
    (done,), wrong = protect_all(here, [clip], choices, quiet)
    report = protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", preset="fast"))
    assert not wrong and done.file.read_bytes() == (tmp_path / "out" / report["protected"]).read_bytes()
    assert "100% of the picture is protected" in facts(done) and "Not kept" not in facts(done)
    more = replace(done, report={**done.report, "not_taken_along": ["stream 2: data"], "converted": ["x became y"]})
    told = replace(done, report={**done.report, "tells_place": True})
    assert "Not kept: a gain map." in facts(replace(done, report={**done.report, "left_out": ["a gain map"]}))
    assert "where it was taken" in facts(told) and "where it was taken" not in facts(done)
    assert "Not kept: stream 2: data." in facts(more) and "Umgewandelt: x became y." in facts(more, "de")
    assert open_photo(done.before).size == open_photo(done.after).size == (48, 64)
    _, (said,) = protect_all(here, [clip], Choices(region=words.PAINTED, painted=PAINT), quiet)
    assert "painting works for photos only" in said.lower()


def test_pictures_that_are_shown(here: Visit, photo: Path, tmp_path: Path) -> None:
    (done,), _ = protect_all(here, [photo], Choices(), quiet)
    before, after, change = (
        np.asarray(Image.open(path)).astype(int) for path in (done.before, done.after, done.change)
    )
    assert np.array_equal(before, np.asarray(Image.open(photo))) and np.array_equal(
        after, np.asarray(Image.open(done.file))
    )
    assert np.array_equal(change, np.clip(np.round(127.5 + 10 * (after - before)), 0, 255))
    mask, _ = middle(open_photo(photo).pixels)
    outside = mask[0, 0].bool().numpy()
    assert (before[outside] == after[outside]).all() and (before != after).any()
    marked = np.asarray(pictures.marked(torch.full((1, 3, 128, 200), 0.5)))
    assert (marked[:64] == 128).all() and (marked[100:, 150:] != 128).any()


def test_paint_is_what_is_kept(tmp_path: Path, here: Visit, photo: Path) -> None:
    (layer,) = PAINT["layers"]
    assert pictures.painted_mask({"layers": [layer]}, tmp_path / "mask.png")
    mask = pictures.read_mask(tmp_path / "mask.png", open_photo(photo))
    assert mask is not None and mask.shape == (1, 1, 96, 128)
    assert mask[0, 0, 30, 50] == 0 and mask[0, 0, 60, 50] == 1
    assert not pictures.painted_mask({"layers": [np.zeros_like(layer)]}, tmp_path / "none.png")
    assert not pictures.painted_mask(None, tmp_path / "none.png")
    choices = Choices(region=words.PAINTED, painted={"layers": [layer]})
    (done,), _ = protect_all(here, [photo], choices, quiet)
    assert done.report["protected_share"] == pytest.approx(10 * 45 / (48 * 64), abs=0.03)


def test_edits_of_both(here: Visit, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Editor, "steps", 2)
    (done,), _ = protect_all(here, [photo], Choices(strength="strong"), quiet)
    edits, sentence, figures = edit_both(
        quiet, here, photo, done.file, "a hat", words.PERSON, "jpeg:75", "tiny-inpaint", 0
    )
    first, second = (np.asarray(Image.open(edit)) for edit in edits)
    assert first.shape == second.shape == (96, 128, 3) and (first != second).any()
    assert "times as much as another try" in figures and "nothing about other editors" in sentence
    with pytest.raises(UserError, match="different sizes"):
        edit_both(quiet, here, photo, Path(pictures.save(Image.new("RGB", (64, 64)), here.folder / "x.png")), "a hat",
                  words.PERSON, "none", "tiny-inpaint", 0)  # fmt: skip
    path, _ = repainted_part(here, photo, words.MIDDLE)
    middle = np.asarray(Image.open(path))
    assert middle[48, 64] == 0 and middle[0, 0] == 255


def test_work_is_followed_and_stopped(here: Visit) -> None:
    steps = []

    def job(progress: Any) -> str:
        for step in count():  # until it is stopped
            progress("<working>", min(0.9, step / 1000))
            steps.append(step)
            time.sleep(0.01)
        return "done"

    running = follow(here, job, lambda told: told)
    assert next(running).what in ("Waiting", "Starting", "<working>")
    while next(running).share < 0.01:
        pass
    here.stop()
    with pytest.raises(Stopped):
        for _ in running:
            pass
    reached = len(steps)
    time.sleep(0.1)
    assert 0 < reached == len(steps) and not here.working.locked()
    running = follow(here, job, lambda told: told)  # a page that is closed asks for no more
    next(running)
    running.close()
    with here.working:
        reached = len(steps)
    time.sleep(0.1)
    assert len(steps) == reached


def test_work_gives_its_result_and_its_error(here: Visit) -> None:
    def run(job: Any) -> Any:
        running = follow(here, job, lambda told: told)
        while True:
            try:
                next(running)
            except StopIteration as done:
                return done.value

    assert run(lambda progress: 7) == 7
    with pytest.raises(ZeroDivisionError):
        run(lambda progress: 1 / 0)
    assert run(lambda progress: 8) == 8


def test_visitors_stand_in_line(here: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [visit(f"other {number}", tmp_path) for number in range(3)]
    order = []

    def job(name: int) -> Any:
        def run(progress: Any) -> None:
            order.append(name)
            while not done.is_set():
                time.sleep(0.01)

        return run

    done = threading.Event()
    runs = []
    for number, other in enumerate(others):
        runs.append(follow(other, job(number), lambda told: told.what))
        said = next(runs[-1])
        while len(work._line) <= number:
            time.sleep(0.01)
    while said != "Waiting: 2 before you":
        assert said == "Waiting"
        said = next(runs[2])
    monkeypatch.setattr(work, "WAITING", 2)
    with pytest.raises(UserError, match="Too many visitors"):
        list(follow(here, job(3), lambda told: told))
    others[1].stop()
    with pytest.raises(Stopped):
        list(runs[1])
    done.set()
    for run in (runs[0], runs[2]):
        list(run)
    assert order == [0, 2] and not work._line
    for number in range(3):
        leave(f"other {number}")


def test_what_a_visitor_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = tmp_path / "hash" / "photo.png"
    upload.parent.mkdir()
    upload.write_text("x")
    first, second = visit("first", tmp_path), visit("second", tmp_path)
    assert first is visit("first", tmp_path) and first.folder != second.folder
    (first.new_folder() / "result.png").write_text("x")
    for one in (first, second):
        keep(one, [str(upload)])
    stopped = threading.Event()
    first.stops.add(stopped)
    leave("first")
    assert stopped.is_set() and not first.folder.exists() and upload.is_file()
    stray = tmp_path / "stray" / "painted.png"
    stray.parent.mkdir()
    stray.write_text("x")
    sweep(tmp_path)
    assert stray.is_file()
    monkeypatch.setattr(visits, "STRAY", -1)
    sweep(tmp_path)
    sweep(tmp_path)
    assert not stray.parent.exists() and upload.is_file() and second.folder.is_dir()
    monkeypatch.setattr(visits, "KEEP", -1)
    sweep(tmp_path)
    assert not list(tmp_path.rglob("*.png")) and not second.folder.exists()
    leave("nobody")


def test_what_killed_processes_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = tmp_path / "editproof-app-1-living"
    for left in (living, tmp_path / f"editproof-app-{os.getpid()}-dead"):  # numbers of other containers' processes
        left.mkdir()
        left.with_name(f"{left.name}.lock").touch()
    with held(living.with_name(f"{living.name}.lock")):
        root, second = visits.make_root(), visits.make_root()
    assert root.stat().st_mode & 0o077 == 0
    folders = (living, root, second)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {folder.name for folder in folders}
    assert {path.stem for path in tmp_path.glob("*.lock")} == {root.name, second.name}


def test_the_sweeper_lives_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is the app's own folder, named over HTTP, ended it for good: photos stayed."""
    root, other = tmp_path / "root", tmp_path / "other.png"
    (root / "hash").mkdir(parents=True)
    other.write_text("x")
    for name in ("a.png", "b.png"):
        (root / "hash" / name).write_text("x")
    mine = visit("caller", root)
    outside = root / "hash" / ".." / ".." / "other.png"
    (root / "hash" / "link.png").symlink_to(other)
    keep(mine, [root, root / "hash", root / "hash" / "a.png", outside, other, tmp_path / "none", mine.folder])
    keep(mine, [root / "hash" / "link.png"])
    assert mine.uploads == {root / "hash" / "a.png"}
    leave("caller")
    assert not mine.folder.exists() and not (root / "hash" / "a.png").exists() and other.is_file()
    swept: list[int] = []

    def failing(folder: Path) -> None:
        swept.append(len(swept))
        if len(swept) == 1:
            raise IsADirectoryError
        raise KeyboardInterrupt

    monkeypatch.setattr(visits, "sweep", failing)
    monkeypatch.setattr(visits, "SWEEP", 0)
    with pytest.raises(KeyboardInterrupt):
        visits.keep_sweeping(root)
    assert swept == [0, 1]


def test_previews_go_with_the_visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours after the last click nothing of a visit is there: its pictures, Gradio's copies of them, uploads."""
    mine = visits.enter("page", "0" * 32, tmp_path)
    for path in (mine.new_folder() / "look.png", tmp_path / "cache" / "look.png", tmp_path / "hash" / "photo.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    keep(mine, [tmp_path / "hash" / "photo.png"])
    sweep(tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 3
    later, clock = time.monotonic() + visits.KEEP + 1, time.time() + visits.KEEP + 1
    monkeypatch.setattr(visits.time, "monotonic", lambda: later)
    monkeypatch.setattr(visits.time, "time", lambda: clock)
    for _ in range(2):
        sweep(tmp_path)
    assert not list(tmp_path.rglob("*"))


GATE = {  # headers, method -> whether a request comes through; the app listens on 127.0.0.1
    "its page": ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, "POST", True),
    "its page by name": ({"host": "LocalHost:7860", "origin": "http://localhost:7860"}, "POST", True),
    "a program": ({"host": "127.0.0.1:7860"}, "POST", True),
    "on the network": ({"host": "192.168.1.5:7860", "origin": "http://192.168.1.5:7860"}, "POST", True),
    "version 6": ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, "POST", True),
    "rebinding": ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, "POST", False),
    "rebinding, reading": ({"host": "evil.example:7860"}, "GET", False),
    "a name that looks like one": ({"host": "localhost.evil.example"}, "GET", False),
    "an address that looks like one": ({"host": "127.0.0.1.evil.example"}, "GET", False),
    "no host": ({}, "GET", False),
    "no host at all": ({"host": "[[:"}, "GET", False),
    "another site": ({"host": "127.0.0.1:7860", "origin": "https://evil.example"}, "POST", False),
    "another port": ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:3000"}, "POST", False),
    "a file": ({"host": "127.0.0.1:7860", "origin": "null"}, "POST", False),
    "a form": ({"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site"}, "POST", False),
    "a link": ({"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site"}, "GET", True),
    "a proxy": ({"host": "photos.example", "origin": "https://photos.example"}, "POST", True),
    "a proxy's page": ({"host": "127.0.0.1:7860", "origin": "https://photos.example"}, "POST", True),
}  # fmt: skip


@pytest.mark.parametrize("name", GATE)
def test_who_may_call(name: str) -> None:
    headers, method, through = GATE[name]
    names = gate.own_names("127.0.0.1", ["photos.example"])
    assert (gate.refusal(headers, method, names, {"photos.example"}) == "") == through


def test_other_sites_and_names_are_refused(served: app_server.Served) -> None:
    import httpx

    upload = {"files": ("a.png", b"content", "image/png")}
    address = f"{served.url}gradio_api/upload"
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        before = served.files()
        answer = httpx.post(address, files=upload, headers=headers)
        assert answer.status_code == 403 and "\n" not in answer.text and "allowed" in answer.text
        assert served.files() <= before
    assert httpx.get(served.url, headers={"host": "evil.example"}).status_code == 403
    assert httpx.post(address, files=upload, headers={"origin": served.url.rstrip("/")}).status_code == 200


def test_calls_of_what_is_not_there_are_refused_in_one_line(served: app_server.Served) -> None:
    import httpx

    for path in ("queue/join", "run/protect"):
        body = {"data": [], "fn_index": 99999, "session_hash": "x"}
        answer = httpx.post(f"{served.url}gradio_api/{path}", json=body)
        assert answer.status_code == 400 and "99999" in answer.text and "\n" not in answer.text


def test_odd_choices_over_http_are_refused(here: Visit, photo: Path) -> None:
    from editproof.app import api

    usual = {"region": "whole", "strength": "balanced", "format": "png", "method": "noise", "editor": "tiny-inpaint",
             "seed": 0, "metadata": "keep"}  # fmt: skip
    for odd in ({"region": "everybody"}, {"region": None}, {"region": "painted"}, {"format": None}, {"method": None},
                {"editor": None}, {"seed": None}, {"seed": 1.5}, {"metadata": None}, {"strength": None}):  # fmt: skip
        with pytest.raises(UserError, match="allowed"):
            api._protect(here, str(photo), None, usual | odd, lambda what, share: None)


def test_a_report_can_reach_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from editproof.app.results_tab import report_frame

    assert report_frame(None, "A report") == report_frame(tmp_path, "A report") == ""
    (tmp_path / "report.html").write_text('<p class="a">"</iframe><script>alert(1)</script>')
    frame = report_frame(tmp_path, "A report")
    assert 'sandbox="allow-scripts"' in frame and frame.count("<") == 2 and "&lt;script&gt;" in frame


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--port", "0"]) == 2 and "1 to 65535" in capsys.readouterr().err
    monkeypatch.setattr("editproof.app.server.find_spec", lambda name: None)
    assert main(["app"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'editproof[app]'" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "asked", "warned"),
    [([], ("127.0.0.1", 7860, False), ""), (["--share"], ("127.0.0.1", 7860, True), "a server of Gradio's"),
     (["--host", "0.0.0.0", "--port", "8000"], ("0.0.0.0", 8000, False), "others on your network")],
)  # fmt: skip
def test_others_are_let_in_only_when_asked(
    options: list[str], asked: tuple, warned: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*values: Any, **more: Any) -> None:
        assert values[:3] == asked
        raise UserError("enough")

    monkeypatch.setattr("editproof.app.server.serve", serve)
    assert main(["app", *options]) == 2
    said = capsys.readouterr().err
    assert warned in said and ("warning" in said) == bool(warned)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[app_server.Served]:
    pytest.importorskip("gradio", reason="pip install 'editproof[app]'")
    folder = tmp_path_factory.mktemp("api")
    (folder / "report.html").write_text("<p>")
    with app_server.running(folder / "log", "--results", str(folder)) as served:
        yield served


def test_it_listens_on_this_computer_only_and_a_port_belongs_to_one(
    served: app_server.Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (listening,) = [c for c in served.process.net_connections("tcp") if c.status == "LISTEN"]
    assert listening.laddr.ip == "127.0.0.1"
    assert not [c for c in served.process.net_connections("inet") if c.raddr and c.raddr.ip != "127.0.0.1"]
    with pytest.raises(AssertionError, match=f"port '{listening.laddr.port}' on '127.0.0.1' cannot be used"), \
         app_server.running(tmp_path / "log", "--port", str(listening.laddr.port)):  # fmt: skip
        pass
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_site_can_call_it(served: app_server.Served, photo: Path, tmp_path: Path) -> None:
    """The example of docs/app.md, with this server's address."""
    pytest.importorskip("gradio_client")
    text = (Path(__file__).parents[1] / "docs" / "app.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert "http://127.0.0.1:7860" in code
    code = code.replace("http://127.0.0.1:7860", served.url).replace('"photo.jpg"', repr(str(photo)))
    names: dict[str, Any] = {}
    exec(compile(code, "docs/app.md", "exec"), names)
    (report,) = protect_photos([photo], tmp_path / "out", budget=Linf(8 / 255), preset="fast")
    assert Path(names["protected"]).read_bytes() == (tmp_path / "out" / report["protected"]).read_bytes()
    assert names["report"]["linf_levels"] == report["linf_levels"]
    with Image.open(names["edited"]) as edited:
        assert edited.size == (128, 96)
    client, handle = names["client"], names["handle_file"]
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/protect", "/edit"}
    for part, strength, said in (("whole", "huge", "strength 'huge' is unknown"), ("half", "strong", "part 'half'")):
        with pytest.raises(Exception, match=f"(?i){said}"):
            client.predict(handle(str(photo)), None, part, strength, "png", api_name="/protect")
    with pytest.raises(Exception, match=r"(?i)method 'magic' is unknown"):
        client.predict(handle(str(photo)), None, "whole", "strong", "png", "magic", api_name="/protect")
    with pytest.raises(Exception, match=r"(?i)photo is missing"):
        client.predict(None, None, "whole", "strong", "png", api_name="/protect")
    with pytest.raises(Exception, match=r"(?i)editor '/etc' is not here"):
        client.predict(handle(str(photo)), None, "a hat", "/etc", 0, api_name="/edit")
    client.close()
    assert not served.our_errors()


@pytest.mark.parametrize("seed", [None, -1, 10**30])
def test_seeds_are_those_of_the_command_line(seed: int | None) -> None:
    with pytest.raises(UserError, match="allowed: a whole number from 0"):
        words.check_seed(seed)


def test_a_visit_without_a_page_is_soon_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "_visits", {})
    mine = visits.visit("caller", tmp_path)
    visits.soon_over(mine)
    visits.sweep(tmp_path)
    assert mine.folder.is_dir()
    monkeypatch.setattr(visits.time, "monotonic", lambda now=mine.seen: now + visits.KEEP + 1)
    visits.sweep(tmp_path)
    assert not mine.folder.exists()


def test_a_tab_finds_its_work_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "_visits", {})
    secret, now = "0123456789abcdef" * 2, time.monotonic()
    mine = visits.enter("first page", secret, tmp_path)
    visits.left("first page")  # a reload
    assert visits.enter("second page", secret, tmp_path) is mine and mine.away is None
    copy = visits.enter("copy of the tab", secret, tmp_path)
    visits.left("second page")
    assert copy is mine and mine.away is None  # the copy is open
    visits.left("copy of the tab")
    monkeypatch.setattr(visits.time, "monotonic", lambda: now + visits.AWAY)
    assert visit("copy of the tab", tmp_path) is mine and mine.away is None  # a connection that was lost is back
    visits.left("copy of the tab")
    monkeypatch.setattr(visits.time, "monotonic", lambda: now + 2 * visits.AWAY + 1)
    sweep(tmp_path)
    assert not mine.folder.exists() and not visits._visits and "copy of the tab" not in visits._tabs
    for bad in ("", "short", "../" + secret, None):
        assert visits.enter("guest", bad, tmp_path) is visit("guest", tmp_path)  # type: ignore[arg-type]
        visits.left("guest")
        assert not visits._visits
