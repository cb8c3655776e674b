"""Mask files: white = repaint, any mode and size of the photo's aspect ratio."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editproof.errors import UserError
from editproof.photo.masks import check_something_to_edit, check_something_to_protect, open_mask


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
