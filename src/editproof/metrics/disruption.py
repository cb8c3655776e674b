"""How much a protection changes an edit, on the scale of how much the edit changes by itself from seed to seed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.editors.pipeline import Editor

WINDOW, C1, C2 = 7, 0.01**2, 0.03**2  # of SSIM at a data range of 1


def _window_mean(images: Tensor) -> Tensor:
    """Mean over a 7x7 window around each pixel, the picture mirrored at its edges (the edge pixel repeated)."""
    r = WINDOW // 2
    images = torch.cat([images[..., :r, :].flip(-2), images, images[..., -r:, :].flip(-2)], -2)
    images = torch.cat([images[..., :r].flip(-1), images, images[..., -r:].flip(-1)], -1)
    return F.avg_pool2d(images, WINDOW, stride=1)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity at each pixel (Wang et al. 2004), mean over the channels.

    As scikit-image's structural_similarity(win_size=7, data_range=1, full=True): uniform 7x7 window, sample covariance.
    (B, C, H, W) twice, in [0, 1] -> (B, 1, H, W); sides of at least 7 pixels.
    """
    a, b = a - 0.5, b - 0.5  # variances of what lies around 0 round off less
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    var_a = sample * (_window_mean(a * a) - mean_a**2)
    var_b = sample * (_window_mean(b * b) - mean_b**2)
    cov = sample * (_window_mean(a * b) - mean_a * mean_b)
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    ssim = (2 * mean_a * mean_b + C1) * (2 * cov + C2) / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))
    return ssim.mean(1, keepdim=True)


def edit_change(edited: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """1 - SSIM between two edits, its map averaged over the repainted region (mask 1, or everywhere): (B,)."""
    ssim = ssim_map(edited, reference)
    weight = torch.ones_like(ssim) if mask is None else mask.to(ssim).expand_as(ssim)
    return 1 - (ssim * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


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
    """D = change(edit(protected), edit(original)) / change(two seeds of edit(original)), one number per photo (B,).

    `change` is 1 - SSIM over the repainted region. 0: the edit is what it would have been; 1: the protection changes
    the edit as much as a new seed does. The other seed is `seed + 1`. Photos (B, 3, H, W) in [0, 1].
    """

    def edit(images: Tensor, seed: int) -> Tensor:
        return editor.edit(images, prompt, mask=mask, steps=steps, guidance=guidance, seed=seed)

    reference, other_seed, attacked = edit(originals, seed), edit(originals, seed + 1), edit(protected, seed)
    return edit_change(attacked, reference, mask) / edit_change(other_seed, reference, mask)
