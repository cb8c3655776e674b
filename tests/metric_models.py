"""Small random models in the formats of the published ones that metrics take."""

from functools import partial
from pathlib import Path

import onnx
import tiny
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from editproof.metrics.brisque import LOWEST
from editproof.metrics.clip import SOURCE as CLIP


def clip(folder: Path) -> Path:
    """CLIP for pictures of 32 x 32 pixels, with the files of the model on the hub."""
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    config = CLIPConfig(text_config=tiny.text_config().to_dict(), vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def alexnet() -> dict[str, torch.Tensor]:
    """AlexNet's convolutions under torchvision's names, drawn as it draws them; and a layer that is not used."""
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {"classifier.1.weight": torch.zeros(2, 2)}
    for i, (outputs, inputs, side) in shapes.items():
        state[f"features.{i}.weight"] = torch.randn(outputs, inputs, side, side) / (inputs * side**2 / 2) ** 0.5
        state[f"features.{i}.bias"] = 0.1 * torch.randn(outputs)
    return state


def regression(path: Path, vectors: int = 5) -> Path:
    """A support vector regression as libsvm writes it, entries of 0 left out."""
    rows = torch.randn(vectors, len(LOWEST)) * (torch.rand(vectors, len(LOWEST)) > 0.2)
    lines = ["svm_type epsilon_svr", "kernel_type rbf", "gamma 0.05", "nr_class 2", f"total_sv {vectors}", "rho -1.5"]
    lines.append("SV")
    for i, row in enumerate(rows.tolist()):
        entries = " ".join(f"{place}:{value:g}" for place, value in enumerate(row, 1) if value)
        lines.append(f"{i - 2.5} {entries}")
    path.write_text("\n".join(lines) + "\n")
    return path


def save_all(folder: Path) -> dict[str, Path]:
    """The source to give for each extra or default model."""
    (folder / "lpips").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(alexnet(), folder / "lpips" / "model.safetensors")
        return {
            "lpips": folder / "lpips",
            CLIP: clip(folder / "clip"),
            "brisque": regression(folder / "svm.txt"),
            "onnx": insight(folder / "insight"),
        }


def _onnx(path: Path, nodes: list, weights: dict[str, torch.Tensor], side: int | str, outputs: list[str]) -> Path:
    """A network of `pixels` (N,3,side,side) as an ONNX file."""
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    tensors = [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items()]
    graph = onnx.helper.make_graph(
        nodes, "tiny", [value("pixels", shape=["n", 3, side, side])],
        [value(name, shape=["rows", "columns"]) for name in outputs], tensors,
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def insight(folder: Path) -> Path:
    """A detector and a recogniser of faces as insightface's are: other files, the same kinds of inputs and outputs.

    The detector finds faces where it is bright, of about its stride's size; of three levels and two boxes a place.
    """
    folder.mkdir()
    node, nodes, weights = onnx.helper.make_node, [], {}
    # of each kind: numbers a box, how much brightness adds to them, what they are about, and how far they vary
    for kind, width, bright, middle, spread in (
        ("score", 1, 1.0, -1.0, 0.3),
        ("box", 4, 0.0, 3.0, 0.5),
        ("points", 10, 0.0, 0.0, 0.3),
    ):
        weights[f"rows-{kind}"] = torch.tensor([-1, width])
        for stride in (8, 16, 32):
            name = f"{kind}-{stride}"
            weights[f"w-{name}"] = (torch.randn(2 * width, 3, stride, stride) + bright) / stride**2
            weights[f"b-{name}"] = middle + spread * torch.randn(2 * width)
            logits = f"logits-{stride}" if kind == "score" else name
            nodes += [
                node("Conv", ["pixels", f"w-{name}", f"b-{name}"], [f"c-{name}"], strides=[stride, stride]),
                node("Transpose", [f"c-{name}"], [f"t-{name}"], perm=[0, 2, 3, 1]),
                node("Reshape", [f"t-{name}", f"rows-{kind}"], [logits]),
            ]
            if kind == "score":
                nodes.append(node("Sigmoid", [logits], [name]))
    outputs = [f"{kind}-{stride}" for kind in ("score", "box", "points") for stride in (8, 16, 32)]
    _onnx(folder / "det.onnx", nodes, weights, "side", outputs)
    weights = {"w": torch.randn(4, 3, 16, 16) / 16, "dense": torch.randn(4 * 49, 8) / 8, "bias": torch.randn(8)}
    nodes = [node("Conv", ["pixels", "w"], ["c"], strides=[16, 16]), node("Flatten", ["c"], ["f"]),
             node("Gemm", ["f", "dense"], ["d"]), node("Add", ["d", "bias"], ["embedding"])]  # fmt: skip
    _onnx(folder / "rec.onnx", nodes, weights, 112, ["embedding"])
    return folder
