"""What every method refuses, in one line."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.errors import UserError

if TYPE_CHECKING:
    from editproof.methods.method import Method
    from editproof.people.face_chips import Chips


def kept_pixels(images: Tensor, mask: Tensor | None) -> Tensor | None:
    """Where the photo may change: 1 where the mask is 0, `(B,1,H,W)` on the images' device; None without a mask."""
    if mask is None:
        return None
    if mask.shape[-2:] != images.shape[-2:] or mask.shape[0] not in (1, len(images)):
        raise UserError(
            f"the mask is {tuple(mask.shape)}, the pictures {tuple(images.shape)}: same size, one or one each"
        )
    kept = (mask < 0.5).float().expand(len(images), 1, -1, -1).to(images.device)
    if (kept.sum((1, 2, 3)) == 0).any():
        raise UserError("the mask lets the editor repaint the whole picture: nothing is kept that could be protected")
    return kept


def require_faces(images: Tensor, kept: Tensor | None, method: str) -> "Chips":
    """The faces of pictures (B,3,H,W), each of which has one; with `kept`, where that is 1."""
    from editproof.people.face_chips import find_chips

    faces = find_chips(images, kept)
    counts = faces.owners.bincount(minlength=len(images))
    if (counts == 0).any():
        which = f"picture {int(counts.argmin()) + 1} of {len(images)}" if len(images) > 1 else "the picture"
        where = "" if kept is None else " in what the mask keeps"
        raise UserError(f"{method} needs a face; {which} has none{where}: try autoencoder")
    return faces


def why_not_on(method: "Method", images: Tensor, mask: Tensor | None) -> str:
    """Why a method cannot work on pictures (B,3,H,W) with a mask, or none; "" where it can."""
    if not method.needs_faces:
        return ""
    try:
        require_faces(images, kept_pixels(images, mask), method.name)
    except UserError as error:
        return str(error)
    return ""
