"""Who is in a picture: dlib's frontal face detector and its 128-d embedding (King 2009, dlib.net; models CC0).

Two faces whose embeddings are less than SAME_PERSON apart are taken for one person (99.4 % right on Labeled Faces in
the Wild, as the model's author reports). Needs the extra `faces`. Of dlib's models only the detector, the 5-point
landmarks and the embedding are used: the 68-point landmarks were trained on data with a non-commercial licence.
"""

import threading
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.resolution import resize, working_copy
from editproof.surroundings import undisturbed

SAME_PERSON = 0.6  # L2 distance of embeddings
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
MISSING = "faces cannot be found without dlib and its models: pip install 'editproof[faces]'"
CLEAR = 0.5  # of the detector's score: all 62 portraits of a pack have more, a badge that looks like a face has less
SIDE = 512  # pixels: the longer side at which faces are looked for; the detector knows faces from 80 pixels


@undisturbed
def embeddings(images: Tensor, like: Tensor | None = None) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 128) float32 on the CPU: the largest face of each picture, nan where none is found.

    With `like` (B, 128), the embeddings of whom to look for, the most similar face of each picture instead. Frontal
    faces are found, from about a twelfth of the longer side. Raises UserError for other shapes or without dlib.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"faces cannot be looked for in pictures of {tuple(images.shape)}; allowed: (B, 3, H, W)")
    height, width = _looked_at(images.shape[-2], images.shape[-1])
    scaled = (resize(images.detach().float(), (height, width)).clamp(0, 1) * 255).round().byte().cpu()
    rows = torch.full((len(images), 128), torch.nan)
    for i, picture in enumerate(scaled.permute(0, 2, 3, 1).contiguous()):
        faces = _faces(picture.numpy().tobytes(), height, width)
        if len(faces):
            nearest = 0 if like is None else int((faces - like[i].cpu()).norm(dim=1).nan_to_num().argmin())
            rows[i] = faces[nearest]
    return rows


@undisturbed
def face_boxes(image: Tensor) -> list[tuple[float, float, float, float]]:
    """Where faces are in a picture (3, H, W), in [0, 1] or uint8: (left, top, right, bottom) in shares of its sides.

    Raises UserError without dlib.
    """
    detector = _models()[0]
    height, width = _looked_at(image.shape[-2], image.shape[-1])
    picture = (working_copy(image[None], (height, width))[0] * 255).round().byte().cpu()
    boxes = _detect(detector, picture.permute(1, 2, 0).contiguous().numpy())
    return [(b.left() / width, b.top() / height, b.right() / width, b.bottom() / height) for b in boxes]


@undisturbed
def clear_faces(image: Tensor) -> list[tuple[float, float, float, float]]:
    """As face_boxes, the clearest first, without those of which the detector is not sure; none without dlib."""
    if not installed():
        return []
    height, width = _looked_at(image.shape[-2], image.shape[-1])
    picture = (working_copy(image[None], (height, width))[0] * 255).round().byte().cpu()
    with _lock:
        boxes, _, _ = _models()[0].run(picture.permute(1, 2, 0).contiguous().numpy(), 0, CLEAR)
    return [(b.left() / width, b.top() / height, b.right() / width, b.bottom() / height) for b in boxes]


@undisturbed
def landmarks(image: Tensor) -> Tensor:
    """Five points (x, y) of each face in a picture (3, H, W) in [0, 1], largest face first, in shares of its sides.

    (N, 5, 2) on the CPU: the corners of the eyes and the point below the nose. Raises UserError without dlib.
    """
    detector, points, _ = _models()
    height, width = _looked_at(image.shape[-2], image.shape[-1])
    scaled = (resize(image.detach()[None].float(), (height, width))[0].clamp(0, 1) * 255).round().byte().cpu()
    picture = scaled.permute(1, 2, 0).contiguous().numpy()
    boxes = sorted(_detect(detector, picture), key=lambda box: box.area(), reverse=True)
    found = [[(p.x / width, p.y / height) for p in points(picture, box).parts()] for box in boxes]
    return torch.tensor(found, dtype=torch.float32).view(-1, 5, 2)


def _looked_at(height: int, width: int) -> tuple[int, int]:
    """The size of the copy in which faces are looked for."""
    scale = SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _detect(detector: Any, picture: Any) -> Any:
    with _lock:  # the detector crashes in two threads at once
        return detector(picture, 0) or detector(picture, 1)  # at twice the size if none is found: smaller faces


_lock = threading.Lock()


@lru_cache(maxsize=128)  # an original is asked for again and again
def _faces(pixels: bytes, height: int, width: int) -> Tensor:
    """The embeddings (N, 128) of all faces in an 8-bit RGB picture, largest face first."""
    import numpy as np

    detector, landmarks, network = _models()
    picture = np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
    boxes = _detect(detector, picture)
    found = [
        network.compute_face_descriptor(picture, landmarks(picture, box))
        for box in sorted(boxes, key=lambda box: box.area(), reverse=True)
    ]
    return torch.tensor([list(face) for face in found], dtype=torch.float32).view(-1, 128)


def installed() -> bool:
    """Whether the extra `faces` is there."""
    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


@cache
def _models() -> tuple[Any, Any, Any]:
    """dlib's detector, 5-point landmarks and embedding."""
    try:
        import dlib
    except ImportError:
        raise UserError(MISSING) from None
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(model_file("shape_predictor_5_face_landmarks.dat"))),
        dlib.face_recognition_model_v1(str(model_file(NETWORK))),
    )


def model_file(name: str) -> Path:
    """A file of the package face-recognition-models. Raises UserError without it."""
    models = find_spec("face_recognition_models")  # importing it fails on a current Python; its files are all it has
    if models is None or not models.submodule_search_locations:
        raise UserError(MISSING)
    return Path(models.submodule_search_locations[0]) / "models" / name
