"""Metrics: one function a file, one number per photo. METRICS says what each compares and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from torch import Tensor

from editproof.metrics.disruption import disruption, edit_change, trial_disruption
from editproof.metrics.psnr import linf, psnr
from editproof.metrics.ssim import ssim, ssim_map
from editproof.metrics.trial import Trial

__all__ = ["METRICS", "Metric", "Trial", "disruption", "edit_change", "linf", "psnr", "ssim", "ssim_map"]


@dataclass(frozen=True)
class Metric:
    """How to take a metric and how to read it.

    `measure` takes a Trial and a source (a hub id or folder for metrics with a model, None: the default) and gives one
    number per photo (B,), or raises UserError in one line if it cannot be measured.
    """

    measure: Callable[[Trial, str | None], Tensor]
    compares: str
    group: str  # "visibility", "edit", "prompt", "identity", "quality" or "truth"
    low: float  # the range
    high: float
    stronger: str  # "higher" or "lower": which means a stronger protection; for visibility, a less visible one
    best: float | None  # of identical pictures; None where pictures are not compared
    extra: str | None = None  # what has to be installed: pip install 'editproof[extra]'
    source: str | None = None  # the default model, a hub id


PHOTOS = "protected photo and original"
EDITS = "edits of the protected photo and the original, whole picture"
REGION = "edits of the protected photo and the original, where the editor may repaint"

METRICS: dict[str, Metric] = {
    "psnr": Metric(lambda t, _: psnr(t.protected, t.original), PHOTOS, "visibility", 0, inf, "higher", inf),
    "ssim": Metric(lambda t, _: ssim(t.protected, t.original), PHOTOS, "visibility", -1, 1, "higher", 1),
    "linf": Metric(lambda t, _: linf(t.protected, t.original), PHOTOS, "visibility", 0, 1, "lower", 0),
    "edit-psnr": Metric(lambda t, _: psnr(t.attacked, t.edit), EDITS, "edit", 0, inf, "lower", inf),
    "edit-ssim": Metric(lambda t, _: ssim(t.attacked, t.edit), EDITS, "edit", -1, 1, "lower", 1),
    "region-psnr": Metric(lambda t, _: psnr(t.attacked, t.edit, t.mask), REGION, "edit", 0, inf, "lower", inf),
    "region-ssim": Metric(lambda t, _: ssim(t.attacked, t.edit, t.mask), REGION, "edit", -1, 1, "lower", 1),
    "disruption": Metric(
        lambda t, _: trial_disruption(t, t.mask),
        f"1 - SSIM of the {REGION}; 1: as much as with another seed", "edit", 0, inf, "higher", 0,
    ),
    "disruption-whole": Metric(
        lambda t, _: trial_disruption(t, None),
        f"1 - SSIM of the {EDITS}; 1: as much as with another seed", "edit", 0, inf, "higher", 0,
    ),
}  # fmt: skip
