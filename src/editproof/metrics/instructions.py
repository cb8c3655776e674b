"""Instructions whose result is known, so that it can be measured whether an editor obeyed.

A prompt is looked up by its words: "a portrait photo, plain red background" asks for a background, "please make it
black and white" for greys. What no pattern fits is not known, and nothing is claimed of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editproof.metrics.colour import lab
from editproof.metrics.luminance import yiq

COLOURS = {
    "red": (215, 25, 30), "green": (25, 145, 50), "blue": (30, 65, 215), "yellow": (250, 225, 40),
    "orange": (250, 135, 20), "purple": (125, 25, 155), "pink": (250, 150, 190), "white": (250, 250, 250),
    "black": (10, 10, 10), "gray": (128, 128, 128), "brown": (120, 70, 30), "cyan": (20, 215, 225),
}  # fmt: skip
GREY = 6.0  # CIELAB chroma: what a picture may have on average and still count as black and white
SAME = 0.99  # correlation of luma from which what is asked for is the photo as it was
MOST = 0.5  # of the background's pixels have to be nearer to the colour asked for than to any other of COLOURS

Asked = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Instruction:
    """What words ask for.

    `result`: exactly what is asked of photos (B,3,H,W), where the whole picture is told; None where only the background
    is. `obeyed`: (edits, original photos, backgrounds (B,1,H,W) or None, the pattern's word) -> (B,), 1 yes, 0 no, nan
    unknown, which depends on photo and word alone: so no protection changes of which photos shares are.
    """

    pattern: str
    result: Asked | None
    obeyed: Callable[[Tensor, Tensor, Tensor | None, str], Tensor]


def grey(images: Tensor) -> Tensor:
    """Pictures (B,3,H,W) without their colours: the luma of Rec. 601 three times."""
    return (yiq(images)[:, :1] / 255).expand(-1, 3, -1, -1).clamp(0, 1)


def is_grey(edits: Tensor, photos: Tensor, background: Tensor | None, word: str) -> Tensor:
    """(B,): 1 where an edit's mean chroma is below GREY; nan where the photo's own was already."""
    chroma = [torch.from_numpy(np.hypot(*np.moveaxis(lab(x)[..., 1:], -1, 0)).mean((1, 2))) for x in (edits, photos)]
    done = (chroma[0] < GREY).float()
    return torch.where(chroma[1] < GREY, torch.nan, done).to(edits.device)


def nearer_to(result: Asked) -> Callable[[Tensor, Tensor, Tensor | None, str], Tensor]:
    """Obeyed where an edit is more alike (correlation of luma) to what was asked for than to the photo as it was."""

    def obeyed(edits: Tensor, photos: Tensor, background: Tensor | None, word: str) -> Tensor:
        asked = result(photos)
        done = (_correlation(edits, asked) > _correlation(edits, photos)).float()
        return torch.where(_correlation(asked, photos) > SAME, torch.nan, done)

    return obeyed


def has_background(edits: Tensor, photos: Tensor, background: Tensor | None, word: str) -> Tensor:
    """(B,): 1 where more than MOST of the background is nearer (CIELAB) to the colour asked for than to the others.

    nan where that holds of the photo already.
    """
    if background is None:
        return torch.full((len(edits),), torch.nan, device=edits.device)
    colours = lab(torch.tensor(list(COLOURS.values())).div(255).T[None, :, None].float())[0, 0]
    there = background.expand(len(edits), -1, -1, -1)[:, 0].cpu() > 0.5

    def there_is(images: Tensor) -> Tensor:
        distances = np.linalg.norm(lab(images)[..., None, :] - colours, axis=-1)
        chosen = torch.from_numpy(distances.argmin(-1) == list(COLOURS).index(word.replace("grey", "gray")))
        return (chosen & there).sum((1, 2)) / there.sum((1, 2)) > MOST  # nan is not, so no background is not obeyed

    return torch.where(there_is(photos), torch.nan, there_is(edits).float()).to(edits.device)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    first, second = (yiq(x)[:, 0].flatten(1) for x in (a, b))
    return torch.cosine_similarity(first - first.mean(1, keepdim=True), second - second.mean(1, keepdim=True))


def _mirrored(images: Tensor) -> Tensor:
    return images.flip(-1)


def _turned(images: Tensor) -> Tensor:
    return images.flip(-1, -2)


def _negative(images: Tensor) -> Tensor:
    return 1 - images


NAMES = "|".join([*COLOURS, "grey"])
INSTRUCTIONS: dict[str, Instruction] = {
    "background": Instruction(
        rf"\b({NAMES})\s+(?:back(?:ground|drop)|wall)\b|\bback(?:ground|drop)\s+(?:to\s+|in\s+)?({NAMES})\b",
        None, has_background,
    ),
    "black and white": Instruction(
        r"\bblack[- ]and[- ]white\b|\bgr[ae]yscale\b|\bremove the colou?rs\b", grey, is_grey
    ),
    "mirror": Instruction(r"\bmirror\b|\bflip (?:the )?(?:photo|picture|it)\b", _mirrored, nearer_to(_mirrored)),
    "upside down": Instruction(r"\bupside down\b", _turned, nearer_to(_turned)),
    "negative": Instruction(r"\binvert the colou?rs\b|\bnegative\b", _negative, nearer_to(_negative)),
}  # fmt: skip


def find_instruction(prompt: str) -> tuple[Instruction, str] | None:
    """The instruction that a prompt gives and the word in its blank ("red"; "" if it has none); None if unknown."""
    for instruction in INSTRUCTIONS.values():
        if found := re.search(instruction.pattern, prompt.lower()):
            return instruction, next((word for word in found.groups() if word), "")
    return None


def asked_of(prompt: str, photos: Tensor) -> Tensor:
    """What a prompt asks of photos (B,3,H,W) as far as that is told exactly; else the photos as they are."""
    found = find_instruction(prompt)
    return photos if found is None or found[0].result is None else found[0].result(photos)
