"""Whether an attack succeeded: the person kept, the prompt obeyed, the edit not broken."""

from dataclasses import replace
from importlib import import_module
from math import nan
from pathlib import Path

import metric_models
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.bench.demo import astronaut
from editproof.errors import UserError
from editproof.metrics import Trial, broken, ciede2000, kept, obeyed, structure, success
from editproof.metrics.instructions import COLOURS, INSTRUCTIONS, asked_of, find_instruction, grey
from editproof.metrics.success import succeeded

SIDE = 192
success_module = import_module("editproof.metrics.success")  # the package has a function of that name


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return astronaut(SIDE)[0]


@pytest.fixture(scope="module")
def mask() -> Tensor:
    return astronaut(SIDE)[1]


def backdrop(photo: Tensor, mask: Tensor, name: str) -> Tensor:
    return torch.where(mask > 0.5, torch.tensor(COLOURS[name]).view(1, 3, 1, 1) / 255, photo)


def trial(photo: Tensor, edit: Tensor, prompt: str, mask: Tensor | None = None, person: Tensor | None = None) -> Trial:
    return Trial(photo, photo, photo, edit, photo, [prompt], mask, person=person)


def cracked(photo: Tensor, mask: Tensor | None = None) -> Tensor:
    """The picture in tiles of 12 pixels, each turned by half."""
    tiles = F.unfold(photo, 12, stride=12).view(1, 3, 12, 12, -1).flip(2, 3).reshape(1, 432, -1)
    return F.fold(tiles, (SIDE, SIDE), 12, stride=12)


@pytest.mark.parametrize(
    ("prompt", "name", "word"),
    [
        ("a portrait photo, plain red background", "background", "red"),
        ("Change the background to light blue, or blue", None, None),
        ("change the background to blue", "background", "blue"),
        ("put this person in front of a grey wall", "background", "grey"),
        ("please make it black and white.", "black and white", ""),
        ("a portrait on a black background", "background", "black"),
        ("mirror the picture", "mirror", ""),
        ("turn the picture upside down", "upside down", ""),
        ("invert the colours", "negative", ""),
        ("a portrait photo", None, None),
        ("a man in a red shirt", None, None),
    ],
)
def test_instructions_are_found_by_their_words(prompt: str, name: str | None, word: str | None) -> None:
    found = find_instruction(prompt)
    assert found == (None if name is None else (INSTRUCTIONS[name], word))


@pytest.mark.parametrize("prompt", ["make it black and white", "mirror the picture", "upside down", "a negative"])
def test_exact_results_are_obeyed_and_the_photo_is_not(prompt: str, photo: Tensor) -> None:
    assert obeyed(trial(photo, asked_of(prompt, photo), prompt)).tolist() == [1]
    assert obeyed(trial(photo, photo, prompt)).tolist() == [0]
    assert structure(trial(photo, asked_of(prompt, photo), prompt)).item() == pytest.approx(1, abs=1e-5)


def test_backgrounds(photo: Tensor, mask: Tensor) -> None:
    for name in COLOURS:
        prompt, edit = f"plain {name} background", backdrop(photo, mask, name)
        assert obeyed(trial(photo, edit, prompt, mask)).tolist() == [1], name
        assert obeyed(trial(photo, edit, prompt, person=1 - mask)).tolist() == [1]
        assert obeyed(trial(photo, edit, prompt)).isnan().all()  # nobody knows where the background is
        assert obeyed(trial(photo, edit, prompt, person=0 * mask)).isnan().all()  # nobody was found
        other = "red" if name != "red" else "blue"
        assert obeyed(trial(photo, backdrop(photo, mask, other), prompt, mask)).tolist() == [0]


def test_what_nobody_can_tell_is_nan(photo: Tensor, mask: Tensor) -> None:
    assert obeyed(trial(photo, photo, "a portrait photo", mask)).isnan().all()
    assert obeyed(trial(grey(photo), grey(photo), "make it black and white")).isnan().all()
    assert kept(trial(torch.full_like(photo, 0.5), photo, "mirror it")).isnan().all()
    red = backdrop(photo, mask, "red")
    assert obeyed(trial(red, red, "plain red background", mask)).isnan().all()  # it was red before
    symmetric = (photo + photo.flip(-1)) / 2
    assert obeyed(trial(symmetric, symmetric, "mirror it")).isnan().all()


def test_of_which_photos_nobody_can_tell_depends_on_no_protection(photo: Tensor, mask: Tensor) -> None:
    """Else shares with different protections would be of different photos."""
    for prompt, before in (("make it black and white", grey(photo)), ("plain red background", photo)):
        safe = photo if before is not photo else backdrop(photo, mask, "red")  # as if the protection had done it
        tried = replace(trial(before, safe, prompt, mask), protected=safe)
        assert obeyed(tried).isnan().all() == (before is not photo), prompt


def test_clip_is_asked_of_other_prompts_where_the_user_has_one(
    photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(metric_models.clip(tmp_path))
    assert obeyed(trial(photo, photo, "a sad person"), folder).tolist() == [0]  # no nearer than what was given
    assert obeyed(trial(photo, photo, "mirror it"), folder).tolist() == [0]  # measured, whatever CLIP says
    seen = {photo.mean().item(): 0.2, (photo * 0.5).mean().item(): 0.25}
    monkeypatch.setattr(success_module, "clip_text", lambda x, texts, source: torch.tensor([seen[x.mean().item()]]))
    assert obeyed(trial(photo, photo * 0.5, "a dark photo"), folder).tolist() == [1]


def test_an_edit_succeeds_only_if_all_three_do(photo: Tensor, mask: Tensor) -> None:
    prompt, good = "plain green background", backdrop(photo, mask, "green")
    assert success(trial(photo, good, prompt, mask)).tolist() == [1]
    for name, edit in {
        "another person": backdrop(torch.full_like(photo, 0.5), mask, "green"),
        "another colour": backdrop(photo, mask, "purple"),
        "cracked": backdrop(cracked(photo), mask, "green"),
    }.items():
        assert success(trial(photo, edit, prompt, mask)).tolist() == [0], name
    for which, answers in enumerate(((0, 1, 0), (1, 0, 0), (1, 1, 1), (nan, 1, 0), (1, nan, 0), (1, 1, 0))):
        value = succeeded(*(torch.tensor([float(answer)]) for answer in answers)).item()
        assert (value != value) == (which in (3, 4)) and (value == 1) == (which == 5)


def test_what_is_broken(photo: Tensor, mask: Tensor) -> None:
    """Light, colour and faint noise are no damage, cracks are; only what was to be kept is looked at."""
    prompt = "plain green background"
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    unbroken = (
        photo * 0.8,
        (photo + 8 / 255 * noise.sign()).clamp(0, 1),
        photo * torch.tensor([1, 0.9, 0.8]).view(3, 1, 1),
    )
    for edit in unbroken:
        assert broken(trial(photo, edit, prompt, mask)).tolist() == [0]
    assert broken(trial(photo, cracked(photo), prompt, mask)).tolist() == [1]
    elsewhere = torch.where(mask > 0.5, cracked(photo), photo)
    assert structure(trial(photo, elsewhere, prompt, mask)).item() > 0.99
    assert structure(trial(photo, elsewhere, prompt, person=1 - mask)).item() > 0.99
    assert structure(trial(photo, elsewhere, "a portrait")).item() < 0.99  # nobody knows who is to be kept: everything


def test_an_edit_that_looks_like_the_protected_photo_or_the_original_is_not_broken(photo: Tensor) -> None:
    safe = cracked(photo)
    for edit in (photo, safe):
        assert structure(replace(trial(photo, edit, "a portrait"), protected=safe)).item() == pytest.approx(1, abs=1e-5)
    after_counter = replace(trial(photo, safe, "a portrait"), given=safe)
    assert structure(after_counter).item() == pytest.approx(1, abs=1e-5)


def test_recognisers_go_by_name(photo: Tensor) -> None:
    assert kept(trial(photo, photo, "a"), "dlib").tolist() == [1]
    with pytest.raises(UserError, match="recogniser 'nobody' is unknown; allowed: dlib"):
        kept(trial(photo, photo, "a"), "nobody")


def test_ciede2000_is_scikit_images(photo: Tensor) -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    other = (photo * 0.9 + 0.02).clamp(0, 1)
    first, second = (rgb2lab(x[0].permute(1, 2, 0).double().numpy()) for x in (photo, other))
    assert ciede2000(other, photo).item() == pytest.approx(deltaE_ciede2000(first, second).mean(), abs=1e-4)
    assert ciede2000(photo, photo).tolist() == [0]
