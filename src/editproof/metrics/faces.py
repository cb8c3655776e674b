"""Whether an edit still shows who was in the photo, as dlib's embedding sees it (King 2009, dlib.net; models CC0)."""

import torch
from torch import Tensor

from editproof.people.faces import SAME_PERSON, embeddings


def distance(images: Tensor, reference: Tensor) -> Tensor:
    """L2 distance (B,) between the face in `reference` and the most similar face in `images`; nan where one has none.

    Pictures (B, 3, H, W) in [0, 1]; SAME_PERSON tells persons apart. Raises UserError.
    """
    source = embeddings(reference)
    return (embeddings(images, source) - source).norm(dim=1)


def cosine(images: Tensor, reference: Tensor) -> Tensor:
    """Cosine (B,) of the face in `reference` and the one of `images` that `distance` takes; nan where one has none.

    Different people's are about .8 already. (B, 3, H, W) in [0, 1]. Raises UserError.
    """
    source = embeddings(reference)
    return torch.cosine_similarity(embeddings(images, source), source, dim=1)


def recognised(images: Tensor, reference: Tensor) -> Tensor:
    """(B,): 1 where a face in `images` is the person in `reference`, else 0; nan where `reference` has no face."""
    source = embeddings(reference)
    same = ((embeddings(images, source) - source).norm(dim=1) < SAME_PERSON).float()
    return torch.where(source.isnan().any(1), torch.nan, same)


def missing(images: Tensor, reference: Tensor) -> Tensor:
    """(B,): 1 where `images` have no face, else 0; nan where `reference` has none."""
    gone, never = (embeddings(pictures).isnan().any(1) for pictures in (images, reference))
    return torch.where(never, torch.nan, gone.float())
