"""The first tab's steps without a browser: who is outlined and chosen, what a strength shows, what is said."""

import json
import re
import string
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor

from editproof.app import check_tab, choosing, editing_both, preview, seeing, texts, words
from editproof.app.choosing import drawn, look_for_people, mask_of, number_people, point_at
from editproof.app.protecting import Choices, protect_all
from editproof.app.visits import Visit, leave, visit
from editproof.app.work import Running
from editproof.bench.checking import Checked, OnEditor, Outcome
from editproof.photo.masks import AUTO, open_mask
from editproof.photo.reading import open_photo, save_png

HEIGHT, WIDTH = 120, 200
PEOPLE = [(slice(30, 110), slice(20, 60)), (slice(20, 110), slice(120, 180))]  # rows and columns


def two(image: Tensor) -> tuple[Tensor, str]:
    """Finds the two of PEOPLE."""
    mask = torch.ones(1, 1, *image.shape[-2:])
    for rows, columns in PEOPLE:
        mask[..., rows, columns] = 0
    return mask, "2 people found"


def seen(images: Tensor) -> Tensor:
    """The network's probabilities: their faces, and between them somebody of whom it is unsure."""
    likely, face = torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)
    for rows, columns in PEOPLE:
        likely[rows, columns] = 1
        face[rows.start : rows.start + 20, columns] = 1
    likely[40:100, 80:100] = 0.3
    return torch.stack([likely, face])[None]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Visit]:
    yield visit("steps", tmp_path)
    leave("steps")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("editproof.people.finding.auto_mask", two)
    monkeypatch.setattr(choosing, "probabilities", seen)
    save_png(tmp_path / "photo.png", tiny.pictures(1, HEIGHT, WIDTH)[0])
    return tmp_path / "photo.png"


def test_people_are_outlined_and_chosen_by_clicks(photo: Path, here: Visit) -> None:
    people = look_for_people(here, open_photo(photo))
    assert look_for_people(here, open_photo(photo)) is people
    assert people.found == 2 and people.chosen == {1, 2} and people.untouched and mask_of(here, people) == AUTO
    original, picture = np.asarray(people.image).astype(int), np.asarray(drawn(people)).astype(int)
    assert (picture[70:90, 30:50] == original[70:90, 30:50]).all()  # inside, below the number
    assert picture[5:15].sum() < 0.5 * original[5:15].sum()
    assert (picture[70, 19:21] == choosing.GREEN).all()
    point_at(people, 150, 60)
    assert people.chosen == {1} and not people.untouched
    picture = np.asarray(drawn(people))
    assert (picture[90, 119:121] == choosing.GREY).all() and picture[70:90, 130:150].sum() < original[
        70:90, 130:150
    ].sum()
    mask = open_mask(mask_of(here, people), (HEIGHT, WIDTH))  # type: ignore[arg-type]
    expected = torch.ones(HEIGHT, WIDTH)
    expected[PEOPLE[0]] = 0
    assert torch.equal(mask[0, 0], expected)
    point_at(people, 90, 70)  # where the network is unsure
    assert people.chosen == {1, 3} and people.added[3].sum() == 60 * 20
    point_at(people, 190, 110)  # where it sees nobody
    spot = people.added[4]
    assert spot[110, 190] and 0 < spot.mean() < 0.1
    kept = people.kept
    assert (
        kept is not None
        and kept.sum()
        == (expected == 0).sum().item()
        + 60 * 20
        + (spot & ~np.isin(people.numbers, [2])).sum()
        + (spot & (people.numbers == 2)).sum()
    )
    point_at(people, 190, 110)
    point_at(people, 90, 70)
    point_at(people, 150, 60)
    assert people.untouched


def test_protect_keeps_to_who_was_chosen(photo: Path, here: Visit) -> None:
    people = look_for_people(here, open_photo(photo))
    point_at(people, 40, 60)
    (done,), wrong = protect_all(here, [photo], Choices(), lambda what, share: None, {photo: mask_of(here, people)})
    before, after = (np.asarray(Image.open(file)).astype(int) for file in (photo, done.file))
    changed = (before != after).any(-1)
    assert not wrong and changed[PEOPLE[1]].mean() > 0.5 and not changed[:, :110].any()


def test_people_who_touch_are_told_apart_by_their_faces() -> None:
    kept, face = np.zeros((100, 200), bool), np.zeros((100, 200), np.float32)
    kept[20:100, 40:160] = True
    face[25:45, 60:80] = face[25:50, 120:145] = 1
    numbers, faces = number_people(kept, face)
    assert set(np.unique(numbers)) == {0, 1, 2} and (numbers[:, 40:90][kept[:, 40:90]] == 1).all()
    assert (numbers[:, 110:160][kept[:, 110:160]] == 2).all() and len(faces) == 2 and faces[0][0] > 110
    none, middles = number_people(np.zeros((8, 8), bool), np.zeros((8, 8), np.float32))
    assert none.max() == 0 and middles == []


def test_a_badge_that_looks_like_a_face_is_nobody() -> None:
    kept, face = np.zeros((100, 200), bool), np.zeros((100, 200), np.float32)
    kept[10:100, 40:160] = True
    face[15:30, 60:75] = face[50:90, 100:150] = 1  # a face, and a larger badge
    head = (0.3, 0.12, 0.38, 0.32)  # where the detector is sure of a face
    assert len(number_people(kept, face)[1]) == 2
    numbers, faces = number_people(kept, face, [head])
    assert numbers.max() == 1 and faces == [(68, 22)]
    face[15:30, 130:145] = 1  # somebody whom only the network sees
    numbers, faces = number_people(kept, face, [head, (0.8, 0.1, 0.9, 0.2)])  # the second is outside of everybody
    assert numbers.max() == 2 and faces == [(68, 22), (137, 22)]


def test_where_nobody_is_found_a_click_says_what_to_protect(
    here: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editproof.people.finding.auto_mask", lambda image: (None, "nobody found"))
    monkeypatch.setattr(choosing, "probabilities", lambda images: torch.zeros(1, 2, 32, 32))
    save_png(tmp_path / "wall.png", tiny.pictures(1, 64, 64)[0])
    people = look_for_people(here, open_photo(tmp_path / "wall.png"))
    assert people.kept is None and people.untouched and drawn(people) is people.image
    point_at(people, 500, -3)  # outside counts as at the edge
    assert people.kept is not None and people.kept[0, 63] and not people.untouched
    assert open_mask(mask_of(here, people), (64, 64)).mean() > 0.9  # type: ignore[arg-type]


def test_what_was_painted_is_kept_for_each_photo(photo: Path, here: Visit) -> None:
    layers = np.zeros((2, 60, 100, 4), np.uint8)
    layers[0, 10:20, 10:30] = layers[1, 40:50, 60:90] = 0, 200, 83, 153
    names = ("status", "note", "which", "found", "who", "painter", "looks", "over", "example")
    ui = SimpleNamespace(**{name: name for name in names})
    save_png(photo.with_name("other.png"), tiny.pictures(1, HEIGHT, WIDTH)[0])
    here.chosen |= {"photos": [str(photo), str(photo.with_name("other.png"))], "which": 0, "region": words.PAINTED}
    seeing.keep_painted(ui, here, {"layers": list(layers)})
    (file,) = seeing.show_part(ui, here)["painter"]["value"]["layers"]
    assert (np.asarray(Image.open(file)) == layers.sum(0)).all()
    here.chosen["which"] = 1
    assert seeing.show_part(ui, here)["painter"]["value"]["layers"] == []
    here.chosen |= {"which": 0, "region": words.WHOLE}
    seeing.keep_painted(ui, here, None)  # nothing of another part's
    here.chosen["region"] = words.PAINTED
    assert seeing.show_part(ui, here)["painter"]["value"]["layers"] == [file]
    seeing.keep_painted(ui, here, {"layers": [np.zeros_like(layers[0])]})  # wiped off
    assert seeing.show_part(ui, here)["painter"]["value"]["layers"] == []


def test_a_late_look_leaves_a_protection_alone(here: Visit) -> None:
    """It used to hide the result of a protection that had begun, and even ended, meanwhile."""
    handlers = pytest.importorskip("editproof.app.handlers", reason="pip install 'editproof[app]'")
    answer = {"status": "", "note": "two people", "download": "hidden"}
    begins = Running(here, lambda progress: None)
    begins.thread.join()

    def look(mine: Visit, begin: bool) -> dict[str, Any]:
        mine.running = begins if begin else mine.running
        return dict(answer)

    asked = handlers.in_turn(look, "status", ["download"])
    assert asked(here, False) == answer
    late = asked(here, True)
    assert late["note"] == "two people" and "download" not in late and late["status"] == {"__type__": "update"}
    assert asked(here, True) == answer  # that protection is over
    go_on = threading.Event()
    here.running = Running(here, lambda progress: go_on.wait())
    assert "download" not in asked(here, False)
    go_on.set()
    here.running.thread.join()
    assert asked(here, False) == answer


def test_photos_that_a_reload_fills_in_are_not_told_again(photo: Path, here: Visit) -> None:
    tab = pytest.importorskip("editproof.app.protect_tab", reason="pip install 'editproof[app]'")
    ui = SimpleNamespace(**{name: name for name in (
        "status", "note", "which", "found", "who", "painter", "looks", "level", "over", "example", "download", "after",
        "picked", "slider", "details", "photos", "region", "strength", "how", "other",
    )})  # fmt: skip
    given = [str(photo)], words.WHOLE, None, 8
    assert tab.look_at_new(ui, here, *given)["slider"]["visible"] is False
    tab.show_strength(ui, here, 8, "immunizer", "")
    assert tab.as_it_was(ui, here)["photos"]["value"] == given[0]
    for _ in range(2):
        assert set(tab.look_at_new(ui, here, *given)) == {"status"}
    assert "found" in tab.look(ui, here, *given)  # another part
    tab.look_at_new(ui, here, [], words.WHOLE, None, 8)
    assert "found" in tab.look_at_new(ui, here, *given)  # the visitor has chosen them anew


def test_protecting_says_which_photos_are_chosen(photo: Path, here: Visit) -> None:
    """A look that comes later finds them known, and hides no result."""
    tab = pytest.importorskip("editproof.app.protect_tab", reason="pip install 'editproof[app]'")
    names = ("status", "download", "after", "picked", "slider", "details", "reports", "facts", "change", "note",
             "which", "found", "who", "painter", "looks", "level", "over", "example")  # fmt: skip
    ui = SimpleNamespace(**{name: name for name in names})
    told = list(tab.work(ui, here, [str(photo)], words.WHOLE, None, 8, "immunizer", "", None, "png", False, 0, "keep"))
    assert told[0]["download"]["visible"] is False and told[-1]["download"]["visible"] is True
    assert "download" not in tab.look(ui, here, [str(photo)], words.WHOLE, None, 8) and here.latest is not None


@pytest.mark.parametrize("strength", [words.WEAKEST, words.STRONGEST])
def test_what_is_shown_is_what_is_written(strength: int, photo: Path, here: Visit) -> None:
    opened = open_photo(photo)
    people = look_for_people(here, opened)
    mask = preview.mask_tensor(mask_of(here, people), people, opened)
    (done,), _ = protect_all(here, [photo], Choices(strength=strength), lambda what, share: None)
    assert torch.equal(preview.protected_levels(opened, mask, strength), open_photo(done.file).levels)


def test_where_to_look(photo: Path, here: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "SIDE", 20)
    monkeypatch.setattr(preview, "SPOT", 20)
    opened = open_photo(photo)
    opened.levels[80:110, 120:180] = 90  # the plainest part of the second person
    people = look_for_people(here, opened)
    keep = (two(opened.pixels)[0][0, 0] == 0).numpy()
    (first, (x, y)), (second, (left, top)) = preview.places(opened, keep, people)
    assert first == "look_face" and 120 <= x <= 160 and 10 <= y <= 40
    assert second == "look_smooth" and 120 <= left <= 160 and 80 <= top <= 90
    assert preview.places(opened, None, None)[0] == ("look_detail", (WIDTH // 2 - 10, HEIGHT // 2 - 10))
    page = preview.looks(here, opened, None, people, 8)
    assert page.count("<img") == 4 and page.count('type="range"') == 2 and "Face" in page
    noise, slow = (preview.looks(here, opened, None, people, 8, name) for name in ("noise", "mist"))
    assert noise != page and "noise" not in noise  # the chosen method is shown, or said not to be
    assert page.partition("</p>")[2] == slow.partition("</p>")[2] and "“mist” takes longer" in slow
    thorough = preview.looks(here, opened, None, people, 8, "autoencoder")
    assert "“Quick”" in thorough and "“Thorough” takes longer" in thorough and "autoencoder" not in thorough


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_catalogs_say_the_same(language: str) -> None:
    english, own = texts.catalog("en"), texts.catalog(language)
    assert list(own) == list(english)
    for key, text in own.items():
        names = [{name for _, name, _, _ in string.Formatter().parse(one) if name} for one in (text, english[key])]
        assert names[0] == names[1] and text.strip() == text and text, key


def test_every_text_is_used_and_every_use_has_a_text() -> None:
    package = Path(texts.__file__).parent
    source = "".join(path.read_text() for path in package.glob("*.py"))
    quoted = set(re.findall(r"[\"']([a-z]+(?:_[a-z0-9]+)*)[\"']", source)) | {
        *(f"tab_{name}" for name in ("protect", "check", "edit", "compare", "results")),
        *(f"check_{name}" for name in check_tab.FILES), *(f"level_{number}" for number in range(1, 5)),
        *(f"{of}_{how}" for of in ("original", "protected") for how in ("worked", "failed", "unsure")),
        *(f"edit_of_{name}" for name in ("original", "protected")),
        *(f"found_{number}" for number in ("0", "1", "n")),
        *(f"metadata_{what}" for what in ("keep", "no_place", "strip")),
    }  # fmt: skip
    assert set(texts.catalog("en")) <= quoted
    for key in re.findall(r'\bsay\((?:\w+\.)?(?:language, )?"(\w+)"', source):
        assert key in texts.catalog("en"), key


def test_first_screen_words() -> None:
    said = json.dumps(texts.catalog("en")).lower()
    assert not [word for word in ("tiny-inpaint", "eps", "ssim", "seed") if re.search(rf"\b{word}\b", said)]


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("en-US,en", "en"),
        ("nl,de;q=0.9", "en"),
        ("", "en"),
        (None, "en"),
        ("EN", "en"),
        ("de-AT,en", "de"),
        ("tr", "tr"),
    ],
)
def test_language_is_the_first_that_the_browser_asks_for(asked: Any, language: str) -> None:
    assert texts.language_of(SimpleNamespace(headers={"accept-language": asked})) == language
    assert texts.language_of(None) == "en"


def test_what_is_left_is_said_plainly() -> None:
    def outcome(succeeded: int | None, broken: int) -> Outcome:
        return Outcome(2, succeeded, succeeded, succeeded, broken)

    on = OnEditor("an-editor", ["a", "b"], outcome(2, 0), outcome(0, 1), outcome(1, 1), 1.0, 0.5, 0.5)
    unknown = replace(on, original=outcome(None, 0), protected=outcome(None, 2), downloaded=outcome(None, 1))
    checked = Checked((96, 128), (48, 64), "JPEG", 75, 30.0, 38.0, 0.42, "", (), (on, unknown))
    told = check_tab.plainly(partial(texts.say, "en"), checked)
    assert "A part of what the protection added is left: 42%" in told and "64 x 48 pixels (JPEG)" in told
    assert "2 of your original worked, 0 of the protected photo, 1 of the download" in told
    assert "0 of your original look broken, 2 of the protected photo, 1 of the download" in told
    assert "prove nothing" in told and "online services is unknown" in told
    whole = replace(
        checked, downloaded_size=(96, 128), format="PNG", jpeg_quality=None, perturbation_left=1.0, editors=()
    )
    told = check_tab.plainly(partial(texts.say, "en"), whole)
    assert (
        "Most of what the protection added is left: 100%" in told
        and "same size" in told
        and "128 x 96 pixels (PNG)" in told
    )
    assert "edits can work even where" in told and "“Also try to edit all three versions”" in told
    assert "Hardly anything" in check_tab.plainly(partial(texts.say, "en"), replace(checked, perturbation_left=-0.1))


@pytest.mark.parametrize(
    ("person", "obeyed", "broken", "said"),
    [(1.0, 1.0, 0.0, "worked"), (1.0, 0.0, 0.0, "failed"), (float("nan"), 1.0, 0.0, "may have worked")],
)
def test_an_edit_is_judged_as_the_attacker_would(
    person: float, obeyed: float, broken: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"kept": person, "obeyed": obeyed, "broken": broken}.items():
        monkeypatch.setattr(editing_both, name, lambda trial, value=value: torch.tensor([value]))
    monkeypatch.setattr("editproof.people.faces.installed", lambda: True)
    say = partial(texts.say, "en")
    told, _ = editing_both.verdict(say, "original", None)  # type: ignore[arg-type]
    assert told.startswith(f"**The edit of the original {said}") and "looks whole: yes" in told
    assert ("cannot be said" in told) == (person != person)
    both = editing_both.sentence(say, "an-editor", "none", "", [None, None])  # type: ignore[list-item]
    assert ("did not stop the edit" in both) == (said == "worked") and "the protection stopped" not in both
    assert ("says nothing about it" in both) == (said == "failed")
