"""Metrics against independent implementations and figures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
import tiny
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import visual_information_fidelity

from editproof.metrics import Trial, disruption, edit_change, fsim, fsim_diffvax, linf, psnr, ssim, ssim_map, vif
from editproof.metrics.disruption import trial_disruption


def astronaut(name: str) -> Tensor:
    picture = torch.from_numpy(skimage.data.astronaut().copy()).permute(2, 0, 1)[None] / 255
    return {"whole": picture, "part": picture[..., 20:203, 100:297]}[name]


DISTORTIONS = {
    "blurred": lambda x: F.avg_pool2d(x, 5, 1, 2, count_include_pad=False),
    "contrast": lambda x: (x * 1.2).clamp(0, 1),
    "mirrored": lambda x: x.flip(-1),
    "channels swapped": lambda x: x.flip(1),
    "8 levels": lambda x: (x * 7).round() / 7,
}
# FSIMc and VIFp by piq 0.8.0 in float64 (fsim and vif_p, data_range=1), distorted against original.
PIQ = {
    ("whole", "blurred"): (0.9499, 0.4631),
    ("whole", "contrast"): (0.9815, 0.9477),
    ("whole", "mirrored"): (0.4756, 0.0184),
    ("whole", "channels swapped"): (0.9723, 0.8794),
    ("whole", "8 levels"): (0.9540, 0.5537),
    ("part", "blurred"): (0.8594, 0.4160),
    ("part", "contrast"): (0.9859, 0.9776),
    ("part", "mirrored"): (0.5426, 0.0157),
    ("part", "channels swapped"): (0.9802, 0.9448),
    ("part", "8 levels"): (0.9158, 0.5665),
}


@pytest.mark.parametrize(("picture", "distortion"), PIQ)
def test_fsim_and_vif_have_the_figures_of_piq(picture: str, distortion: str) -> None:
    x = astronaut(picture)
    y = DISTORTIONS[distortion](x)
    expected_fsim, expected_vif = PIQ[picture, distortion]
    assert fsim(y, x).item() == pytest.approx(expected_fsim, abs=5e-4)
    assert vif(y, x).item() == pytest.approx(expected_vif, abs=2e-4)
    luminance = [(z * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True) * 255 for z in (y, x)]
    assert vif(y, x).item() == pytest.approx(visual_information_fidelity(*luminance).item(), abs=1e-3)


# As DiffVax's evaluation takes FSIM: by phasepack 1.5 and OpenCV 5.0, of the part.
PHASEPACK = {
    "blurred": 0.717222,
    "contrast": 0.906462,
    "mirrored": 0.311916,
    "channels swapped": 0.873742,
    "8 levels": 0.708642,
}


@pytest.mark.parametrize("distortion", PHASEPACK)
def test_fsim_of_diffvax_has_the_figures_of_phasepack(distortion: str) -> None:
    x = astronaut("part")
    assert fsim_diffvax(DISTORTIONS[distortion](x), x).item() == pytest.approx(PHASEPACK[distortion], abs=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_ssim_map_and_psnr_agree_with_scikit_image(noise: float) -> None:
    a = tiny.pictures(2, 40, 56)
    b = (a + noise * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    mask = tiny.hole(2, 40, 56)
    change = edit_change(b, a, mask)
    for i in range(2):
        x, y = (images[i].permute(1, 2, 0).double().numpy() for images in (a, b))
        _, expected = structural_similarity(x, y, win_size=7, data_range=1, channel_axis=-1, full=True)
        expected = torch.from_numpy(expected).mean(-1)
        torch.testing.assert_close(ssim_map(a, b)[i, 0].double(), expected, atol=1e-4, rtol=0)
        assert ssim(b, a)[i].item() == pytest.approx(expected.mean().item(), abs=1e-4)
        assert change[i].item() == pytest.approx(1 - expected[mask[i, 0] == 1].mean().item(), abs=1e-4)
        assert psnr(b, a)[i].item() == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=1e-3)
        region = mask[i, 0].numpy() == 1
        assert psnr(b, a, mask)[i].item() == pytest.approx(
            peak_signal_noise_ratio(x[region], y[region], data_range=1), abs=1e-3
        )
        assert linf(b, a)[i].item() == pytest.approx(abs(x - y).max())


def test_worked_examples() -> None:
    """One pixel of three channels is .5 off: a mean square of .25 / (16 x 16), and of .25 / 64 in a region of 64."""
    x, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    y = x.clone()
    y[..., 3, 5], mask[..., :8, :8] = 0.5, 1
    assert psnr(y, x).item() == pytest.approx(30.103, abs=1e-3)  # 10 log10(1024)
    assert psnr(y, x, mask).item() == pytest.approx(24.082, abs=1e-3)  # 10 log10(256)
    assert psnr(y, x, mask.flip(-1)).item() == float("inf")
    assert linf(y, x).item() == 0.5


@pytest.mark.parametrize("measure", [ssim, fsim, vif])
def test_a_region_is_measured_by_itself(measure: Callable[..., Tensor]) -> None:
    """Equal on the right but for what filters reach; a region that is the whole picture changes nothing."""
    x = astronaut("whole")[..., :256, :256]
    right = torch.zeros(1, 1, 256, 256)
    right[..., 128:] = 1
    y = torch.where(right > 0, x, x.flip(-1))
    assert measure(y, x, right) > 0.9 > measure(y, x) > measure(y, x, 1 - right)
    torch.testing.assert_close(measure(y, x, torch.ones_like(right)), measure(y, x))


def test_pictures_of_one_colour() -> None:
    """No feature to compare: what is left of FSIM is chrominance; no information: none can be lost."""
    grey, red = torch.full((1, 3, 64, 64), 0.5), torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert fsim(grey, grey).item() == fsim_diffvax(grey, grey).item() == pytest.approx(1)
    assert vif(grey, grey).item() == pytest.approx(1)
    assert ssim(grey, grey).item() == 1
    assert 0 < fsim(red, grey).item() < 1


class SeededEditor:
    """Paints the picture's mean brightness times noise of the seed."""

    masked = True

    def edit(self, images: torch.Tensor, prompt: str, *, seed: int, **settings: object) -> torch.Tensor:
        noise = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed))
        return noise * images.mean((1, 2, 3), keepdim=True)


def test_disruption_scale() -> None:
    images = tiny.pictures(2)
    d = disruption(SeededEditor(), images, images, "a portrait", mask=tiny.hole(2))  # type: ignore[arg-type]
    assert d.tolist() == [0, 0]
    d = disruption(SeededEditor(), images, torch.zeros_like(images), "a portrait", mask=tiny.hole(2))  # type: ignore[arg-type]
    assert d.shape == (2,)
    assert (d > 0.8).all()


def test_disruption_uses_the_editor_as_an_attacker_does(tiny_editor: object) -> None:
    editor = tiny_editor("sd-inpaint")  # type: ignore[operator]
    images, mask = tiny.pictures(2), tiny.hole(2)
    grey = torch.where(mask > 0.5, images, 0.5)
    edits = [editor.edit(x, "a", mask=mask, seed=s, steps=3) for x, s in ((images, 5), (grey, 5), (images, 6))]
    edits = [(edit * 255).round() / 255 for edit in edits]  # as files hold them
    expected = edit_change(edits[1], edits[0], mask) / edit_change(edits[2], edits[0], mask)
    torch.testing.assert_close(disruption(editor, images, grey, "a", mask=mask, seed=5, steps=3), expected)
    trial = Trial(images, grey, *edits, ["a", "a"], mask)
    torch.testing.assert_close(trial_disruption(trial, mask), expected)


def test_the_docs_have_the_table_of_the_registry() -> None:
    from editproof.metrics.table import table

    docs = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    assert docs.split("<!-- metrics -->\n")[1] == table() + "\n"
