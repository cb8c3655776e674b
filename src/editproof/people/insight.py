"""Faces as insightface's networks see them: RetinaFace (arXiv 1905.00641) or SCRFD (2105.04714) finds them, ArcFace
(1801.07698) tells who they are.

The networks are ONNX files in a folder that the user names, such as insightface's `buffalo_l`; none is shipped: their
weights are for non-commercial research. Needs the extra `onnx`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError

STRIDES = 8, 16, 32  # pixels between the places at which the detector looks, at each of its three levels
SIDE = 640  # pixels: the square that the detector is shown, unless its file says another
SCORE, OVERLAP = 0.5, 0.4  # from which a face counts; above which two boxes are one
MIDDLE = 127.5 / 128
CHIP = 112  # pixels: what ArcFace is shown
# where ArcFace was trained to have the eyes, the tip of the nose and the corners of the mouth
TEMPLATE = (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)


class Networks(NamedTuple):
    """The sessions of a folder, the file of the recogniser, and whether that scales its input by itself."""

    detector: Any
    recogniser: Any
    file: Path
    scales: bool


def embeddings(images: Tensor, source: str, like: Tensor | None = None) -> Tensor:
    """Who is in pictures: ArcFace's embeddings of length 1.

    Args:
        images: (B, 3, H, W) in [0, 1].
        source: The folder of the networks.
        like: Embeddings (B, D) of whom to look for; None: the largest face.

    Returns:
        (B, D) float32 on the CPU, of the largest or most similar face of each picture; nan where none is found.

    Raises:
        UserError: For other shapes, without onnxruntime, and for a folder without such networks.
    """
    networks = load(source)
    found = [_embed(networks, faces(image, networks)) for image in _levels(images)]
    width = networks.recogniser.get_outputs()[0].shape[-1]
    rows = torch.full((len(images), width), torch.nan)
    for i, row in enumerate(found):
        if len(row):
            rows[i] = row[0 if like is None else int((row @ like[i].cpu()).nan_to_num(-2).argmax())]
    return rows


def first_faces(images: Tensor, source: str) -> tuple[Networks, list[Tensor | None]]:
    """The networks, and the largest face of each picture (B, 3, H, W), as ArcFace is shown it; None: no face."""
    networks = load(source)
    return networks, [next(iter(faces(image, networks)), None) for image in _levels(images)]


def faces(picture: Tensor, networks: Networks) -> Tensor:
    """The faces of a picture (3, H, W) in 0..255, upright and of one size (N, 3, 112, 112), the largest first."""
    boxes, points = _find(picture, networks.detector)
    order = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argsort(descending=True, stable=True)
    return torch.stack([_upright(picture, points[i]) for i in order]) if len(order) else torch.empty(0, 3, CHIP, CHIP)


def scaled(chips: Tensor, networks: Networks) -> np.ndarray:
    """Faces (N, 3, 112, 112) in 0..255 as the recogniser takes them."""
    return (chips if networks.scales else (chips - 127.5) / 127.5).numpy()


def _levels(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"faces cannot be looked for in pictures of {tuple(images.shape)}; allowed: (B, 3, H, W)")
    return (images.detach().float().clamp(0, 1) * 255).round().cpu()


def _embed(networks: Networks, chips: Tensor) -> Tensor:
    if not len(chips):
        return torch.empty(0)
    return F.normalize(run(networks.recogniser, scaled(chips, networks)))


def run(session: Any, values: np.ndarray) -> Tensor:
    """What a network makes of (N, ...), one after another where it takes no more; its first output."""
    given = session.get_inputs()[0]
    parts = np.split(values, len(values)) if given.shape and isinstance(given.shape[0], int) else [values]
    return torch.from_numpy(np.concatenate([session.run(None, {given.name: part})[0] for part in parts]))


def _find(picture: Tensor, detector: Any) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) of faces in a picture (3, H, W) in 0..255, and their points (N, 5, 2); x before y, in pixels."""
    given = detector.get_inputs()[0]
    wide = given.shape[-1] if isinstance(given.shape[-1], int) else SIDE
    high = given.shape[-2] if isinstance(given.shape[-2], int) else SIDE
    factor = min(high / picture.shape[-2], wide / picture.shape[-1])
    size = max(1, int(picture.shape[-2] * factor)), max(1, int(picture.shape[-1] * factor))
    shown = torch.zeros(1, 3, high, wide)
    shown[0, :, : size[0], : size[1]] = F.interpolate(picture[None], size, mode="bilinear").round()[0]
    outputs = [
        torch.from_numpy(x).flatten(0, -2) for x in detector.run(None, {given.name: (shown / 128 - MIDDLE).numpy()})
    ]
    scores, boxes, points = [], [], []
    for level, stride in enumerate(STRIDES):
        places = torch.cartesian_prod(torch.arange(high // stride), torch.arange(wide // stride)).flip(1) * stride
        score, box, point = (outputs[level + 3 * kind] for kind in range(3))
        places = places.repeat_interleave(len(score) // len(places), 0)
        scores.append(score[:, 0])
        boxes.append(torch.cat([places - stride * box[:, :2], places + stride * box[:, 2:]], 1))
        points.append(places[:, None] + stride * point.view(-1, 5, 2))
    back = picture.shape[-2] / size[0]
    score, box, point = torch.cat(scores), torch.cat(boxes) * back, torch.cat(points) * back
    chosen = _apart(box, score)
    return box[chosen], point[chosen]


def _apart(boxes: Tensor, scores: Tensor) -> Tensor:
    """The places of boxes that count, the surest first, none of which covers much of a surer one."""
    left = scores.argsort(descending=True)
    left = left[scores[left] >= SCORE]
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    chosen: list[int] = []
    while len(left):
        first, left = int(left[0]), left[1:]
        chosen.append(first)
        low, high = torch.maximum(boxes[first, :2], boxes[left, :2]), torch.minimum(boxes[first, 2:], boxes[left, 2:])
        both = (high - low + 1).clamp(min=0).prod(1)
        left = left[both / (areas[first] + areas[left] - both) <= OVERLAP]
    return torch.tensor(chosen, dtype=torch.long)


def _upright(picture: Tensor, points: Tensor) -> Tensor:
    """The face (3, 112, 112), turned and scaled (least squares) so that its points (5, 2) are where ArcFace expects
    them; black outside of the picture."""
    here, there = (torch.view_as_complex(x.double().contiguous()) for x in (points, torch.tensor(TEMPLATE)))
    turn = ((here - here.mean()).conj() * (there - there.mean())).sum() / (here - here.mean()).abs().square().sum()
    if not turn.abs() > 0:  # all points are one
        return torch.zeros(3, CHIP, CHIP)
    across, down = torch.meshgrid(torch.arange(CHIP), torch.arange(CHIP), indexing="xy")
    places = torch.view_as_real((torch.complex(across.double(), down.double()) - there.mean()) / turn + here.mean())
    size = torch.tensor([picture.shape[-1], picture.shape[-2]])
    places = ((2 * places + 1) / size - 1).float()
    return F.grid_sample(picture[None], places[None], mode="bilinear", align_corners=False)[0].round()


@lru_cache(maxsize=1)
def load(source: str) -> Networks:
    """The networks of a folder: the detector is the file with nine outputs, the recogniser takes 112 x 112 pixels.

    Raises UserError.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise UserError("networks of faces cannot be run without onnxruntime: pip install 'editproof[onnx]'") from None
    found: dict[str, tuple[Any, Path]] = {}
    for file in sorted(Path(source).glob("*.onnx")):
        try:
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"'{file}' cannot be loaded by onnxruntime: {' '.join(str(error).split())}") from None
        shape, outputs = session.get_inputs()[0].shape, session.get_outputs()
        if len(outputs) == 3 * len(STRIDES):
            found.setdefault("detector", (session, file))
        elif len(outputs) == 1 and list(shape[-2:]) == [CHIP, CHIP]:
            found.setdefault("recogniser", (session, file))
    missing = [what for what in ("detector", "recogniser") if what not in found]
    if missing:
        raise UserError(
            f"'{source}' has no {' and no '.join(missing)} of faces; allowed: two .onnx files, a RetinaFace or SCRFD "
            f"with nine outputs and an ArcFace for {CHIP} x {CHIP} pixels, such as insightface's buffalo_l"
        )
    (detector, _), (recogniser, file) = found["detector"], found["recogniser"]
    first = [node.op_type for node in onnx.load(file, load_external_data=False).graph.node[:8]]
    return Networks(detector, recogniser, file, "Sub" in first and "Mul" in first)
