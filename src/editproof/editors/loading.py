"""From the files of an editor to one that is placed on a device. `load_editor` has checked what it was asked for."""

from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch

from editproof.editors import FIRST_BLOCK, INT8, OWN_PIPELINES, PIPELINES, SCHEDULERS, supported
from editproof.editors.hub import model_index, one_line, quiet
from editproof.editors.packed import packed_parts
from editproof.editors.prompt_cache import ENCODERS, PromptCache, encoders
from editproof.editors.quantized import quantization
from editproof.editors.qwen import NAME as QWEN
from editproof.editors.qwen import PromptReader
from editproof.editors.speed import placement
from editproof.editors.step1x import parts as step1x_parts
from editproof.errors import UserError

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

TOKENS = ("tokenizer.json", "vocab.*", "*.model")  # files of a tokenizer, one of which is needed
IN_PARTS = {"_class_name": "Step1XPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}


@dataclass(frozen=True)
class Origin:
    """Where an editor comes from: a folder in diffusers' layout, a hub id, or single files on the hub."""

    name: str
    source: str  # the folder or hub id
    folder: bool
    embedded: bool = False
    version: str = ""  # of an editor that is published as single files

    @property
    def label(self) -> str:
        """How error messages call it."""
        return self.name if self.embedded or self.name == self.source else f"{self.name} ({self.source})"


def load(
    origin: Origin,
    device: torch.device,
    dtype: torch.dtype | None,
    scheduler: str | None,
    plan: str | None,
    record: bool,
    size: int | None,
) -> "Editor":
    """The editor; arguments as those of `load_editor`. Raises UserError."""
    index = IN_PARTS if origin.version else model_index(origin.source, origin.label, origin.folder)
    class_name = supported(index, origin.label)
    if origin.folder:
        _check_tokenizers(index, Path(origin.source), origin.label)
    if plan == INT8 and (origin.embedded or origin.version):
        raise UserError(f"plan 'int8' is for large editors in diffusers' layout, and editor {origin.label} is not one")
    if scheduler is not None and "FlowMatch" in str(index.get("scheduler")):
        raise UserError(
            f"editor {origin.label} works with its own scheduler only (flow matching), not with {scheduler!r}"
        )
    dtype = dtype or _default_dtype(device, origin.embedded)
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise UserError(f"dtype {dtype}: allowed are torch.float32, torch.bfloat16 and torch.float16")
    try:
        pipe, cached_from = _read(origin, index, class_name, dtype, plan)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a download that was cut off, a tokenizer that is missing: libraries raise any kind
        raise UserError(f"editor {origin.label} cannot be loaded: {one_line(error)}") from error
    if scheduler is not None:
        scheduler_class, settings = SCHEDULERS[scheduler]
        pipe.scheduler = getattr(diffusers, scheduler_class).from_config(pipe.scheduler.config, **settings)
    module, editor_class = PIPELINES[class_name]
    try:
        plan = placement.place(pipe, plan, device, record)
    except torch.OutOfMemoryError as error:
        raise UserError(f"editor {origin.label} does not fit on {device}: {one_line(error)}") from error
    editor: Editor = getattr(import_module(module), editor_class)(origin.name, pipe, dtype)
    editor.plan, editor.side = plan, size
    if cached_from:
        editor.prompt_cache = PromptCache(pipe, cached_from, dtype, device)
    return editor


def _read(
    origin: Origin, index: dict[str, Any], class_name: str, dtype: torch.dtype, plan: str | None
) -> tuple[Any, str]:
    """The pipeline in CPU memory, and where its text encoders are if they stay on disk ("": they are loaded)."""
    with quiet():  # this import tells of optional parts that are missing
        home = import_module(OWN_PIPELINES[class_name]) if class_name in OWN_PIPELINES else diffusers
        pipeline_class = getattr(home, class_name)
    if origin.version:
        published = step1x_parts.fetch(origin.label, origin.source, origin.version)
        return pipeline_class.from_published(*published, origin.version, dtype=dtype), ""
    source = origin.source
    if class_name in ENCODERS and not origin.folder:
        source = pipeline_class.download(source, use_safetensors=True)
    left_out = {} if origin.embedded else encoders(class_name, source)
    parts: dict[str, Any] = dict.fromkeys(left_out)
    if class_name == QWEN:
        parts["processor"] = None
    if plan == FIRST_BLOCK:
        with quiet():  # it would list the blocks that are left out
            parts |= placement.first_block_parts(class_name, origin.label, source, dtype)
    if plan == INT8:
        parts["quantization_config"] = quantization(index, left_out)
    if origin.folder:
        parts |= packed_parts(Path(source), dtype)
    dtypes = {"vae": torch.float32, "default": dtype} if "XL" in class_name else dtype
    with quiet() if origin.embedded else nullcontext():
        pipe = pipeline_class.from_pretrained(source, dtype=dtypes, use_safetensors=True, **parts)
    if class_name == QWEN:
        pipe.processor = PromptReader(source, pipe.tokenizer)
    return pipe, source if left_out else ""


def _check_tokenizers(index: dict[str, Any], folder: Path, label: str) -> None:
    """Raise UserError where a tokenizer's words are missing, which transformers takes for one without any."""
    for name, part in index.items():
        if isinstance(part, list) and "Tokenizer" in str(part[-1]):
            found = [file for pattern in TOKENS for file in folder.glob(f"{name}/{pattern}")]
            if not found:
                raise UserError(f"editor {label} cannot be loaded: '{folder / name}' has no tokenizer")


def _default_dtype(device: torch.device, embedded: bool) -> torch.dtype:
    if embedded or device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
