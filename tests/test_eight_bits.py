"""The one-pass network in 8 bits on a CPU."""

import pytest
import torch
from skimage import data

from editproof.errors import UserError
from editproof.immunizer import eight_bits
from editproof.immunizer.network import NestedUNet
from editproof.methods import METHODS
from editproof.protection.settings import ProtectSettings, load_task
from editproof.resolution import resize

needs = pytest.mark.skipif(
    not eight_bits.can_eight_bits(torch.device("cpu")), reason="needs a CPU with AVX-512 VNNI or AVX-VNNI"
)


def photo(height: int, width: int) -> torch.Tensor:
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
    return (resize(picture, (height, width)).clamp(0, 1) * 255).round() / 255


def added(images: torch.Tensor, bits: int, **settings: object) -> torch.Tensor:
    return (METHODS["immunizer"](None, images, bits=bits, **settings) - images) * 255


@needs
@pytest.mark.parametrize("size", [(64, 80), (256, 192), (250, 131)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_the_perturbation_is_nearly_that_of_32_bits(size: tuple[int, int], masked: bool) -> None:
    images, mask = photo(*size), None
    if masked:
        mask = torch.zeros(1, 1, *size)
        mask[..., : size[1] // 3] = 1
    ours, exact = added(images, 8, mask=mask), added(images, 32, mask=mask)
    assert ours.abs().max() <= 8.001
    assert 0.97 < (ours * exact).sum() / exact.square().sum() < 1.05
    assert (ours - exact).square().mean() < 0.04 * exact.square().mean()
    if mask is not None:
        assert not (ours * mask).any()


@needs
def test_threads_and_company_change_nothing() -> None:
    images = torch.cat([photo(128, 160), photo(128, 160).flip(3)])
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(added(images, 8))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert torch.equal(results[0][1:], added(images[1:], 8))


@needs
def test_grey_stays_grey() -> None:
    images = photo(96, 96).mean(1, keepdim=True).mul(255).round().div(255).expand(-1, 3, -1, -1)
    ours = added(images, 8)
    assert ours.any() and torch.equal(ours[:, 0], ours[:, 1]) and torch.equal(ours[:, 0], ours[:, 2])


@needs
def test_the_largest_of_four_is_that_of_max_pool() -> None:
    x = torch.randint(0, 256, (1, 5, 8, 12), dtype=torch.uint8).to(memory_format=torch.channels_last)
    assert torch.equal(eight_bits._halved(x).float(), torch.nn.functional.max_pool2d(x.float(), 2))


@needs
def test_norms_of_many_photos_are_refused() -> None:
    with pytest.raises(UserError, match="norms are of each photo"):
        eight_bits.EightBits(NestedUNet(4, depths=(8, 8), batch_norm="stored"))


@pytest.mark.parametrize(("bits", "says"), [(7, "bits is 7; allowed: 8 or 32"), (8, "only on a CPU with instructions")])
def test_what_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch, bits: int, says: str) -> None:
    monkeypatch.setattr(eight_bits, "INSTRUCTIONS", ())
    with pytest.raises(UserError, match=says):
        added(photo(72, 72), bits, batch_norm="photo")


def test_a_run_says_it_before_any_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bits, "INSTRUCTIONS", ())
    with pytest.raises(UserError, match="only on a CPU with instructions"):
        load_task(ProtectSettings(knobs={"bits": 8, "batch_norm": "photo"}, device="cpu"))
