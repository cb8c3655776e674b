"""Did the attack succeed? In the words of the person in the photo: am I in it, did it do as told, does it look real.

An edit succeeds if the person is kept, the prompt is obeyed and the edit does not look broken. Each is 1 or 0, or nan
where it cannot be known. That depends on photo and prompt, not on the edit, so shares over the others are not biased.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.metrics.clip import clip_text
from editproof.metrics.instructions import asked_of, find_instruction, grey
from editproof.metrics.ssim import WINDOW, contrast_structure_map
from editproof.metrics.trial import Trial
from editproof.people import faces
from editproof.resolution import resize

SIDE = 128  # pixels of the longer side at which structure is looked at: fine noise is no structure
BROKEN = 0.7  # structure below this looks broken; docs/metrics.md says what clean edits have (.84 and more)
CLIP_GAIN = 0.01  # by so much an edit has to be nearer to the prompt (CLIP's cosine) than what the editor was given


@dataclass(frozen=True)
class Recogniser:
    """Who is in a picture. Two faces are one person if their embeddings are less than `threshold` (L2) apart.

    `embed`: pictures (B,3,H,W), and of whom to look for (B,D) or None -> (B,D), nan without a face.
    """

    embed: Callable[[Tensor, Tensor | None], Tensor]
    threshold: float
    false_matches: float  # the share of pairs of different people that the threshold takes for one person


RECOGNISERS = {"dlib": Recogniser(faces.embeddings, 0.536, 0.001)}


def kept(trial: Trial, recogniser: str | None = None) -> Tensor:
    """(B,): 1 where a face in the attacked edit is the person in the original, else 0; nan where that has no face.

    Raises UserError for an unknown recogniser, or one that is not installed.
    """
    name = recogniser or "dlib"
    if name not in RECOGNISERS:
        raise UserError(f"recogniser '{name}' is unknown; allowed: {', '.join(RECOGNISERS)}")
    who = RECOGNISERS[name]
    person = who.embed(_asked(trial, trial.original), None)
    same = ((who.embed(trial.attacked, person) - person).norm(dim=1) < who.threshold).float()
    return torch.where(person.isnan().any(1), torch.nan, same).to(trial.attacked.device)


def obeyed(trial: Trial, source: str | None = None) -> Tensor:
    """(B,): 1 where the attacked edit shows what the prompt asked for, 0 where it does not, nan where nobody can tell.

    Of INSTRUCTIONS that is measured; where the original has what is asked for already, nobody can tell. Of other
    prompts CLIP is asked, if `source` names a model (a hub id or folder): the edit has to be nearer to the prompt than
    what the editor was given.
    """
    region = background(trial)
    given = trial.protected if trial.given is None else trial.given
    values = torch.full((len(trial.attacked),), torch.nan, device=trial.attacked.device)
    for i, prompt in enumerate(trial.prompts):
        found, one = find_instruction(prompt), slice(i, i + 1)
        if found is not None:
            instruction, word = found
            part = None if region is None or _unknown(trial, region[one]) else region[one]
            values[one] = instruction.obeyed(trial.attacked[one], trial.original[one], part, word).to(values)
        elif source is not None:
            near, before = (clip_text(x[one], [prompt], source) for x in (trial.attacked, given))
            values[one] = (near > before + CLIP_GAIN).to(values)
    return values


def _unknown(trial: Trial, region: Tensor) -> bool:
    """Whether a background (1,1,H,W) tells nothing: there is none, or nobody was found who could be in front of it."""
    nobody = trial.mask is None and bool((region > 0.5).all())
    return nobody or not bool((region > 0.5).any())


def structure(trial: Trial) -> Tensor:
    """How much of what was to be kept is there: (B,), up to 1, about 0 for something else.

    Contrast and structure of SSIM (not its luminance: a shift of colour or light is no damage) on grey pictures of SIDE
    pixels, where the person is, compared with what was asked for of the protected photo, and of the original: an edit
    that looks like either is not broken, so the better of the two counts.
    """
    edits = _small(trial.attacked)
    where = _kept_part(trial, (edits.shape[-2], edits.shape[-1]))
    given = trial.protected if trial.given is None else trial.given
    found = []
    for photos in (given, trial.original):
        alike = contrast_structure_map(edits, _small(_asked(trial, photos)))
        found.append((alike * where).sum((1, 2, 3)) / where.sum((1, 2, 3)))
    return torch.maximum(*found)


def broken(trial: Trial) -> Tensor:
    """(B,): 1 where the attacked edit looks broken, else 0: its structure is below BROKEN."""
    return (structure(trial) < BROKEN).float()


def success(trial: Trial, source: str | None = None) -> Tensor:
    """(B,): 1 where the attack succeeds (person kept, prompt obeyed, not broken), 0 where not, nan if unknown."""
    return succeeded(kept(trial), obeyed(trial, source), broken(trial))


def succeeded(kept: Tensor, obeyed: Tensor, broken: Tensor) -> Tensor:
    """The three answers (B,) as one: 1 if all are in the attacker's favour, else 0; nan if one of them is not known."""
    return kept * obeyed * (1 - broken)


def background(trial: Trial) -> Tensor | None:
    """What is not the person (B,1,H,W): what may be repainted; else all but `person`; None if neither is known."""
    if trial.mask is not None:
        return trial.mask.expand(len(trial.attacked), -1, -1, -1)
    return None if trial.person is None else 1 - trial.person


def _asked(trial: Trial, photos: Tensor) -> Tensor:
    return torch.cat([asked_of(prompt, photos[i : i + 1]) for i, prompt in enumerate(trial.prompts)])


def _small(images: Tensor) -> Tensor:
    """Grey pictures (B,1,h,w) of SIDE pixels on the longer side; smaller ones stay as they are."""
    height, width = images.shape[-2:]
    scale = min(1, SIDE / max(height, width))
    size = max(WINDOW, round(height * scale)), max(WINDOW, round(width * scale))
    return resize(grey(images.float())[:, :1], size).clamp(0, 1)


def _kept_part(trial: Trial, size: tuple[int, int]) -> Tensor:
    """Where structure is compared (B,1,h,w): the person, a window's half away from what may be repainted.

    Everything where the whole result is told, or where nobody knows where the person is.
    """
    everything = torch.ones(len(trial.attacked), 1, *size, device=trial.attacked.device)
    region = background(trial)
    if region is None:
        return everything
    whole = torch.tensor([_whole(prompt) and trial.mask is None for prompt in trial.prompts], device=region.device)
    open_part = (resize(region.float(), size) > 0.5).float()
    shrunk = 1 - F.max_pool2d(open_part, WINDOW, 1, WINDOW // 2)
    inner = torch.where(shrunk.sum((1, 2, 3), keepdim=True) > 0, shrunk, 1 - open_part)
    none = inner.sum((1, 2, 3), keepdim=True) == 0
    return torch.where(whole.view(-1, 1, 1, 1) | none, everything, inner)


def _whole(prompt: str) -> bool:
    """Whether a prompt tells the whole result."""
    found = find_instruction(prompt)
    return found is not None and found[0].result is not None
