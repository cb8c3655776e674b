"""Prompts of editors with large text encoders: encoded once, kept on disk, the encoders gone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import diffusers
import huggingface_hub
import pytest
import tiny
import torch

from editproof.cli import doctor
from editproof.editors import EDITORS, load_editor, prompt_cache
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.methods.prompts import POOL

IMAGES = tiny.pictures(3)
PROMPTS = ["a red hat", "snow", "a very long prompt of many words, " * 3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, groups of two prompts, and encoders that count as large."""
    monkeypatch.setattr(prompt_cache, "LARGE", 0)
    monkeypatch.setattr(prompt_cache, "GROUP", 2)
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(prompt_cache, "cached_assets_path", lambda *names, **more: folder)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The encoders that were loaded."""
    loaded, load = [], prompt_cache.PromptCache._load
    monkeypatch.setattr(prompt_cache.PromptCache, "_load", lambda self, kind, part, layers: (
        loaded.append(part) or load(self, kind, part, layers)))  # fmt: skip
    return loaded


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(params=["flux-kontext", "flux2-klein"])
def folder(request: pytest.FixtureRequest, tiny_folder: Callable) -> Path:
    return tiny_folder(request.param)


def test_encoders_are_loaded_once_and_change_nothing(folder: Path, cache: Path, loads: list[str]) -> None:
    plain = load_editor(folder, device="cpu")
    plain.prompt_cache = None
    shipped = diffusers.DiffusionPipeline.from_pretrained(folder)
    for part in prompt_cache.ENCODERS[type(plain.pipe).__name__]:
        setattr(plain.pipe, part, getattr(shipped, part))
    first = load_editor(folder, device="cpu")
    assert first.pipe.text_encoder is None
    expected = plain.encode_prompt(IMAGES, PROMPTS)
    assert same(first.encode_prompt(IMAGES, PROMPTS), expected)
    assert first.pipe.text_encoder is None
    assert len(loads) == len(prompt_cache.ENCODERS[type(first.pipe).__name__])
    assert len(list(cache.iterdir())) == 3
    loads.clear()
    second = load_editor(folder, device="cpu", plan="stream")
    assert same(second.encode_prompt(IMAGES, PROMPTS), expected)
    edits = [editor.edit(IMAGES, PROMPTS, steps=2) for editor in (plain, first)]
    assert torch.equal(*edits)
    assert not loads


def test_encoders_may_come_in_shards(tmp_path: Path, tiny_folder: Callable, cache: Path) -> None:
    folder = shutil.copytree(tiny_folder("flux-kontext"), tmp_path / "model")
    expected = load_editor(folder, device="cpu").encode_prompt(IMAGES, PROMPTS)
    pipe = diffusers.FluxKontextPipeline.from_pretrained(folder)
    shutil.rmtree(folder / "text_encoder_2")
    pipe.text_encoder_2.save_pretrained(folder / "text_encoder_2", max_shard_size="5KB")
    assert len(list((folder / "text_encoder_2").glob("*.safetensors"))) > 2
    assert same(load_editor(folder, device="cpu").encode_prompt(IMAGES, PROMPTS), expected)
    assert len(list(cache.iterdir())) == 6  # other files, other embeddings as far as one can know


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-40], lambda c: b"no" * 99, flipped])
def test_damaged_files_are_written_anew(
    tiny_folder: Callable, cache: Path, loads: list[str], damage: Callable[[bytes], bytes]
) -> None:
    folder = tiny_folder("flux-kontext")
    expected = load_editor(folder, device="cpu").encode_prompt(IMAGES, PROMPTS)
    for file in cache.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    loads.clear()
    assert same(load_editor(folder, device="cpu").encode_prompt(IMAGES, PROMPTS), expected)
    assert loads
    loads.clear()
    assert same(load_editor(folder, device="cpu").encode_prompt(IMAGES, PROMPTS), expected)
    assert not loads


def test_what_is_kept_belongs_to_its_weights_and_precision(tmp_path: Path, tiny_folder: Callable, cache: Path) -> None:
    folder = shutil.copytree(tiny_folder("flux-kontext"), tmp_path / "model")

    def pooled(**more: torch.dtype) -> torch.Tensor:
        return load_editor(folder, device="cpu", **more).encode_prompt(IMAGES[:1], "snow")["pooled_prompt_embeds"]

    before = pooled()
    assert pooled(dtype=torch.bfloat16).dtype == torch.bfloat16
    pipe = diffusers.FluxKontextPipeline.from_pretrained(folder)
    with torch.no_grad():
        for parameter in pipe.text_encoder.parameters():
            parameter *= 2
    pipe.text_encoder.save_pretrained(folder / "text_encoder")
    assert not torch.allclose(pooled(), before)
    assert len(list(cache.iterdir())) == 3


def test_what_was_encoded_before_an_end_is_kept(tiny_folder: Callable, cache: Path) -> None:
    editor = load_editor(tiny_folder("flux-kontext"), device="cpu")
    encode, calls = editor._encode_prompt, []

    def ends(prompts: list[str]) -> dict:
        calls.append(prompts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(prompts)

    with pytest.raises(KeyboardInterrupt):
        editor.prompt_cache(PROMPTS, ends)
    assert len(list(cache.iterdir())) == 2
    assert editor.pipe.text_encoder is None


def test_without_a_folder_to_write_to(tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*names: object, **more: object) -> Path:
        raise PermissionError("read-only")

    expected = load_editor(tiny_folder("flux-kontext"), device="cpu").encode_prompt(IMAGES, PROMPTS)
    for problem in (refused, lambda *names, **more: Path("/dev/null/cache")):
        monkeypatch.setattr(prompt_cache, "cached_assets_path", problem)
        assert same(load_editor(tiny_folder("flux-kontext"), device="cpu").encode_prompt(IMAGES, PROMPTS), expected)


def test_missing_encoders_give_one_line(tmp_path: Path, tiny_folder: Callable) -> None:
    folder = shutil.copytree(tiny_folder("flux-kontext"), tmp_path / "model")
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    editor = load_editor(folder, device="cpu")
    with pytest.raises(UserError, match=r"the text encoders in .*model cannot be loaded") as caught:
        editor.encode_prompt(IMAGES, "snow")
    assert "\n" not in str(caught.value)


def test_decontext_encodes_its_pool_in_one_go(
    tiny_folder: Callable, cache: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_cache, "GROUP", 8)
    editor: Editor = load_editor(tiny_folder("flux-kontext"), device="cpu")
    METHODS["decontext"](editor, IMAGES[:1], steps=2)
    assert loads == ["text_encoder", "text_encoder_2"]
    assert len(list(cache.iterdir())) == len(POOL)


@pytest.mark.parametrize("name", ["flux-kontext", "flux2-klein"])
def test_an_editor_of_the_hub(
    tmp_path: Path, tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch, loads: list[str], name: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert not doctor.on_disk(EDITORS[name])
    files = tiny.hub_cache(tmp_path / "hub", EDITORS[name].source)
    shutil.copytree(tiny_folder(name), files, dirs_exist_ok=True)
    assert doctor.on_disk(EDITORS[name])
    editor = load_editor(name, device="cpu")
    assert torch.equal(
        editor.edit(IMAGES, PROMPTS, steps=1), load_editor(files, device="cpu").edit(IMAGES, PROMPTS, steps=1)
    )
    assert len(loads) == len(prompt_cache.ENCODERS[type(editor.pipe).__name__])


def test_small_encoders_are_loaded_with_the_editor(tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "LARGE", 2**30)
    editor = load_editor(tiny_folder("flux-kontext"), device="cpu")
    assert editor.prompt_cache is None
    assert editor.pipe.text_encoder is not None
