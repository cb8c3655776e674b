"""FaceLock: dlib's network and chips in PyTorch, and which faces are protected."""

import json
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from editproof.bench.compare import compare_photos
from editproof.bench.config import make_config
from editproof.bench.demo import astronaut, run_demo
from editproof.bench.run import run_bench
from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.people import faces
from editproof.people.dlib_net import face_net, read_weights
from editproof.people.face_chips import find_chips
from editproof.photo.reading import save_png
from editproof.randomness import generators

dlib = pytest.importorskip("dlib", reason="pip install 'editproof[faces]'")
np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return tiny.people(2, 256, 256)


def test_the_network_is_dlibs(photos: Tensor) -> None:
    """On chips of faces, and on noise, which no face network has seen."""
    detector, landmarks, network = faces._models()
    chips = [np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)]
    for photo in photos:
        picture = (photo.permute(1, 2, 0) * 255).round().byte().numpy().copy()
        chips += [
            dlib.get_face_chip(picture, landmarks(picture, box), 150, padding) for padding in (0.25, 0.4)
            for box in detector(picture, 1)
        ]  # fmt: skip
    assert len(chips) == 5
    expected = torch.tensor([list(network.compute_face_descriptor(chip)) for chip in chips])
    given = torch.stack([torch.from_numpy(chip).permute(2, 0, 1).float() / 255 for chip in chips])
    torch.testing.assert_close(face_net()(given), expected, atol=1e-5, rtol=0)


def test_chips_are_dlibs_but_for_its_filter(photos: Tensor) -> None:
    """dlib cuts from a pyramid of copies, so its pixels differ a little; the embedding hardly does."""
    own = face_net()(find_chips(photos).cut(photos))
    assert (own - faces.embeddings(photos)).norm(dim=1).max() < 0.1


def test_chips_have_a_gradient_and_move_with_the_generator(photos: Tensor) -> None:
    found, moving = find_chips(photos), photos.clone().requires_grad_()
    assert found.owners.tolist() == [0, 1]
    plain, again, moved = (found.cut(moving, generators(1, 2), jitter) for jitter in (0.0, 0.03, 0.03))
    assert torch.equal(plain, found.cut(photos)) and torch.equal(again, moved) and not torch.equal(plain, moved)
    assert torch.equal(moved[1:], find_chips(photos[1:]).cut(photos[1:], generators(1, 1), 0.03))
    gradient = torch.autograd.grad(face_net()(moved).sum(), moving)[0]
    assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_a_file_that_is_not_the_network(tmp_path: Path) -> None:
    file = tmp_path / "other.dat"
    file.write_bytes(faces.model_file(faces.NETWORK).read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"other\.dat is not dlib's face recognition network: blocks"):
        read_weights(file)


def test_faces_that_are_repainted_do_not_count(photos: Tensor) -> None:
    small = astronaut(96)[0]
    wide = torch.full((1, 3, 96, 192), 0.5)
    wide[..., :96] = small
    two = torch.cat([small, small.flip(-1)], 3)
    left = torch.zeros(1, 1, 96, 192)
    left[..., :96] = 1
    assert find_chips(torch.cat([wide, two])).owners.tolist() == [0, 1, 1]
    assert find_chips(torch.cat([wide, two]), torch.cat([left, left])).owners.tolist() == [0, 1]
    assert find_chips(torch.cat([wide, two]), torch.cat([1 - left, left])).owners.tolist() == [1]


def test_a_photo_without_a_face_is_told(tiny_editor: object, photos: Tensor) -> None:
    editor = tiny_editor("sd-inpaint")  # type: ignore[operator]
    facelock, both = METHODS["facelock"], torch.cat([tiny.people(1), tiny.pictures(1)])
    with pytest.raises(UserError, match=r"^facelock needs a face; picture 2 of 2 has none: try autoencoder"):
        facelock(editor, both, steps=1)
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 4:28, :] = 1
    with pytest.raises(UserError, match="the picture has none in what the mask keeps"):
        facelock(editor, tiny.people(1), mask=hole, steps=1)
    assert not torch.equal(facelock(editor, tiny.people(1), mask=1 - hole, steps=1), tiny.people(1))
    assert (facelock(editor, tiny.people(1), steps=2, budget=Linf(4 / 255)) - tiny.people(1)).abs().max() > 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo of a face, and one of none."""
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "in" / "face.png", tiny.people(1)[0])
    save_png(tmp_path / "in" / "wall.png", tiny.pictures(1)[0])
    return tmp_path


def test_in_a_folder_only_photos_without_a_face_fail(
    folder: Path, tiny_folder: object, capsys: pytest.CaptureFixture[str]
) -> None:
    editor = str(tiny_folder("flux-kontext"))  # type: ignore[operator]
    arguments = ["protect", "in", "--recursive", "--out", "out", "--editor", editor, "--method", "facelock"]
    arguments += ["--size", "32"]
    assert main([*arguments, "--steps", "1"]) == 1
    assert [path.name for path in (folder / "out").rglob("*.png")] == ["face-protected.png"]
    said = "photo 'in/wall.png': facelock needs a face; the picture has none: try autoencoder"
    assert said in " ".join("".join(capsys.readouterr()).split())


def test_comparisons_leave_it_out_or_refuse_it(folder: Path, tiny_folder: object) -> None:
    editor = str(tiny_folder("flux-kontext"))  # type: ignore[operator]
    rows, _ = run_demo("demo", image=folder / "in/wall.png", methods=("noise", "facelock"), editor=editor, size=32)
    assert [row.method for row in rows] == ["noise"]
    both = [folder / "in/face.png", folder / "in/wall.png"]
    with pytest.raises(UserError, match=r"^wall\.png: facelock needs a face; the picture has none"):
        compare_photos(both, "mirror it", folder / "a.png", methods=["noise", "facelock"], editor=editor, size=32)
    (folder / "in").rename(folder / "images")
    values = {
        "data": str(folder),
        "editors": [editor],
        "methods": ["noise", "facelock:steps=1"],
        "metrics": ["psnr"],
        "size": 32,
    }
    run_bench(make_config({**values, "prompts": ["mirror it"], "edit_steps": 1}), folder / "out")
    (left_out,) = json.loads((folder / "out/run.json").read_text())["skipped"]
    assert (left_out["method"], left_out["why"][:28]) == ("facelock:steps=1", "wall.png: facelock needs a f")
    methods = [json.loads(line)["method"] for line in (folder / "out/results.jsonl").read_text().splitlines()]
    assert set(methods) == {"noise"}


def test_without_dlib(folder: Path, tiny_folder: object, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = str(tiny_folder("flux-kontext"))  # type: ignore[operator]
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.setattr(faces, "_models", faces._models.__wrapped__)
    rows, _ = run_demo("demo", image=folder / "in/face.png", methods=("noise", "facelock"), editor=editor, size=32)
    assert [row.method for row in rows] == ["noise"]
    with pytest.raises(UserError, match=r"faces cannot be found without dlib.*editproof\[faces\]"):
        compare_photos([folder / "in/face.png"], "a", folder / "a.png", methods=["facelock"], editor=editor, size=32)
