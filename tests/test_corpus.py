"""Every odd file gives a right result, with its metadata and without its previews, or one clear line."""

import json
from pathlib import Path

import corpus
import numpy as np
import pytest
from corpus import CASES
from PIL import Image

from editproof.cli.main import main
from editproof.photo.formats import FORMATS
from editproof.photo.reading import open_photo
from editproof.protection.files import protect_photos

HIDDEN = corpus.hidden_forms()
RESULTS = [name for name, case in CASES.items() if case.said is None and case.skipped is None]
REFUSED = {name: case.said for name, case in CASES.items() if case.said is not None}
MOVING = ("animated.gif", "animated.png", "animated.webp")  # clips where they are named: tests/test_video.py
WITH_METADATA = [name for name, case in CASES.items() if case.keeps or case.alpha]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, case in CASES.items():
        case.write(folder / name)
    return folder


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, dict]:
    """One run over everything: the name of a file -> what was yielded for it."""
    found = {}
    for report in protect_photos([folder], folder.parent / "out", method="noise", recursive=True):
        name = Path(report["photo"]).name
        assert name not in found
        found[name] = report
    return found


def test_there_are_enough() -> None:
    assert len(CASES) >= 100
    assert len(RESULTS) > 60
    assert len(REFUSED) > 30


def test_every_file_is_accounted_for(reports: dict[str, dict]) -> None:
    assert set(reports) == {name for name, case in CASES.items() if case.skipped is None}


@pytest.mark.parametrize("name", RESULTS)
def test_right_result(name: str, folder: Path, reports: dict[str, dict]) -> None:
    case, report = CASES[name], reports[name]
    assert "error" not in report, report
    output = folder.parent / "out" / report["protected"]
    photo = open_photo(output)
    expected = np.broadcast_to(
        (corpus.PIXELS if case.pixels is None else case.pixels).reshape(96, 128, -1), (96, 128, 3)
    )
    assert photo.size == (case.rows, 128)
    difference = np.abs(photo.levels.numpy()[:88].astype(int) - expected[:88])  # where a JPEG ends, the last rows smear
    assert 1 <= difference.max() <= 8 + case.off
    assert report["linf_levels"] <= 8
    assert photo.marked
    assert (photo.alpha is not None) == case.alpha
    assert report["seed"] == 0
    check_metadata(output, case)


def check_metadata(output: Path, case: corpus.Case) -> None:
    """What the case keeps is there, and no preview in any form."""
    data = output.read_bytes()
    for form in HIDDEN:
        assert form not in data
    with Image.open(output) as image:
        image.load()
        tags, packet = image.getexif(), image.info.get("xmp", b"")
    assert 0x0112 not in tags
    assert b"generator" not in data
    assert b"seed" not in packet
    if "exif" in case.keeps:
        inner, place = tags.get_ifd(0x8769), tags.get_ifd(0x8825)
        assert (tags[0x010E], tags[0x013B], inner[0xA434]) == ("A description", "An artist", "A lens")
        assert (inner[0x829A], inner[0x9003]) == (1 / 125, "2024:05:06 07:08:09")
        assert (inner[0xA002], inner[0xA003]) == (128, 96)
        assert place[2] == (48.0, 51.0, 29.6)
        assert 0x927C not in inner
        assert not tags.get_ifd(0x0201)
    if "xmp" in case.keeps:
        assert "A title &amp; more" in packet.decode()
        assert b'xmp:Rating="4"' in packet
    if "caption" in case.keeps:
        assert "A c\u00e4ption" in packet.decode()
        assert b"A photographer" in packet
    assert open_photo(output).icc == (corpus.SRGB if "icc" in case.keeps else None)


@pytest.mark.parametrize("name", MOVING)
def test_moving_pictures_in_folders_are_left_to_clips(name: str, reports: dict[str, dict]) -> None:
    assert reports[name]["skipped"] == "a clip"


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in MOVING])
def test_refused_in_one_line(name: str, folder: Path, reports: dict[str, dict]) -> None:
    said = reports[name]["error"]
    assert REFUSED[name] in said
    assert "\n" not in said
    assert "Error" not in said
    written = {path.name for path in (folder.parent / "out").iterdir()}
    assert not {f"{Path(name).stem}-protected.png", f"{name}-protected.png"} & written


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "png"])
def test_metadata_in_every_format(kind: str, folder: Path, tmp_path: Path) -> None:
    names = [name for name in WITH_METADATA if kind != "jpeg" or not CASES[name].alpha]
    for i, name in enumerate(names):
        (tmp_path / f"{i}{Path(name).suffix}").symlink_to(folder / name)
    photos = [tmp_path / f"{i}{Path(name).suffix}" for i, name in enumerate(names)]
    reports = list(protect_photos(photos, tmp_path / "out", method="noise", format=kind))
    assert len(reports) == len(names)
    for i, name in enumerate(names):
        output = tmp_path / "out" / f"{i}-protected{FORMATS[kind].suffix}"
        check_metadata(output, CASES[name])
        assert open_photo(output).marked


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in MOVING])
def test_refused_alone(name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protect", "--method", "noise", "--out", str(tmp_path / "out"), "--", str(folder / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert REFUSED[name] in said.err
    assert not (tmp_path / "out").exists()


def test_reports_are_private_and_say_what_the_photo_must_not(folder: Path, reports: dict[str, dict]) -> None:
    path = folder.parent / "out" / "rgb-protected.json"
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["seed"] == 0
    for word in (b"noise", b"seed", b"8/255", b"eps"):
        assert word not in (folder.parent / "out" / "rgb-protected.png").read_bytes()
