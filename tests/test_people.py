"""Who is in a photo: the embedded network on public-domain photos, its fallback, and --mask auto wherever it goes."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from editproof.cli.main import main
from editproof.errors import UserError
from editproof.people import finding as people
from editproof.people.finding import (
    PeopleNet,
    at_size,
    auto_mask,
    find_people,
    head_and_shoulders,
    regions,
    seen_size,
)
from editproof.photo.masks import AUTO, check_mask, found_mask, open_mask
from editproof.photo.reading import open_photo


def pixels(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    """scikit-image's photograph of Eileen Collins (3,512,512) uint8: she fills the left and the middle."""
    return pixels(skimage.data.astronaut())


def portrait(image: Tensor, height: int, width: int, left: int) -> Tensor:
    """The astronaut, `height` pixels high, over a plain colour, in a picture as high and `width` wide."""
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((height, height), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (width, height), (90, 140, 120))
    sheet.paste(small, (left, 0))
    return pixels(np.asarray(sheet))


def test_the_network_is_small() -> None:
    assert sum(p.numel() for p in PeopleNet().parameters()) <= 450_000
    assert people.EMBEDDED.stat().st_size <= 0.9 * 2**20
    assert (people.EMBEDDED.parent / "README.md").is_file()


def test_a_person_is_found_and_the_rest_is_not(astronaut: Tensor) -> None:
    mask, said = auto_mask(astronaut.float() / 255)
    assert mask is not None and mask.shape == (1, 1, 512, 512) and set(mask.unique().tolist()) == {0, 1}
    assert mask[0, 0, 30:150, 190:260].mean() < 0.05  # the face
    assert mask[0, 0, 250:450, 80:300].mean() < 0.1  # the suit
    assert mask[0, 0, :60, 300:].mean() > 0.9  # a model of the shuttle
    assert "found; the rest (" in said and "may be repainted" in said
    assert torch.equal(find_people(astronaut[None].float() / 255), mask)


@pytest.mark.parametrize("change", ["grey", "mirrored", "bright", "dark"])
def test_changed_photos(change: str, astronaut: Tensor) -> None:
    image = astronaut.float() / 255
    image = {
        "grey": image.mean(0, keepdim=True).expand(3, -1, -1), "mirrored": image.flip(2),
        "bright": (image * 1.3).clamp(0, 1), "dark": image * 0.6,
    }[change]  # fmt: skip
    mask, _ = auto_mask(image)
    assert mask is not None
    mask = mask.flip(3) if change == "mirrored" else mask
    assert mask[0, 0, 50:140, 200:250].mean() < 0.1
    assert 0.2 < mask.mean() < 0.9


@pytest.mark.parametrize("size", [(600, 800), (1000, 640), (400, 1200), (3000, 4000)])
def test_sizes(size: tuple[int, int], astronaut: Tensor) -> None:
    height, width = size
    image = portrait(astronaut, height, max(width, height), 0)[:, :, :width]
    mask, _ = auto_mask(image)
    assert mask is not None and mask.shape == (1, 1, height, width)
    scale = height / 512
    assert mask[0, 0, int(60 * scale) : int(140 * scale), int(200 * scale) : int(250 * scale)].mean() < 0.1
    sides = seen_size(height, width)
    assert max(sides) == 256 and all(side % 32 == 0 for side in sides)


def test_two_people(astronaut: Tensor) -> None:
    image = portrait(astronaut, 512, 1100, 0)
    image[:, :, 588:] = astronaut
    mask, said = auto_mask(image)
    assert mask is not None and int(said.split()[0]) >= 2
    for left in (0, 588):
        assert mask[0, 0, 60:140, left + 200 : left + 250].mean() < 0.1


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick", "grass", "coins", "page"])
def test_nobody_is_found_where_nobody_is(name: str) -> None:
    picture = getattr(skimage.data, name)()
    image = pixels(picture if picture.ndim == 3 else np.stack([picture] * 3, -1))
    mask, said = auto_mask(image)
    assert mask is None and "nobody found" in said and "the whole photo is protected" in said
    assert find_people(image[None].float() / 255).min() == 1


def test_the_face_detector_is_asked_where_the_network_finds_nobody(
    astronaut: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "probabilities", lambda images: torch.zeros(1, 2, 256, 256))
    mask, said = auto_mask(astronaut)
    assert mask is not None and said.startswith(
        "1 face by the face detector only found, head and shoulders are kept; the rest ("
    )
    assert mask[0, 0, 30:220, 150:300].max() == 0 and mask[0, 0, :, :20].min() == 1

    def missing(image: Tensor) -> None:
        raise UserError("not installed")

    monkeypatch.setattr(people, "face_boxes", missing)
    assert auto_mask(astronaut) == (None, "nobody found: the whole photo is protected")


def test_regions_count_people_and_drop_what_is_doubtful() -> None:
    seen = torch.zeros(2, 64, 64)
    seen[0, 10:40, 5:25], seen[1, 12:20, 10:18] = 0.95, 0.95  # a person with a face
    seen[0, 20:24, 10:14] = 0.1  # a hole
    seen[0, 30:60, 40:60] = 0.85  # a likely region
    seen[0, 2:4, 60:62] = 0.99  # a speck
    seen[0, 45:60, 5:15] = 0.55  # a doubtful one
    cleaned, count = regions(seen)
    found = cleaned > 0.5
    assert count == 1 and found[22, 12] and found[50, 50] and not found[3, 61] and not found[50, 10]
    seen[1, 12:20, 30:38] = seen[0, 10:40, 25:38] = 0.95  # another who touches the first
    assert regions(seen)[1] == 2
    seen[1] = 0.5
    assert regions(seen)[1] == 0
    assert regions(seen, [(0.1, 0.2, 0.2, 0.3)])[1] == 1  # dlib has seen a face in the first


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor) -> Path:
    """The current folder, with a photo of a person, and one of a cup in a folder with it."""
    (tmp_path / "photos").mkdir()
    person = Image.fromarray(astronaut.permute(1, 2, 0).numpy()).resize((400, 400), Image.Resampling.LANCZOS)
    person.save(tmp_path / "person.png")
    person.save(tmp_path / "photos" / "person.png")
    Image.fromarray(skimage.data.coffee()).resize((300, 200)).save(tmp_path / "photos" / "cup.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_protect_changes_only_the_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protect", "person.png", "--out", "out", "--method", "noise", "--mask", "auto"]) == 0
    assert "found; the rest (" in capsys.readouterr().out
    report = json.loads((folder / "out" / "person-protected.json").read_text())
    assert "found; the rest" in report["mask"]["auto"] and report["request"]["mask"] == AUTO
    before, after = (np.asarray(Image.open(p)) for p in ("person.png", "out/person-protected.png"))
    mask, _ = auto_mask(pixels(before))
    assert mask is not None and report["protected_share"] == pytest.approx(1 - mask.mean().item(), abs=1e-5)
    changed = (before != after).any(-1)
    assert changed[mask[0, 0].numpy() == 0].mean() > 0.8 and not changed[mask[0, 0].numpy() == 1].any()


def test_folders_have_a_mask_for_each_photo(folder: Path) -> None:
    assert main(["protect", "photos", "--recursive", "--out", "out", "--method", "noise", "--mask", "auto"]) == 0
    said = {name: json.loads((folder / "out" / f"{name}-protected.json").read_text()) for name in ("person", "cup")}
    assert said["person"]["protected_share"] < 0.9 and said["cup"]["protected_share"] == 1
    assert "nobody found" in said["cup"]["mask"]["auto"]
    assert main(["protect", "photos/cup.png", "--out", "single", "--method", "noise"]) == 0
    one, other = (Image.open(folder / name / "cup-protected.png") for name in ("out", "single"))
    assert one.tobytes() == other.tobytes()


def test_edit_and_demo_take_it(folder: Path) -> None:
    arguments = "--mask auto --prompt hat --steps 1 --out edited.png"
    assert main(f"edit person.png {arguments}".split()) == 0
    before, after = (np.asarray(Image.open(p)) for p in ("person.png", "edited.png"))
    mask, _ = auto_mask(pixels(before))
    assert mask is not None and (before == after)[mask[0, 0].numpy() == 0].all()
    assert main(["demo", "--image", "photos/cup.png", "--mask", "auto", "--out", "demo"]) == 2
    assert not (folder / "demo").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("edit photos/cup.png --mask auto --prompt hat --out out.png", "nobody is found in photo 'photos/cup.png'"),
        ("protect person.png --mask auto --invert-mask --out out", "inverted mask 'auto'"),
        ("protect person.png --mask ./auto --out out", "mask 'auto' does not exist"),
        ("edit person.png --mask auto --invert-mask --prompt hat --out out.png", "inverted mask 'auto'"),
        ("demo --image person.png --mask auto --invert-mask --out out", "inverted mask 'auto'"),
    ],
)
def test_one_line_says_what_is_wrong(
    arguments: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["person.png", "photos"]


def test_a_file_that_is_called_auto(folder: Path) -> None:
    half = Image.new("L", (200, 200), 255)
    half.paste(0, (0, 0, 100, 200))
    half.save(folder / "auto", format="PNG")
    assert main(["protect", "person.png", "--mask", "./auto", "--out", "out", "--method", "noise"]) == 0
    report = json.loads((folder / "out" / "person-protected.json").read_text())
    assert report["mask"] == {"file": "auto", "inverted": False} and report["protected_share"] == 0.5
    check_mask(Path("auto"))


def test_people_too_small_to_be_worked_on_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speck = torch.ones(1, 1, 200, 200)
    speck[..., 100, 100] = 0
    monkeypatch.setattr(people, "auto_mask", lambda image: (speck, "1 person found"))
    assert found_mask(open_photo(folder / "person.png"), (64, 64))[0] is None


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_painted_masks_of_every_mode(mode: str, tmp_path: Path) -> None:
    array = np.zeros((40, 60), np.uint8)
    array[:, 30:] = 255
    picture = Image.fromarray(array.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(array).convert(mode)
    path = tmp_path / ("mask.tif" if mode == "CMYK" else "mask.png")
    picture.save(path)
    mask = open_mask(path, (80, 120))
    assert mask[..., :58].max() == 0 and mask[..., 62:].min() == 1
    with pytest.raises(UserError, match=r"another aspect ratio"):
        open_mask(path, (120, 80))


def test_a_margin_for_hair_is_kept() -> None:
    cleaned = torch.zeros(1, 1, 64, 64)
    cleaned[..., 20:40, 20:40] = 0.9
    mask = at_size(cleaned, (64, 64))[0, 0]
    assert mask[20:40, 20:40].max() == 0 and mask[18:42, 18:42].max() == 0
    assert mask[:16].min() == 1 and mask[:, 44:].min() == 1
    assert at_size(torch.full_like(cleaned, 0.5), (640, 640)).min() == 1


def test_head_and_shoulders_are_no_rectangle() -> None:
    shape = head_and_shoulders((0.4, 0.3, 0.6, 0.5), (200, 200))
    assert shape[60:100, 80:120].all()  # the face
    assert shape[30, 100] and shape[150, 40] and shape[150, 160]  # hair, shoulders
    assert not shape[24, 62] and not shape[24, 138] and not shape[85, 50] and not shape[5, 100]
    assert torch.equal(shape, shape.flip(1))
