"""Prompts encoded once, where text encoders are large: kept on disk, so that a later run loads no encoder at all.

For prompts that are missing, the encoders are loaded, their layers one after another from the checkpoint's shards, and
freed again. Every prompt goes through each layer alone, so what comes out does not depend on what else was encoded.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import cached_assets_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from editproof.building import ONE_AT_A_TIME
from editproof.editors.hub import one_line, quiet
from editproof.errors import UserError
from editproof.files import atomic

# Of pipelines whose text encoders are large: the encoders, and where in each the layers are ("": it is small).
ENCODERS = {
    "FluxKontextPipeline": {"text_encoder": "", "text_encoder_2": "encoder.block"},
    "FluxFillPipeline": {"text_encoder": "", "text_encoder_2": "encoder.block"},
    "StableDiffusion3Img2ImgPipeline": {"text_encoder": "", "text_encoder_2": "", "text_encoder_3": "encoder.block"},
    "Flux2KleinPipeline": {"text_encoder": "model.layers"},
}
LARGE = 2**30  # bytes of encoders on disk from which they are not loaded with the editor
GROUP = 8  # prompts that go through the layers together, each for itself
END = 2**16  # bytes at both ends of a file that tell it from others
Encode = Callable[[list[str]], dict[str, Tensor]]


def encoders(class_name: str, folder: str | Path) -> dict[str, str]:
    """Those of ENCODERS that a pipeline in this folder should be loaded without."""
    found = ENCODERS.get(class_name, {})
    size = sum(file.stat().st_size for part in found for file in Path(folder, part).glob("*.safetensors"))
    return found if size >= LARGE else {}


class PromptCache:
    """What the text encoders of a pipeline in `folder` make of prompts; the pipeline was loaded without them."""

    def __init__(self, pipe: Any, folder: str | Path, dtype: torch.dtype, device: torch.device) -> None:
        self.pipe, self.folder, self.dtype, self.device = pipe, Path(folder), dtype, device
        self.parts = ENCODERS[type(pipe).__name__]
        self.identity = ""

    def __call__(self, prompts: Sequence[str], encode: Encode) -> dict[str, dict[str, Tensor]]:
        """Prompt -> the pipeline's arguments (1,...) in CPU memory. encode: the same for a list, with the encoders."""
        found = {prompt: stored for prompt in prompts if (stored := _stored(self._path(prompt))) is not None}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        if missing:
            groups = [missing[start : start + GROUP] for start in range(0, len(missing), GROUP)]
            with torch.no_grad(), self._loaded(len(groups)):
                for group in groups:
                    encoded = encode(group)
                    for row, prompt in enumerate(group):
                        found[prompt] = {name: value[row : row + 1].cpu() for name, value in encoded.items()}
                        _store(self._path(prompt), found[prompt])
        return found

    def _path(self, prompt: str) -> Path | None:
        """Where a prompt is kept; None without a folder to write to."""
        if not self.identity:
            self.identity = self._identify()
        name = hashlib.sha256(self.identity.encode() + prompt.encode(errors="surrogatepass")).hexdigest()
        with suppress(OSError):
            return cached_assets_path("editproof", namespace="texts") / f"{name}.safetensors"
        return None

    def _identify(self) -> str:
        """All that embeddings depend on: the files of encoders and tokenizers, the precision, device and packages."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        parts = [where, str(self.dtype), *(f"{name} {version(name)}" for name in ("torch", "transformers"))]
        for part in self.parts:
            for name in (part, part.replace("text_encoder", "tokenizer")):
                parts += [_fingerprint(file) for file in sorted((self.folder / name).glob("*")) if file.is_file()]
        return "\n".join(parts)

    @contextmanager
    def _loaded(self, passes: int) -> "Iterator[None]":
        import transformers
        from transformers.utils.logging import tqdm

        classes = json.loads((self.folder / "model_index.json").read_text())
        try:
            with ONE_AT_A_TIME, quiet():
                models = {
                    part: self._load(getattr(transformers, classes[part][1]), part, layers)
                    for part, layers in self.parts.items()
                }
            total = passes * sum(len(_layers(model, self.parts[part])) for part, model in models.items())
            with tqdm(total=total, desc="encode prompts", leave=False) as bar:
                for part, model in models.items():
                    for layer in _layers(model, self.parts[part]):
                        layer.register_forward_hook(lambda *call: bar.update() and None)
                    setattr(self.pipe, part, model)
                yield
        except OSError as error:
            raise UserError(f"the text encoders in {self.folder} cannot be loaded: {one_line(error)}") from error
        finally:
            for part in self.parts:
                setattr(self.pipe, part, None)

    def _load(self, model_class: Any, part: str, layers: str) -> nn.Module:
        """An encoder on the device; its layers, if it has any, stay in the shards until they are called."""
        source, common = self.folder / part, {"dtype": self.dtype, "use_safetensors": True}
        if not layers:
            model = model_class.from_pretrained(source, **common).to(self.device).eval()
            one_by_one(model)
            return model
        with torch.device("meta"):
            empty = model_class(model_class.config_class.from_pretrained(source))
        names = [name for name, module in empty.named_modules()
                 if (module._parameters or module._buffers) and not name.startswith(f"{layers}.")]  # fmt: skip
        places = {**dict.fromkeys(names, str(self.device)), layers: "disk"}
        model = model_class.from_pretrained(source, device_map=places, **common).eval()
        for name in names:
            one_by_one(model.get_submodule(name))
        for layer in _layers(model, layers):
            one_by_one(layer, self.device)
        return model


def one_by_one(module: Any, device: torch.device | None = None) -> None:
    """Let a module take the rows of a batch one after another.

    device: where its weights go for that time, which accelerate would load from disk for each row anew.
    """
    there: list[tuple[nn.Module, dict[str, nn.Parameter], Any]] = []
    if device is not None:
        from accelerate.hooks import remove_hook_from_module

        for leaf in module.modules():
            if absent := {name: value for name, value in leaf._parameters.items() if value is not None}:
                there.append((leaf, absent, leaf._hf_hook.weights_map))
        remove_hook_from_module(module, recurse=True)
    forward = module.forward

    def call(*inputs: Any, **named: Any) -> Any:
        for leaf, absent, values in there:
            for name in absent:
                leaf._parameters[name] = nn.Parameter(values[name].to(device), requires_grad=False)
        rows = len(next(value for value in (*inputs, *named.values()) if isinstance(value, Tensor)))
        outputs = [forward(*_row(inputs, i, rows), **_row(named, i, rows)) for i in range(rows)]
        for leaf, absent, _ in there:
            leaf._parameters.update(absent)
        return _together(outputs)

    module.forward = call


def _row(value: Any, number: int, rows: int) -> Any:
    """What concerns one row of a batch."""
    if isinstance(value, Tensor):
        return value[number : number + 1] if value.ndim and len(value) == rows else value
    if isinstance(value, dict):
        return {key: _row(item, number, rows) for key, item in value.items()}
    return type(value)(_row(item, number, rows) for item in value) if isinstance(value, tuple | list) else value


def _together(rows: list[Any]) -> Any:
    first = rows[0]
    if isinstance(first, Tensor):
        return torch.cat(rows)
    if isinstance(first, dict):
        return type(first)({key: _together([row[key] for row in rows]) for key in first})
    if isinstance(first, tuple | list):
        return tuple(_together(list(items)) for items in zip(*rows, strict=True))
    return first


def _layers(model: nn.Module, name: str) -> list[nn.Module]:
    return list(model.get_submodule(name).children()) if name else [model]


def _fingerprint(file: Path) -> str:
    with file.open("rb") as content:
        head = content.read(END)
        size = content.seek(0, 2)
        content.seek(max(0, size - END))
        digest = hashlib.sha256(head + content.read()).hexdigest()
    return f"{file.parent.name}/{file.name} {size} {file.stat().st_mtime_ns} {digest}"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    content = b"".join(tensors[name].contiguous().view(torch.uint8).numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(content).hexdigest()


def _stored(path: Path | None) -> dict[str, Tensor] | None:
    """What a file holds; None if there is none, or it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors if (file.metadata() or {}).get("sha256") == _digest(tensors) else None
    except (OSError, SafetensorError, TypeError):
        return None


def _store(path: Path | None, tensors: dict[str, Tensor]) -> None:
    """A cache that cannot be written is none."""
    with suppress(OSError, UserError):
        if path is not None:
            content = save({name: value.contiguous() for name, value in tensors.items()}, {"sha256": _digest(tensors)})
            with atomic(path) as file:
                file.write(content)
