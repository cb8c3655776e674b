"""FaceLock (arXiv 2411.16832): a face network does not recognise what the editor's VAE makes of the photo.

Others could not reproduce the authors' figures with their code (TMLR 2026, openreview 5Q1gr80AXU).
"""

from torch import Tensor

from editproof.budgets import Linf
from editproof.methods.checks import require_faces
from editproof.methods.method import Given, method, minimise
from editproof.randomness import children, generators

STEPS = 100


def falling(step: int) -> float:
    """The authors' step: .005, falling linearly to a hundredth of that (half of their values in [-1,1])."""
    return 0.005 * (1 - 0.99 * step / STEPS)


@method(
    "facelock", paper=(Linf(0.015), STEPS, falling), fast={"steps": 40, "momentum": 0.9, "enough": 0.85},
    needs_faces=True,
)  # fmt: skip
def facelock(given: Given, *, recognition: float = 1.0, enough: float = 2.0, jitter: float = 0.03) -> Tensor:
    """The VAE, encoding and decoding, makes a photo's faces into other people's. The prompt has no effect.

    Maximised: `recognition` x the distance of dlib's embeddings between the faces of the VAE's picture and the photo's,
    and the logarithm of the L2 distance of the two pictures. Random start. All faces that dlib finds in what may change
    count alike.

    Args:
        given: The photos, each with a face, and what may change in them.
        recognition: Weight of the faces against the pictures.
        enough: Faces further apart than this count no more (dlib tells persons apart from .6; 2 is more than there is).
        jitter: Faces are cut out anew at each step, moved, turned and scaled by this share of them.

    Deviations: dlib's network (L2 distance) instead of AdaFace ViT-B (cosine), whose weights are not free; faces are
    found once, in the photo, and cut out with jitter, where the authors align the VAE's picture at every step; the
    distance of pictures stands for LPIPS of them and .2 x the squared distance of latents; both terms count from the
    first step (the authors': LPIPS from a quarter, recognition from 35 % of the steps); the 8-bit grid.
    dlib's network is also what `recognised` measures with: of other networks, and of people, that says nothing.
    """
    from editproof.people.dlib_net import face_net

    editor, images = given.editor, given.images
    faces, net = require_faces(images, given.kept, "facelock"), face_net(images.device)
    before, draws = net(faces.cut(images)), children(generators(given.seed, len(images)), 1)

    def nearness(moved: Tensor) -> Tensor:
        seen = editor.decode(editor.encode(moved, given.mask))
        away = ((seen - images) * given.weight).flatten(1).norm(dim=1).clamp_min(1e-6)
        apart = (net(faces.cut(seen.clamp(0, 1), draws, jitter)) - before).norm(dim=1).clamp_max(enough)
        return -away.log() - recognition * faces.mean(apart, len(images))

    return minimise(nearness, given, random_start=True)
