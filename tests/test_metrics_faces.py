"""Faces: who is found in a picture, and what without one."""

import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.bench.demo import astronaut
from editproof.errors import UserError
from editproof.metrics import faces as judged
from editproof.people import faces


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return astronaut(192)[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.flip(-1),
        lambda x: F.interpolate(x, (64, 64), mode="bilinear", antialias=True),
        lambda x: F.interpolate(x, (300, 300), mode="bicubic").clamp(0, 1),
        lambda x: F.pad(x, (400, 400, 400, 400), value=0.5),  # a face of a fifth of the side
        lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1),
    ],
)
def test_a_person_stays_that_person(change: Callable[[Tensor], Tensor], photo: Tensor) -> None:
    distance = judged.distance(change(photo), photo)
    assert distance.item() < 0.4
    assert judged.recognised(change(photo), photo).tolist() == [1]
    assert judged.missing(change(photo), photo).tolist() == [0]


def test_embeddings_are_what_dlib_gives(photo: Tensor) -> None:
    """The distance is Euclidean, and pictures without a face are nan in their own row only."""
    found = faces.embeddings(torch.cat([photo, torch.full_like(photo, 0.5), photo.flip(-1)]))
    assert found.shape == (3, 128) and found.dtype == torch.float32
    assert found.isnan().all(1).tolist() == found.isnan().any(1).tolist() == [False, True, False]
    expected = (found[0] - found[2]).square().sum().sqrt()
    torch.testing.assert_close(judged.distance(photo.flip(-1), photo)[0], expected)


def test_a_picture_without_a_face(photo: Tensor) -> None:
    grey = torch.full_like(photo, 0.5)
    images, reference = torch.cat([grey, photo, grey]), torch.cat([photo, grey, grey])
    assert judged.distance(images, reference).isnan().all()
    assert judged.recognised(images, reference).nan_to_num(-1).tolist() == [0, -1, -1]
    assert judged.missing(images, reference).nan_to_num(-1).tolist() == [1, -1, -1]


def test_the_most_similar_face_counts(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two faces the one that is looked for, the largest where nobody is."""
    large, small = torch.zeros(128), torch.ones(128)
    monkeypatch.setattr(faces, "_faces", lambda *picture: torch.stack([large, small]))
    two = torch.cat([photo, photo])
    assert (faces.embeddings(two) == 0).all()
    found = faces.embeddings(two, torch.stack([small * 0.9, large + 0.1]))
    assert (found[0] == 1).all() and (found[1] == 0).all()


def test_shapes_and_a_missing_extra_are_told_in_one_line(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"\(1, 1, 192, 192\); allowed: \(B, 3, H, W\)"):
        faces.embeddings(photo[:, :1])
    faces._models.cache_clear()
    monkeypatch.setitem(sys.modules, "dlib", None)  # importing it fails
    with pytest.raises(UserError, match=r"pip install 'editproof\[faces\]'"):
        faces.embeddings(photo * 0.9)
    faces._models.cache_clear()
