"""Universal immunization (arXiv 2602.14679): one perturbation for all photos, found once on a few, then added."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from editproof.budgets import Linf, on_grid
from editproof.counters.transform import make_transform
from editproof.errors import UserError
from editproof.methods.method import Given, method, minimise
from editproof.methods.mist import texture
from editproof.randomness import generators, random_masks
from editproof.resolution import resize

PHOTOS = ("astronaut", "coffee", "cat", "rocket")  # of scikit-image, in the public domain or CC0


@method("universal", paper=(Linf(16 / 255), 200, 2 / 255), fast={"steps": 40, "momentum": 0.9})
def universal(given: Given, *, photos: str | None = None) -> Tensor:
    """Find the perturbation that brings photos' latents near those of one texture, on average over a few photos.

    It is found once for an editor, a size and a budget, as long as the editor is loaded; every photo of that size is
    then given the same. The prompt has no effect.

    Args:
        given: The photos and what may change in them.
        photos: A folder of photos (at most 16 are taken) to find it on; None: four of scikit-image's.

    Deviations: only the idea is the paper's, a perturbation that injects the same foreign content into every photo;
    its numbers were not at hand where this was written, so texture, photos, budget, steps and step size are ours.
    """
    editor, images = given.editor, given.images
    size = (images.shape[-2], images.shape[-1])
    key = (size, repr(given.budget), given.steps, given.seed, repr(given.descent), photos)
    known = vars(editor).setdefault("universal_perturbations", {})
    if key not in known:
        known[key] = _find(given, _examples(photos, size).to(images.device))
    return on_grid(images + known[key].to(images.device), images, given.budget, given.kept)


def _find(given: Given, examples: Tensor) -> Tensor:
    """The perturbation (1,3,H,W), within the budget."""
    editor = given.editor
    transform = make_transform(given.descent.transform, editor, given.seed)
    draws = generators(given.seed, len(examples))
    grey = torch.full_like(examples[:1], 128 / 255)
    with torch.no_grad():
        wanted = editor.encode(texture(*examples.shape[-2:]).to(examples.device))

    def distance(moved: Tensor) -> Tensor:
        shown = (examples + moved - grey).clamp(0, 1)
        shown = shown if transform is None else transform(shown)
        mask = random_masks(examples, draws) if editor.masked else None
        return (editor.encode(shown, mask) - wanted).flatten(1).norm(dim=1).mean(0, keepdim=True)

    alone = replace(
        given, images=grey, mask=None, kept=None, descent=replace(given.descent, transform=None, start=None)
    )
    return minimise(distance, alone) - grey


def _examples(folder: str | None, size: tuple[int, int]) -> Tensor:
    """Photos (N,3,H,W) in [0,1], squeezed to one size."""
    from editproof.photo.decoding import SUFFIXES
    from editproof.photo.reading import open_photo

    if folder is None:
        import skimage.data

        pictures = [torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255 for name in PHOTOS]
    else:
        found = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)[:16]
        if not found:
            raise UserError(f"universal finds no photo in '{folder}'; allowed: a folder of photos")
        pictures = [open_photo(path).pixels[None] for path in found]
    return torch.cat([resize(picture.float(), size).clamp(0, 1) for picture in pictures])
