"""`editproof protect --look`: a picture of what would be protected. Imports no torch until it runs."""

from collections.abc import Sequence
from pathlib import Path

from editproof.cli.display import OUT
from editproof.errors import UserError
from editproof.files import check_folder, check_output


def show_part(files: Sequence[Path], look: Path, mask: str | None, invert: bool, overwrite: bool) -> None:
    """Write a PNG of what of one photo or clip would be protected, the rest dark. Raises UserError."""
    from editproof.photo.masks import check_inverted, check_mask, found_mask, open_mask
    from editproof.photo.reading import open_photo, save_levels
    from editproof.video.preview import DARK, mask_preview
    from editproof.video.reading import is_clip

    if len(files) != 1:
        raise UserError(f"--look '{look}' is for one photo or clip; allowed: one, not {len(files)}")
    if look.suffix.lower() != ".png":
        raise UserError(f"--look '{look}' is not a PNG file; allowed: a name that ends in .png")
    check_inverted(mask, invert)
    check_folder(look.parent)
    check_output(look, overwrite, (*files, mask))
    if is_clip(files[0]):
        levels = mask_preview(files[0], mask, invert)
    else:
        photo = open_photo(files[0])
        check_mask(mask, invert)
        region = None
        if mask == "auto":
            region, found = found_mask(photo, photo.size)
            OUT.print(found, markup=False)
        elif mask is not None:
            region = open_mask(mask, photo.size, invert)
        levels = photo.levels
        if region is not None:
            levels = (levels * (1 - region[0, 0, ..., None] * (1 - DARK))).round().byte()
    save_levels(look, levels, overwrite=overwrite)
    OUT.print(f"{files[0]} -> {look}: what would be protected; keep it to yourself", markup=False, soft_wrap=True)
