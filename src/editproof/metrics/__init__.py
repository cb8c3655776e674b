"""Metrics: one function a file, one number per photo. METRICS says what each compares and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.arcface import arcface_cosine, retinaface_missing, ser_fiq
from editproof.metrics.brisque import brisque
from editproof.metrics.clip import SOURCE as CLIP
from editproof.metrics.clip import clip_image, clip_text
from editproof.metrics.colour import ciede2000
from editproof.metrics.disruption import disruption, edit_change, trial_disruption
from editproof.metrics.faces import cosine, distance, missing, recognised
from editproof.metrics.fsim import fsim
from editproof.metrics.fsim_diffvax import fsim_diffvax
from editproof.metrics.lpips import SOURCE as LPIPS
from editproof.metrics.lpips import lpips
from editproof.metrics.psnr import linf, psnr
from editproof.metrics.ssim import ssim, ssim_map
from editproof.metrics.success import BROKEN, RECOGNISERS, broken, kept, obeyed, structure, success
from editproof.metrics.trial import Trial
from editproof.metrics.vif import vif
from editproof.people.faces import SAME_PERSON
from editproof.plugins import add_plugins
from editproof.surroundings import undisturbed

__all__ = [
    "METRICS",
    "Metric",
    "Trial",
    "brisque",
    "broken",
    "ciede2000",
    "clip_image",
    "clip_text",
    "disruption",
    "edit_change",
    "fsim",
    "fsim_diffvax",
    "kept",
    "linf",
    "lpips",
    "obeyed",
    "psnr",
    "ssim",
    "ssim_map",
    "structure",
    "success",
    "vif",
]


@dataclass(frozen=True)
class Metric:
    """How to take a metric and how to read it.

    `measure` takes a Trial and a source (a hub id or folder for metrics with a model, None: the default) and gives one
    number per photo (B,), or raises UserError in one line if it cannot be measured.
    """

    measure: Callable[[Trial, str | None], Tensor]
    compares: str
    group: str  # "success", "visibility", "edit", "prompt", "identity", "quality" or "truth"
    low: float  # the range
    high: float
    stronger: str  # "higher" or "lower": which means a stronger protection; for visibility, a less visible one
    best: float | None  # of identical pictures; None where pictures are not compared
    extra: str | None = None  # what has to be installed: pip install 'editproof[extra]'
    source: str | None = None  # the default model, a hub id
    can_use: str | None = None  # a model that is used only where the user names one
    named: bool = False  # taken only where it is named, not by default

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", undisturbed(self.measure))


PHOTOS = "the protected photo with the original"
EDITS = "the edit of the protected photo with that of the original, whole picture"
REGION = "the edit of the protected photo with that of the original, where the editor may repaint"
CHANGE = "1 - SSIM of {}, relative to that of the original's edit with another seed"
FACE = "the face in the edit of the protected photo with that in the original"


def _truth(trial: Trial) -> Tensor:
    if trial.truth is None:
        raise UserError("truth-psnr needs exactly what was asked for, which is known for some prompts only")
    return trial.truth


METRICS: dict[str, Metric] = {
    "success": Metric(
        lambda t, source: success(t, source),
        "1 if the attack succeeds: the person kept, the prompt obeyed, the edit not broken; nan where that is unknown",
        "success", 0, 1, "lower", None, "faces", can_use="CLIP",
    ),
    "kept": Metric(
        lambda t, source: kept(t, source),
        f"{FACE}: 1 if nearer than {RECOGNISERS['dlib'].threshold} (false matches: "
        f"{RECOGNISERS['dlib'].false_matches:.1%} of pairs), else 0", "success", 0, 1, "lower", 1, "faces",
    ),
    "obeyed": Metric(
        lambda t, source: obeyed(t, source),
        "1 if the edit of the protected photo shows what was asked for, 0 if not; nan where nobody can tell",
        "success", 0, 1, "lower", None, can_use="CLIP",
    ),
    "broken": Metric(
        lambda t, _: broken(t), f"1 if structure is below {BROKEN}, else 0", "success", 0, 1, "higher", 0,
    ),
    "structure": Metric(
        lambda t, _: structure(t),
        "the kept part of the edit with what was asked of the protected photo (or of the original, if that is nearer): "
        "contrast and structure", "success", -1, 1, "lower", 1,
    ),
    "psnr": Metric(lambda t, _: psnr(t.protected, t.original), PHOTOS, "visibility", 0, inf, "higher", inf),
    "ssim": Metric(lambda t, _: ssim(t.protected, t.original), PHOTOS, "visibility", -1, 1, "higher", 1),
    "fsim": Metric(lambda t, _: fsim(t.protected, t.original), PHOTOS, "visibility", 0, 1, "higher", 1),
    "fsim-diffvax": Metric(
        lambda t, _: fsim_diffvax(t.protected, t.original), f"{PHOTOS}, as DiffVax's evaluation takes FSIM",
        "visibility", 0, 1, "higher", 1, named=True,
    ),
    "vif": Metric(lambda t, _: vif(t.protected, t.original), PHOTOS, "visibility", 0, inf, "higher", 1),
    "ciede2000": Metric(
        lambda t, _: ciede2000(t.protected, t.original), f"{PHOTOS}, mean difference of colours", "visibility", 0, inf,
        "lower", 0,
    ),
    "linf": Metric(lambda t, _: linf(t.protected, t.original), PHOTOS, "visibility", 0, 1, "lower", 0),
    "lpips": Metric(
        lambda t, source: lpips(t.protected, t.original, source=source),
        PHOTOS, "visibility", 0, inf, "lower", 0, "lpips", LPIPS,
    ),
    "edit-psnr": Metric(lambda t, _: psnr(t.attacked, t.edit), EDITS, "edit", 0, inf, "lower", inf),
    "edit-ssim": Metric(lambda t, _: ssim(t.attacked, t.edit), EDITS, "edit", -1, 1, "lower", 1),
    "edit-fsim": Metric(lambda t, _: fsim(t.attacked, t.edit), EDITS, "edit", 0, 1, "lower", 1),
    "edit-fsim-diffvax": Metric(
        lambda t, _: fsim_diffvax(t.attacked, t.edit), f"{EDITS}, as DiffVax's evaluation takes FSIM", "edit", 0, 1,
        "lower", 1, named=True,
    ),
    "edit-vif": Metric(lambda t, _: vif(t.attacked, t.edit), EDITS, "edit", 0, inf, "lower", 1),
    "edit-lpips": Metric(
        lambda t, source: lpips(t.attacked, t.edit, source=source),
        EDITS, "edit", 0, inf, "higher", 0, "lpips", LPIPS,
    ),
    "edit-disruption": Metric(
        lambda t, _: trial_disruption(t, None), CHANGE.format(EDITS), "edit", 0, inf, "higher", 0
    ),
    "region-psnr": Metric(lambda t, _: psnr(t.attacked, t.edit, t.mask), REGION, "edit", 0, inf, "lower", inf),
    "region-ssim": Metric(lambda t, _: ssim(t.attacked, t.edit, t.mask), REGION, "edit", -1, 1, "lower", 1),
    "region-fsim": Metric(lambda t, _: fsim(t.attacked, t.edit, t.mask), REGION, "edit", 0, 1, "lower", 1),
    "region-vif": Metric(lambda t, _: vif(t.attacked, t.edit, t.mask), REGION, "edit", 0, inf, "lower", 1),
    "region-lpips": Metric(
        lambda t, source: lpips(t.attacked, t.edit, t.mask, source),
        REGION, "edit", 0, inf, "higher", 0, "lpips", LPIPS,
    ),
    "disruption": Metric(lambda t, _: trial_disruption(t, t.mask), CHANGE.format(REGION), "edit", 0, inf, "higher", 0),
    "change": Metric(
        lambda t, _: edit_change(t.attacked, t.edit, t.mask), f"1 - SSIM of {REGION}", "edit", 0, 2, "higher", 0
    ),
    "chance": Metric(
        lambda t, _: edit_change(t.other, t.edit, t.mask),
        "1 - SSIM of the original's edit with that with another seed, in the same region",
        "edit", 0, 2, "higher", None,
    ),
    "clip-t": Metric(
        lambda t, source: clip_text(t.attacked, t.prompts, source),
        "the edit of the protected photo with the prompt, cosine", "prompt", -1, 1, "lower", None, None, CLIP,
    ),
    "clip-i": Metric(
        lambda t, source: clip_image(t.attacked, t.original, source),
        "the edit of the protected photo with the original, cosine", "identity", -1, 1, "lower", 1, None, CLIP,
    ),
    "ism": Metric(
        lambda t, _: distance(t.attacked, t.original),
        f"{FACE}, L2 distance of dlib's embeddings; nan without a face", "identity", 0, inf, "higher", 0, "faces",
    ),
    "recognised": Metric(
        lambda t, _: recognised(t.attacked, t.original),
        f"{FACE}: 1 if less than {SAME_PERSON} apart, else 0", "identity", 0, 1, "lower", 1, "faces",
    ),
    "fdfr": Metric(
        lambda t, _: missing(t.attacked, t.original),
        "1 if the edit of the protected photo has no face, else 0", "identity", 0, 1, "higher", 0, "faces",
    ),
    "ism-cosine": Metric(
        lambda t, _: cosine(t.attacked, t.original),
        f"{FACE}, cosine of dlib's embeddings, as papers read ISM; nan without a face", "identity", -1, 1, "lower", 1,
        "faces",
    ),
    "fdfr-fault": Metric(
        lambda t, _: missing(t.attacked, t.original),
        "the same as `fdfr`, read as papers do: a fault of the edit", "identity", 0, 1, "lower", 0, "faces",
    ),
    "ism-arcface": Metric(
        lambda t, source: arcface_cosine(t.attacked, t.original, source),
        f"{FACE}, cosine of ArcFace's embeddings, as papers read ISM; nan without a face", "identity", -1, 1, "lower",
        1, "onnx",
    ),
    "fdfr-retinaface": Metric(
        lambda t, source: retinaface_missing(t.attacked, source),
        "1 if RetinaFace finds no face in the edit of the protected photo, else 0; read as a fault of the edit",
        "identity", 0, 1, "lower", None, "onnx",
    ),
    "ser-fiq": Metric(
        lambda t, source: ser_fiq(t.attacked, source),
        "the face in the edit of the protected photo: how usable it is, a merit of the edit; nan without a face",
        "quality", 0, 1, "higher", None, "onnx",
    ),
    "brisque": Metric(
        lambda t, source: brisque(t.attacked, source),
        "the edit of the protected photo: about 0 natural, 100 distorted", "quality", -inf, inf, "higher", None,
        "brisque",
    ),
    "brisque-fault": Metric(
        lambda t, source: brisque(t.attacked, source),
        "the same as `brisque`, read as papers do: a fault of the edit", "quality", -inf, inf, "lower", None, "brisque",
    ),
    "truth-psnr": Metric(
        lambda t, _: psnr(t.attacked, _truth(t)),
        "the edit of the protected photo with exactly what was asked for", "truth", 0, inf, "lower", inf,
    ),
}  # fmt: skip
add_plugins("editproof.metrics", METRICS, Metric)
