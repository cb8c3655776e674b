"""FaceLock (arXiv 2411.16832): a face network does not recognise what the editor's VAE makes of the photo.

Others could not reproduce the authors' figures with their code (TMLR 2026, openreview 5Q1gr80AXU).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editproof.budgets import Budget, Linf
from editproof.counters.transform import make_transform
from editproof.methods.checks import kept_pixels, require, require_faces
from editproof.pgd import default_step, pgd
from editproof.randomness import children, generators

if TYPE_CHECKING:
    from editproof.counters.transform import Transform
    from editproof.editors.pipeline import Editor
    from editproof.pgd import Callback, Paper, Step

BUDGET, STEPS = Linf(0.015), 100


def falling(step: int) -> float:
    """The authors' step: .005, falling linearly to a hundredth of that (half of their values in [-1,1])."""
    return 0.005 * (1 - 0.99 * step / STEPS)


def paper(height: int, width: int) -> "Paper":
    """The authors' budget, steps and step size, the same for pictures of any size."""
    return BUDGET, STEPS, falling


def facelock(
    editor: "Editor | None",
    images: Tensor,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    budget: Budget | None = None,
    steps: int = STEPS,
    step_size: "Step | None" = None,
    momentum: float = 0.0,
    recognition: float = 1.0,
    enough: float = 2.0,
    jitter: float = 0.03,
    transform: "Transform | None" = None,
    seed: int = 0,
    callback: "Callback | None" = None,
) -> Tensor:
    """Images (B,3,H,W) in [0,1], each with a face, which the VAE, encoding and decoding, makes into another's face.

    Maximised: `recognition` x the distance of dlib's embeddings between the faces of the VAE's picture and the photo's,
    and the logarithm of the L2 distance of the two pictures. Random start. All faces that dlib finds count alike.
    mask (B,1,H,W): 1 = may be repainted; only the kept pixels (0) change and only faces in them count. None: all.
    budget: Linf(.015) if None. step_size: the authors' at their budget and steps, otherwise 2.5 eps / steps. The
    prompt has no effect. enough: faces further apart than this count no more (dlib tells persons apart from .6; 2 is
    more than there is). jitter: faces are cut out anew at each step, moved, turned and scaled by this share of them.
    transform: counters that the protection should survive, see `make_transform`.

    Deviations: dlib's network (L2 distance) instead of AdaFace ViT-B (cosine), whose weights are not free; faces are
    found once, in the photo, and cut out with jitter, where the authors align the VAE's picture at every step; the
    distance of pictures stands for LPIPS of them and .2 x the squared distance of latents; both terms count from the
    first step (the authors': LPIPS from a quarter, recognition from 35 % of the steps); the 8-bit grid.
    dlib's network is also what `recognised` measures with: of other networks, and of people, that says nothing.
    """
    from editproof.people.dlib_net import face_net

    editor = require(editor, "facelock")
    budget = budget or BUDGET
    kept = kept_pixels(images, mask)
    weight = torch.ones_like(images[:, :1]) if kept is None else kept
    faces, net = require_faces(images, kept, "facelock"), face_net(images.device)
    before, draws = net(faces.cut(images)), children(generators(seed, len(images)), 1)

    def nearness(moved: Tensor) -> Tensor:
        seen = editor.decode(editor.encode(moved, mask))
        away = ((seen - images) * weight).flatten(1).norm(dim=1).clamp_min(1e-6)
        apart = (net(faces.cut(seen.clamp(0, 1), draws, jitter)) - before).norm(dim=1).clamp_max(enough)
        return -away.log() - recognition * faces.mean(apart, len(images))

    return pgd(
        nearness,
        images,
        budget,
        steps=steps,
        step_size=default_step(step_size, budget, steps, paper(*images.shape[-2:])),
        support=kept,
        random_start=True,
        momentum=momentum,
        transform=make_transform(transform, editor, seed),
        generator=generators(seed, len(images)),
        callback=callback,
    )
