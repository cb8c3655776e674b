"""Every metric of the registry: ends of its scale, direction, one number per photo, what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import metric_models
import pytest
import torch
from torch import Tensor

from editproof.bench.demo import astronaut
from editproof.errors import UserError
from editproof.metrics import METRICS, Trial

SIDE = 96
SMALLEST = {"ssim": 7, "disruption": 7, "change": 7, "chance": 7, "fsim": 2, "vif": 41, "lpips": 32, "brisque": 16}
NO_DIRECTION = ("clip-t", "brisque", "obeyed", "success", "broken", "structure", "chance",  # see test_success.py
                "fdfr-fault", "brisque-fault", "ism-arcface", "fdfr-retinaface", "ser-fiq")  # fmt: skip
PROMPTS = ["a portrait photo, plain red background", "a cat on a red chair, blue background"]


def pictures() -> Tensor:
    face, _ = astronaut(SIDE)
    return torch.cat([face, face.flip(-1) * 0.9])


def mask() -> Tensor:
    region = torch.ones(2, 1, SIDE, SIDE)
    region[:, :, 20:60, 20:70] = 0
    return region


def noisy(images: Tensor, strength: float) -> Tensor:
    noise = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(3))  # the same for every picture
    return (images + strength * noise).clamp(0, 1)


def trial(strength: float) -> Trial:
    """Photos and edits that differ from the original ones as much as `strength` says."""
    photos = pictures()
    changed = noisy(photos, strength)
    return Trial(photos, changed, photos, changed, noisy(photos, 0.2), PROMPTS, mask(), photos)


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """(name, trial) -> the metric, of small random models where it needs one."""
    sources = metric_models.save_all(tmp_path_factory.mktemp("models"))

    def take(name: str, given: Trial) -> Tensor:
        source = sources.get(METRICS[name].extra or "") or sources.get(METRICS[name].source or "")
        return METRICS[name].measure(given, source and str(source))

    return take


@pytest.mark.parametrize("name", METRICS)
def test_metric(name: str, measure: Callable) -> None:
    metric = METRICS[name]
    values = {strength: measure(name, trial(strength)) for strength in (0.0, 0.02, 0.06)}
    for value in values.values():
        assert value.shape == (2,) and value.dtype == torch.float32
        assert ((metric.low <= value + 1e-6) & (value - 1e-6 <= metric.high)).all()
    if metric.best is not None:
        torch.testing.assert_close(values[0.0], torch.full((2,), float(metric.best)), atol=1e-5, rtol=0)
    for i in range(2):  # one photo's number has nothing to do with the others
        t = trial(0.06)
        alone = Trial(*(x[i : i + 1] for x in (t.original, t.protected, t.edit, t.attacked, t.other)), [PROMPTS[i]],
                      t.mask[i : i + 1], t.truth[i : i + 1])  # fmt: skip
        torch.testing.assert_close(measure(name, alone), values[0.06][i : i + 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in METRICS if name not in NO_DIRECTION])
def test_direction(name: str, measure: Callable) -> None:
    """What is changed more is a stronger protection, or a more visible one."""
    metric = METRICS[name]
    verdicts = ("kept", "recognised", "fdfr")  # one of these noises changes nothing, the other leaves no face
    strong = 2.0 if name in verdicts else 0.06
    weak, strong = (measure(name, trial(strength)) for strength in (0.02, strong))
    assert ((strong > weak) == ((metric.stronger == "higher") != (metric.group == "visibility"))).all()
    assert (strong != weak).all()


@pytest.mark.parametrize("name", ["fdfr", "brisque"])
def test_papers_read_it_the_other_way_round(name: str, measure: Callable) -> None:
    """The same numbers, of which a report marks the other end."""
    for strength in (0.0, 2.0):
        torch.testing.assert_close(measure(name, trial(strength)), measure(f"{name}-fault", trial(strength)))
    assert {METRICS[name].stronger, METRICS[f"{name}-fault"].stronger} == {"higher", "lower"}


@pytest.mark.parametrize("name", [name for name in METRICS if name.startswith("region") or name == "disruption"])
def test_the_region_is_what_the_mask_says(name: str, measure: Callable) -> None:
    """What changes outside of it counts less than within, and without a mask the region is the whole picture."""
    t, whole = trial(0.0), name.replace("region", "edit").replace("disruption", "edit-disruption")
    outside, inside = (torch.where(region == 1, noisy(t.edit, 0.2), t.edit) for region in (1 - t.mask, t.mask))
    less, more = (measure(name, replace(t, attacked=attacked)) for attacked in (outside, inside))
    assert ((more > less) == (METRICS[name].stronger == "higher")).all()
    t = replace(trial(0.1), mask=None)
    torch.testing.assert_close(measure(name, t), measure(whole, t))


@pytest.mark.parametrize("name", METRICS)
def test_small_pictures_are_measured_or_refused_in_one_line(name: str, measure: Callable) -> None:
    smallest = next((side for kind, side in SMALLEST.items() if kind in name), 1)
    for side in {smallest, max(1, smallest - 1)}:
        t = trial(0.1)
        cut = Trial(*(x[..., :side, :side] for x in (t.original, t.protected, t.edit, t.attacked, t.other)), PROMPTS,
                    t.mask[..., :side, :side], t.truth[..., :side, :side])  # fmt: skip
        if side == smallest:
            assert measure(name, cut).shape == (2,)
            continue
        with pytest.raises(UserError) as error:
            measure(name, cut)
        assert f"{side}" in str(error.value) and f"from {smallest}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original": torch.zeros(3, 8, 8)}, "(3, 8, 8)"),
        ({"original": torch.zeros(2, 1, SIDE, SIDE)}, "(2, 1, 96, 96)"),
        ({"protected": torch.zeros(2, 3, SIDE, 8)}, "(2, 3, 96, 8)"),
        ({"attacked": torch.zeros(1, 3, SIDE, SIDE)}, "(1, 3, 96, 96)"),
        ({"truth": torch.zeros(2, 3, 8, 8)}, "(2, 3, 8, 8)"),
        ({"mask": torch.ones(2, 3, SIDE, SIDE)}, "(2, 3, 96, 96)"),
        ({"mask": torch.ones(2, 1, 8, 8)}, "(2, 1, 8, 8)"),
        ({"mask": torch.zeros(2, 1, SIDE, SIDE)}, "0 everywhere"),
        ({"prompts": ["one"]}, "1 prompts for 2"),
    ],
)
def test_a_trial_of_wrong_shapes_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        replace(trial(0.1), **change)
    assert message in str(error.value) and "allowed" in str(error.value) and "\n" not in str(error.value)


def test_the_truth_has_to_be_known(measure: Callable) -> None:
    with pytest.raises(UserError, match="truth-psnr needs"):
        measure("truth-psnr", replace(trial(0.1), truth=None))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.source])
def test_a_model_that_is_not_there_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    for source, message in (
        (None, f"run `hf download {METRICS[name].source}`"),
        ("nowhere", "no model 'nowhere'"),
        (str(tmp_path), str(tmp_path)),  # an empty folder
    ):
        with pytest.raises(UserError) as error:
            METRICS[name].measure(trial(0.1), source)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_the_registry_is_consistent() -> None:
    for name, metric in METRICS.items():
        assert metric.low < metric.high, name
        assert metric.stronger in ("higher", "lower"), name
        assert metric.group in ("success", "visibility", "edit", "prompt", "identity", "quality", "truth"), name
        assert metric.best is None or metric.low <= metric.best <= metric.high or metric.best == inf, name
