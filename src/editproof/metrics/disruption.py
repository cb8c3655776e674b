"""How much a protection changes an edit, on the scale of how much the edit changes by itself from seed to seed."""

from torch import Tensor

from editproof.editors.pipeline import Editor
from editproof.metrics.ssim import ssim
from editproof.metrics.trial import Trial
from editproof.metrics.trying import try_edits
from editproof.surroundings import undisturbed


@undisturbed
def edit_change(edited: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """1 - SSIM between two edits, its map averaged over the repainted region (mask 1, or everywhere): (B,)."""
    return 1 - ssim(edited, reference, mask)


def trial_disruption(trial: Trial, mask: Tensor | None) -> Tensor:
    """D = change(edit of the protected photo, edit) / change(edit with another seed, edit), one number per photo (B,).

    `change` is 1 - SSIM where the mask is 1, or everywhere. 0: the edit is what it would have been; 1: the protection
    changes the edit as much as a new seed does; nan if the edit changes in neither way.
    """
    return edit_change(trial.attacked, trial.edit, mask) / edit_change(trial.other, trial.edit, mask)


@undisturbed
def disruption(
    editor: Editor,
    originals: Tensor,
    protected: Tensor,
    prompt: str | list[str],
    *,
    mask: Tensor | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
) -> Tensor:
    """Make the three edits and give their trial_disruption over the repainted region, one number per photo (B,).

    The other seed is `seed + 1`. Photos (B, 3, H, W) in [0, 1]; mask (B, 1, H, W) or (1, 1, H, W).
    """
    versions = {"protected": protected.cpu()}
    region = None if mask is None else mask.cpu()
    tried = try_edits(
        editor, originals.cpu(), versions, prompt, mask=region, seed=seed, steps=steps, guidance=guidance,
    )  # fmt: skip
    return trial_disruption(tried["protected"], region)
