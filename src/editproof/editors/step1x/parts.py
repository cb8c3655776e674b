"""Step1X-Edit's published parts, brought together: two files of weights, Qwen2.5-VL, and the text that Qwen is fed.

That text is the model authors' (Apache-2.0) and not ours to ship. It is read, never run, out of the Python file that
they publish it in; the file is fetched once, and its text is known by its SHA-256.
"""

import ast
import hashlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from editproof.editors.hub import one_line, told
from editproof.errors import UserError
from editproof.files import atomic

TRANSFORMERS = {"v1.0": "step1x-edit-i1258.safetensors", "v1.1": "step1x-edit-v1p1-official.safetensors"}
VAE = "vae.safetensors"
QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
QWEN_FILES = ("*.json", "*.txt", "*.safetensors")
CODE = "https://raw.githubusercontent.com/stepfun-ai/Step1X-Edit/main/modules/conditioner.py"
NAME, SHA256 = "Qwen25VL_7b_PREFIX", "40882ddca94ca6971c8d5713d42464afa31dad09236dfacafe3ee26b4b44aa82"
CUT = 217  # tokens of what Qwen is fed before the picture whose states the authors drop


def fetch(label: str, source: str, version: str) -> tuple[Path, Path, Path]:
    """The transformer, the VAE and the folder of Qwen, from the hub's cache or the hub. Raises UserError."""
    from huggingface_hub import hf_hub_download, snapshot_download

    instruction(label)  # the smallest part first
    files = (TRANSFORMERS[version], VAE)
    with told(label, source, *files):
        transformer, vae = (Path(hf_hub_download(source, file)) for file in files)
    with told(label, QWEN):
        qwen = Path(snapshot_download(QWEN, allow_patterns=list(QWEN_FILES)))
    return transformer, vae, qwen


def prompt_prefix(qwen: Path, tokenizer: Any, label: str = "step1x-edit") -> str:
    """All that the language model is fed before the picture, as its own chat template puts it."""
    template = qwen / "chat_template.json"
    content = [{"type": "text", "text": instruction(label)}, {"type": "image"}, {"type": "text", "text": ""}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, add_vision_id=True,
        chat_template=json.loads(template.read_text())["chat_template"] if template.is_file() else None,
    )  # fmt: skip
    before, mark, _ = text.partition("<|vision_start|>")
    if not mark:
        raise UserError(f"the chat template in {qwen} shows no picture: this is not Qwen2.5-VL-7B-Instruct")
    return before


def instruction(label: str) -> str:
    """The text that the authors' code puts before the picture. Raises UserError."""
    from huggingface_hub import cached_assets_path
    from huggingface_hub.constants import HF_HUB_OFFLINE

    path = cached_assets_path("editproof", namespace="step1x-edit") / "conditioner.py"
    if not path.is_file():
        needs = f"editor {label} needs a text from its authors' code: save {CODE} as {path}"
        if HF_HUB_OFFLINE:
            raise UserError(needs)
        try:
            with urllib.request.urlopen(CODE, timeout=30) as answer, atomic(path) as file:
                file.write(answer.read())
        except OSError as error:
            raise UserError(f"{needs} ({one_line(error)})") from error
    try:
        texts = [node.value.value for node in ast.walk(ast.parse(path.read_bytes()))
                 if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                 and [target.id for target in node.targets if isinstance(target, ast.Name)] == [NAME]]  # fmt: skip
    except (SyntaxError, ValueError):
        texts = []
    known = [text for text in texts if isinstance(text, str) and hashlib.sha256(text.encode()).hexdigest() == SHA256]
    if not known:
        raise UserError(f"{path} does not hold the {NAME} that editproof knows: delete it, or save {CODE} there")
    return known[0]
