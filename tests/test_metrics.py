"""Metrics against scikit-image, and disruption's ends of the scale."""

import pytest
import tiny
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from editproof.metrics import disruption, edit_change, psnr, ssim_map


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
        assert change[i].item() == pytest.approx(1 - expected[mask[i, 0] == 1].mean().item(), abs=1e-4)
        assert psnr(b, a)[i].item() == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=1e-3)


class SeededEditor:
    """Paints the picture's mean brightness times noise of the seed."""

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
    edits = [editor.edit(x, "a", mask=mask, seed=s, steps=3) for x, s in ((images, 5), (images, 6), (grey, 5))]
    expected = edit_change(edits[2], edits[0], mask) / edit_change(edits[1], edits[0], mask)
    torch.testing.assert_close(disruption(editor, images, grey, "a", mask=mask, seed=5, steps=3), expected)
