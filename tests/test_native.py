"""A perturbation at the photo's own size, in strips: the same as in one piece, within budget, mask and memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from editproof.budgets import L2, Budget, Linf, on_grid
from editproof.photo.reading import open_photo, save_png, to_levels
from editproof.protection.apply import protect
from editproof.protection.edit import paste_back
from editproof.protection.files import protect_photos
from editproof.protection.own_size import add, changes, lift, painted
from editproof.resolution import resize, working_copy

SIZES = [(64, 64), (300, 200), (40, 700), (1000, 130), (20, 30)]


def photo(height: int, width: int) -> torch.Tensor:
    return (tiny.pictures(1, height, width)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def wave(height: int, width: int, eps: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(3, height, width, generator=generator) - 1) * eps


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_lifting_is_bicubic_without_overshoot(size: tuple[int, int]) -> None:
    delta = wave(48, 64, 0.03)
    expected = resize(delta[None], size).clamp(-delta.abs().max(), delta.abs().max())
    assert torch.allclose(lift(delta[None], size), expected, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("budget", [Linf(8 / 255), Linf(2.5 / 255), L2(2.0), None], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_strips_are_what_the_grid_makes_of_the_whole(
    size: tuple[int, int], budget: Budget | None, masked: bool
) -> None:
    levels, delta = photo(*size), wave(48, 64, 0.05)
    keep = tiny.hole(1, *size)[0, 0] == 0 if masked else None
    result = add(levels, delta, budget, keep)
    assert result.dtype == torch.uint8
    originals = levels.permute(2, 0, 1)[None] / 255
    support = None if keep is None else keep[None, None].float()
    wanted = lift(delta[None], size) * (1 if support is None else support)
    whole = on_grid(originals + wanted, originals, budget, support)
    difference = (whole * 255).round() - result.permute(2, 0, 1)[None]
    if isinstance(budget, L2):
        length = ((result.double() - levels) / 255).norm().item()
        assert length <= budget.eps * (1 + 1e-6)
        assert length >= 0.9 * (whole - originals).norm().item()
    else:
        assert difference.abs().max() <= 1
        assert (difference != 0).float().mean() < 0.001  # halves are rounded either way
    if keep is not None:
        assert torch.equal(result[~keep], levels[~keep])


def test_changes_are_psnr_and_the_largest_level() -> None:
    levels = photo(200, 130)
    result = levels.clone()
    result[10:50] = (levels[10:50].int() + 6).clamp(0, 255).to(torch.uint8)
    square, largest = changes(result, levels)
    assert square == pytest.approx((((result.double() - levels) / 255) ** 2).mean().item(), rel=1e-6)
    assert largest == 6
    assert changes(levels, levels) == (0.0, 0)


def test_files_and_tensors_are_protected_alike(tmp_path: Path) -> None:
    from editproof.photo.reading import open_photo, save_png
    from editproof.protection.files import protect_photos

    save_png(tmp_path / "a.png", tiny.pictures(1, 300, 230)[0])
    (report,) = protect_photos([tmp_path / "a.png"], tmp_path / "out")
    written = open_photo(tmp_path / "out" / "a-protected.png").pixels
    returned = protect(open_photo(tmp_path / "a.png").pixels[None])[0]
    assert ((written - returned).abs() * 255).max() <= 1.001
    assert (written != returned).float().mean() < 0.001
    assert report["linf_levels"] == 8


def test_working_copy_is_what_pillow_makes() -> None:
    import numpy as np
    from PIL import Image

    levels = photo(500, 700)
    small = Image.fromarray(levels.numpy()).resize((96, 64), Image.Resampling.BICUBIC)
    copy = working_copy(levels.permute(2, 0, 1)[None], (64, 96))[0].permute(1, 2, 0) * 255
    difference = np.abs(copy.numpy() - np.array(small))
    assert difference.max() <= 1.001
    assert (difference > 0.5).mean() < 0.01


def test_48_megapixels_in_less_than_3_gb(tmp_path: Path) -> None:
    code = f"""
import resource
import sys
import numpy as np
from PIL import Image
array = np.empty((6000, 8000, 3), np.uint8)
array[..., 0], array[..., 1], array[..., 2] = np.arange(6000)[:, None] // 24, np.arange(8000) // 32, 90
Image.fromarray(array).save({str(tmp_path / "a.jpg")!r})
del array
from editproof.cli.main import main
code = main(["protect", {str(tmp_path / "a.jpg")!r}, "--out", {str(tmp_path / "out")!r}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 3_000_000  # kB; making the picture is in it


@pytest.mark.parametrize("budget", [Linf(5 / 255), L2(6.0)], ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
@pytest.mark.parametrize("method", ["noise", "immunizer"])
def test_a_file_and_a_tensor_get_the_same_levels(method: str, masked: bool, budget: Linf | L2, tmp_path: Path) -> None:
    """At a size that is scaled, whatever lies between two levels, but for a handful of halves."""
    photo, mask = tiny.pictures(1, 300, 512), tiny.hole(1, 300, 512)
    save_png(tmp_path / "photo.png", photo[0])
    save_png(tmp_path / "mask.png", mask[0].expand(3, -1, -1))
    file = tmp_path / "mask.png" if masked else None
    scaled = L2(budget.eps * (300 * 512 / 512**2) ** 0.5) if isinstance(budget, L2) else budget
    (report,) = protect_photos([tmp_path / "photo.png"], tmp_path / "out", method=method, mask=file, budget=budget)
    written = open_photo(tmp_path / "out" / report["protected"]).levels
    given = (photo * 255).round() / 255
    tensor = protect(given, method=method, mask=mask if masked else None, budget=scaled)[0]
    apart = ((tensor * 255).round().byte().permute(1, 2, 0).int() - written.int()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-4  # halves of a level may be rounded either way


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_edit_in_strips_is_that_of_the_whole(size: tuple[int, int], masked: bool) -> None:
    levels, edited = photo(*size), tiny.pictures(1, 48, 64)[0]
    mask = tiny.hole(1, *size) if masked else None
    whole = paste_back(resize(edited[None], size).clamp(0, 1), levels.permute(2, 0, 1)[None] / 255, mask)
    result = painted(levels, edited, None if mask is None else mask[0, 0] > 0.5)
    difference = result.int() - to_levels(whole[0]).int()
    assert difference.abs().max() <= 1
    assert (difference != 0).float().mean() < 0.001  # halves are rounded either way
