"""Mask files: white = repaint, any mode and size of the photo's aspect ratio."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image, ImageFilter

from editproof.bench.data import BenchPhoto, mask_at
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.photo.masks import check_mask, check_something_to_edit, check_something_to_protect, open_mask


def half_white(width: int, height: int) -> Image.Image:
    """Left half black, right half white."""
    array = np.zeros((height, width), np.uint8)
    array[:, width // 2 :] = 255
    return Image.fromarray(array)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("size", [(60, 40), (30, 20), (600, 400)])
def test_modes_and_sizes(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    half_white(*size).convert(mode).save(tmp_path / "mask.png")
    mask = open_mask(tmp_path / "mask.png", (40, 60))
    assert mask.shape == (1, 1, 40, 60)
    assert mask[..., :29].max() == 0
    assert mask[..., 31:].min() == 1
    assert torch.equal(open_mask(tmp_path / "mask.png", (40, 60), invert=True), 1 - mask)


def test_what_is_transparent_is_kept(tmp_path: Path) -> None:
    white = Image.new("RGBA", (60, 40), "white")
    white.putalpha(half_white(60, 40))
    white.save(tmp_path / "mask.png")
    assert open_mask(tmp_path / "mask.png", (40, 60)).mean() == 0.5


def test_another_aspect_ratio_is_refused_but_rounding_is_not(tmp_path: Path) -> None:
    half_white(60, 40).save(tmp_path / "mask.png")
    open_mask(tmp_path / "mask.png", (401, 600))
    with pytest.raises(UserError, match=r"60 x 40 .* 60 x 60; allowed"):
        open_mask(tmp_path / "mask.png", (60, 60))


def test_masks_of_which_nothing_is_left_at_the_working_size() -> None:
    speck = torch.zeros(1, 1, 400, 600)
    speck[..., 200, 300] = 1
    block = torch.zeros(1, 1, 400, 600)
    block[..., 200:210, 300:310] = 1
    check_something_to_edit(block, "m.png", (208, 304))
    check_something_to_protect(1 - block, "m.png", (208, 304))
    check_something_to_edit(speck, "m.png", (400, 600))
    with pytest.raises(UserError, match=r"nothing to edit once .* 304 x 208 pixels"):
        check_something_to_edit(speck, "m.png", (208, 304))
    with pytest.raises(UserError, match=r"nothing to protect once .* 304 x 208 pixels"):
        check_something_to_protect(1 - speck, "m.png", (208, 304))


def test_masks_that_leave_nothing_to_do() -> None:
    white, black, some = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), torch.eye(4)[None, None]
    for mask in (black, some):
        check_something_to_protect(mask, "m.png")
    for mask in (white, some):
        check_something_to_edit(mask, "m.png")
    with pytest.raises(UserError, match=r"'m\.png' is white everywhere"):
        check_something_to_protect(white, "m.png")
    with pytest.raises(UserError, match=r"'m\.png' is black everywhere"):
        check_something_to_edit(black, "m.png")


def written(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def hole_in_a_photo() -> np.ndarray:
    photo = (tiny.pictures(1, 40, 60)[0] * 255).byte().permute(1, 2, 0).numpy()
    return np.dstack([photo, np.asarray(half_white(60, 40))])


def coloured() -> np.ndarray:
    """A label map as some programs write it: dark red for the first class."""
    return np.where(np.asarray(half_white(60, 40))[..., None] > 0, (128, 0, 0), (0, 0, 0)).astype(np.uint8)


NO_MASKS = {
    "values of 0 and 1": (np.asarray(half_white(60, 40)) // 255, "values go from 0 to 1 of 255"),
    "grey for white": (np.asarray(half_white(60, 40)) // 2, "values go from 0 to 127 of 255"),
    "8-bit values in 16 bits": (np.asarray(half_white(60, 40)).astype(np.uint16), "0 to 255 of 65535"),
    "16-bit values of 0 and 1": (np.asarray(half_white(60, 40)).astype(np.uint16) // 255, "0 to 1 of 65535"),
    "a photo with a hole": (hole_in_a_photo(), "coloured, as in a photo, and it has transparent parts"),
    "a photo": (hole_in_a_photo()[..., :3].copy(), "coloured, as in a photo"),
    "a grey photo": (np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1)), "neither black nor white"),
    "a third grey": (np.where(np.arange(60) < 20, 128, np.asarray(half_white(60, 40))).astype(np.uint8), "is grey"),
    "colours": (coloured(), "is coloured"),
    "black on nothing": (np.dstack([np.zeros((40, 60, 3), np.uint8), np.asarray(half_white(60, 40))]), "black on"),
    "nothing": (np.zeros((40, 60, 4), np.uint8), "transparent everywhere"),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask_is_refused_and_what_was_found_is_said(name: str, tmp_path: Path) -> None:
    array, said = NO_MASKS[name]
    path = written(tmp_path / "mask.png", array)
    for read in (lambda: open_mask(path, (40, 60)), lambda: check_mask(path)):
        with pytest.raises(UserError, match=f"'.*mask.png' is no mask .*{said}.*white .255. where the editor may"):
            read()


def test_soft_edges_deep_masks_and_two_grey_palettes_are_masks(tmp_path: Path) -> None:
    soft = half_white(300, 200).filter(ImageFilter.GaussianBlur(8))
    deep = (np.asarray(half_white(60, 40)).astype(np.uint16) * 257).astype(np.uint16)
    soft.save(tmp_path / "soft.jpg", quality=60)
    for path in (tmp_path / "soft.jpg", written(tmp_path / "deep.png", deep)):
        assert open_mask(path, (200, 300)).mean() == pytest.approx(0.5, abs=0.01)


def test_protect_edit_and_bench_read_masks_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = written(tmp_path / "a.png", hole_in_a_photo()[..., :3].copy())
    mask = written(tmp_path / "m.png", np.asarray(half_white(60, 40)) // 255)
    with pytest.raises(UserError, match="0 to 1 of 255"):
        mask_at(BenchPhoto("a", photo, mask, (), (), (40, 60)), (40, 60), "files")
    for command in ("protect --out out", "edit --prompt x --out out/b.png"):
        assert main([*command.split(), str(photo), "--mask", str(mask)]) == 2
        said = capsys.readouterr().err
        assert "0 to 1 of 255" in said
        assert len(said.strip().splitlines()) == 1
