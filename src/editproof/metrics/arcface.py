"""What papers measure of faces in edits, by networks that the user gives: ISM (ArcFace), FDFR (RetinaFace), SER-FIQ."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.errors import UserError
from editproof.people import insight

PASSES = 100  # of SER-FIQ: networks with half of the last layer's inputs left out
KEPT = 0.5


def arcface_cosine(images: Tensor, reference: Tensor, source: str | None) -> Tensor:
    """ISM: cosine (B,) of ArcFace's embeddings of the face in `reference` and the most similar face in `images`.

    nan where one has none. (B, 3, H, W) in [0, 1]; source: see insight.load. Raises UserError.
    """
    folder = _named(source)
    who = insight.embeddings(reference, folder)
    return F.cosine_similarity(insight.embeddings(images, folder, who), who)


def retinaface_missing(images: Tensor, source: str | None) -> Tensor:
    """FDFR: 1 where the detector finds no face in `images` (B, 3, H, W), else 0: (B,). Raises UserError."""
    return torch.tensor([float(face is None) for face in insight.first_faces(images, _named(source))[1]])


def ser_fiq(images: Tensor, source: str | None) -> Tensor:
    """SER-FIQ (Terhoerst et al., arXiv 2003.09373): how usable the largest face is, (B,) in [0, 1]; nan without one.

    2 / (1 + exp(d)), d the mean distance of a hundred embeddings by random halves of what ArcFace's last layer gets.
    The network's own normalisation behind that layer is applied, which their code leaves out; their later scaling, made
    for one network, is left out here. Draws are the same for every picture.

    Raises:
        UserError: Without networks, or if the recogniser has no such layer.
    """
    networks, chips = insight.first_faces(images, _named(source))
    body, head = _halves(networks.file)
    rows = torch.full((len(images),), torch.nan)
    for i, chip in enumerate(chips):
        if chip is not None:
            inner = insight.run(body, insight.scaled(chip[None], networks)).flatten(1)
            draws = torch.rand(PASSES, inner.shape[1], generator=torch.Generator().manual_seed(0)) < KEPT
            found = F.normalize(insight.run(head, (inner * draws / KEPT).numpy()).double())
            rows[i] = 2 * torch.sigmoid(-torch.pdist(found).mean())
    return rows


@lru_cache(maxsize=1)
def _halves(file: Path) -> tuple[Any, Any]:
    """The recogniser before its last dense layer, and from there on."""
    import onnx
    import onnxruntime

    model = onnx.load(file)
    dense = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    if not dense:
        raise UserError(f"SER-FIQ cannot be taken of '{file}', which has no dense layer; allowed: an ArcFace network")
    before, ends = dense[-1].input[0], ([model.graph.input[0].name], [model.graph.output[0].name])
    if before not in {value.name for value in model.graph.value_info}:
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(before, onnx.TensorProto.FLOAT, None))
    cut = onnx.utils.Extractor(model)
    parts = cut.extract_model(ends[0], [before]), cut.extract_model([before], ends[1])
    sessions = [
        onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"]) for part in parts
    ]
    return sessions[0], sessions[1]


def _named(source: str | None) -> str:
    if source is None:
        raise UserError(
            "ArcFace's and RetinaFace's weights are not shipped; allowed: a folder of them as the metric's source, "
            "such as --source ism-arcface=buffalo_l"
        )
    return source
