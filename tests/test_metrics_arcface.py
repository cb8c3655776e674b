"""Faces by networks that the user gives, against insightface and formulas: where, whose, how usable."""

import sys
from pathlib import Path

import metric_models
import numpy as np
import onnx
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics import METRICS, Trial
from editproof.metrics.arcface import PASSES, arcface_cosine, retinaface_missing, ser_fiq
from editproof.people import insight

# Of the picture below by insightface 2.1 (RetinaFace and ArcFaceONNX) with the networks below: how many faces, the box
# of the surest, and the embedding of the largest, of length 1.
FACES, BOX = 590, (79.926, 64.171, 113.122, 95.808)
EMBEDDING = (-0.3465, -0.3141, 0.3805, 0.3241, -0.5467, -0.1530, 0.1917, 0.4153)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return str(metric_models.insight(tmp_path_factory.mktemp("networks") / "insight"))


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return torch.from_numpy(skimage.data.astronaut()[:200, 120:330].copy()).permute(2, 0, 1)[None] / 255


def test_faces_are_those_of_insightface(folder: str, photo: Tensor) -> None:
    boxes, points = insight._find((photo[0] * 255).round(), insight.load(folder).detector)
    assert len(boxes) == pytest.approx(FACES, rel=0.01) and points.shape == (len(boxes), 5, 2)
    assert boxes[0].tolist() == pytest.approx(BOX, abs=0.01)
    assert insight.embeddings(photo, folder)[0].tolist() == pytest.approx(EMBEDDING, abs=0.003)


def test_a_face_is_turned_to_where_arcface_expects_it() -> None:
    """A picture of a chip, twice as large and a quarter turned."""
    chip = F.interpolate(torch.rand(1, 3, 14, 14), (insight.CHIP, insight.CHIP), mode="bilinear")[0] * 255
    large = F.interpolate(chip[None], scale_factor=2, mode="bilinear")[0].rot90(1, (1, 2))
    points = torch.tensor(insight.TEMPLATE) * 2 + 0.5
    turned = torch.stack([points[:, 1], large.shape[-2] - 1 - points[:, 0]], 1)
    assert (insight._upright(large, turned) - chip).abs().mean() < 2
    assert (insight._upright(large, torch.full((5, 2), 9.0)) == 0).all()


def test_the_most_similar_face_counts_and_no_face_is_nan(
    folder: str, photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = insight.embeddings(photo, folder)
    pictures = torch.cat([photo, torch.zeros_like(photo)])
    assert arcface_cosine(pictures, photo.expand(2, -1, -1, -1), folder).nan_to_num(-2).tolist() == pytest.approx(
        [1, -2]
    )
    assert arcface_cosine(photo, torch.zeros_like(photo), folder).isnan().all()
    assert retinaface_missing(pictures, folder).tolist() == [0, 1]
    assert ser_fiq(pictures, folder).isnan().tolist() == [False, True]
    monkeypatch.setattr(insight, "_embed", lambda networks, chips: torch.cat([-own, own, 0 * own]))
    assert arcface_cosine(photo, photo, folder).tolist() == pytest.approx([1])  # the second, not the largest


def test_ser_fiq_is_its_formula(folder: str, photo: Tensor) -> None:
    """Every pass by itself: half of the last layer's inputs, twice as large."""
    networks, (chip,) = insight.first_faces(photo, folder)
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(networks.file).graph.initializer}
    inner = F.conv2d((chip[None] - 127.5) / 127.5, torch.tensor(weights["w"]), stride=16).flatten().numpy()
    draws = torch.rand(PASSES, len(inner), generator=torch.Generator().manual_seed(0)).numpy() < 0.5
    found = np.stack([(2 * inner * draw) @ weights["dense"] + weights["bias"] for draw in draws])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    pairs = [np.linalg.norm(found[i] - found[j]) for i in range(PASSES) for j in range(i)]
    assert ser_fiq(photo, folder).item() == pytest.approx(2 / (1 + np.exp(np.mean(pairs))), abs=1e-4)


@pytest.mark.parametrize("name", ["ism-arcface", "fdfr-retinaface", "ser-fiq"])
def test_what_is_missing_is_told_in_one_line(
    name: str, folder: str, photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(*[photo] * 5, ["a"])
    only = tmp_path / "only"
    only.mkdir()
    (only / "det.onnx").write_bytes((Path(folder) / "det.onnx").read_bytes())
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.onnx").write_bytes(b"a cat")
    for source, said in (
        (None, "--source ism-arcface=buffalo_l"),
        (str(tmp_path), "no detector and no recogniser"),
        (str(only), "has no recogniser"),
        (str(tmp_path / "damaged"), "cannot be loaded"),
    ):
        with pytest.raises(UserError) as error:
            METRICS[name].measure(trial, source)
        assert said in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    insight.load.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'editproof\[onnx\]'"):
        METRICS[name].measure(trial, folder)
    insight.load.cache_clear()
