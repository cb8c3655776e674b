"""What a metric is given: a photo, its protected version, and what an editor made of both."""

from dataclasses import dataclass

from torch import Tensor

from editproof.errors import UserError


@dataclass(frozen=True)
class Trial:
    """A batch of photos, protected, attacked and edited. Pictures are (B, 3, H, W) in [0, 1], all of one shape.

    Raises UserError for other shapes.
    """

    original: Tensor
    protected: Tensor
    edit: Tensor  # of the original, with a seed s
    attacked: Tensor  # of the protected photo, after the counter-attack if there is one; with seed s
    other: Tensor  # of the original, with seed s + 1
    prompts: list[str]  # one for each photo: what the editor was asked for
    mask: Tensor | None = None  # (B, 1, H, W), 1 = the editor may repaint; None: the whole picture
    truth: Tensor | None = None  # exactly what was asked for, where that can be computed
    given: Tensor | None = None  # what the editor was given: the protected photo after the counter-attack; None: itself
    person: Tensor | None = None  # (B, 1, H, W), 1 = the person, for editors that take no mask; None: not known

    def __post_init__(self) -> None:
        if self.original.ndim != 4 or self.original.shape[1] != 3 or not len(self.original):
            raise UserError(f"pictures of {tuple(self.original.shape)} cannot be measured; allowed: (B, 3, H, W)")
        for picture in (self.protected, self.edit, self.attacked, self.other, self.truth, self.given):
            if picture is not None:
                check_pair(picture, self.original, self.mask)
        if self.person is not None:
            check_pair(self.person, self.original[:, :1])
        if len(self.prompts) != len(self.original):
            raise UserError(f"{len(self.prompts)} prompts for {len(self.original)} pictures; allowed: one each")


def check_pair(images: Tensor, reference: Tensor, mask: Tensor | None = None) -> None:
    """Raise UserError unless both are (B, C, H, W) of one shape, the mask (B, 1, H, W) or (1, 1, H, W), not all 0."""
    if images.ndim != 4 or images.shape != reference.shape:
        raise UserError(
            f"pictures of {tuple(images.shape)} cannot be measured against {tuple(reference.shape)}; "
            "allowed: (B, C, H, W), the same shape twice"
        )
    if mask is None:
        return
    if mask.shape[1:] != (1, *images.shape[2:]) or len(mask) not in (1, len(images)):
        raise UserError(
            f"the mask is {tuple(mask.shape)}, the pictures {tuple(images.shape)}; allowed: one channel, "
            "the pictures' height and width, one mask or one each"
        )
    if bool((mask.flatten(1).sum(1) == 0).any()):
        raise UserError("a mask is 0 everywhere: there is no edited region to measure; allowed: 1 somewhere in each")
