"""Step1X-Edit: the published code's numbers, and loading, reading and editing on a tiny random model."""

import hashlib
import io
import json
import math
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import tiny
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from test_attention import GOLDEN, fill
from torch import Tensor

from editproof.budgets import Linf
from editproof.cli import doctor
from editproof.editors import EDITORS, load_editor
from editproof.editors.attention import context_mass
from editproof.editors.kontext import Step1XEditor
from editproof.editors.step1x import parts as step1x_parts
from editproof.editors.step1x.model import GROUPS, TOP, Step1XTransformer, load_transformer
from editproof.editors.step1x.pipeline import Step1XPipeline, guided, spelled
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.randomness import generators

IMAGES = tiny.pictures()


@pytest.fixture(scope="module")
def editor(tiny_editor: Callable) -> Step1XEditor:
    return tiny_editor("step1x-edit")


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
@torch.no_grad()
def test_the_published_codes_numbers(version: str) -> None:
    keys = json.loads((GOLDEN / f"step1x_{version}_keys.json").read_text())
    published = fill({name: torch.empty(shape) for name, shape in keys.items()}, 0.02)
    model, golden = load_transformer(published, version), load_file(GOLDEN / f"step1x_{version}.safetensors")

    def close(value: Tensor, name: str) -> bool:
        return value.shape == golden[name].shape and bool((value - golden[name]).norm() < 1e-3 * golden[name].norm())

    tokens, pooled = model.connector(golden["llm_hidden"], golden["timestep"], golden["mask"])
    assert close(tokens, "connector_tokens")
    assert close(pooled, "connector_pooled")
    output = model(
        golden["target_tokens"], golden["context_tokens"], golden["llm_hidden"], golden["mask"],
        timestep=golden["timestep"], target_ids=golden["target_ids"], context_ids=golden["context_ids"],
    )  # fmt: skip
    assert close(output, "output")


# The published files


def published_transformer(model: Step1XTransformer) -> dict[str, Tensor]:
    """A small model in the checkpoint's naming."""
    ours, state = model.state_dict(), {}
    tables = [("", "", TOP)]
    for old, new, inside in GROUPS:
        count = len({name[len(new) :].split(".")[0] for name in ours if name.startswith(new)})
        tables += [(f"{old}{i}.", f"{new}{i}.", inside) for i in range(count)]
    for old, new, table in tables:
        for name, targets in table.items():
            for kind in ("weight", "bias"):
                parts = [ours[f"{new}{t}.{kind}"] for t in targets.split("|") if f"{new}{t}.{kind}" in ours]
                if parts:
                    state[f"{old}{name}.{'scale' if '_norm' in name else kind}"] = torch.cat(parts)
    for name in [name for name in state if "adaLN_modulation" in name and name.startswith("final")]:
        state[name] = torch.cat(state[name].chunk(2)[::-1])
    return state


def vae_as_published() -> AutoencoderKL:
    """Three resolutions instead of four, and thinner."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 8), down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=2,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()  # fmt: skip


def published_vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    """A VAE in the naming of FLUX's authors."""
    rules = [
        (r"^(en|de)coder\.mid_block\.resnets\.(\d)", lambda m: f"{m[1]}coder.mid.block_{int(m[2]) + 1}"),
        (r"^(en|de)coder\.mid_block\.attentions\.0\.", r"\1coder.mid.attn_1."),
        (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{2 - int(m[1])}.block.{m[2]}"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{2 - int(m[1])}.upsample"),
        (r"conv_shortcut", "nin_shortcut"), (r"conv_norm_out", "norm_out"), (r"group_norm", "norm"),
        (r"to_([qkv])\.", r"\1."), (r"to_out\.0", "proj_out"),
    ]  # fmt: skip
    state = {}
    for name, tensor in vae.state_dict().items():
        renamed = name
        for pattern, replacement in rules:
            renamed = re.sub(pattern, replacement, renamed)
        matrix = "attn_1" in renamed and "norm" not in renamed and renamed.endswith("weight")
        state[renamed] = tensor[..., None, None] if matrix else tensor
    return state


def test_published_files_become_a_pipeline_that_is_saved_and_loaded(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = tiny.step1x()
        vae = vae_as_published()
    save_file(published_transformer(pipe.transformer), tmp_path / "step1x.safetensors")
    save_file(published_vae(vae), tmp_path / "vae.safetensors")
    for part in (pipe.text_encoder, pipe.tokenizer, pipe.photo_processor):
        part.save_pretrained(tmp_path / "qwen")
    (tmp_path / "prompt_prefix").write_text("describe this: ")
    files = [tmp_path / name for name in ("step1x.safetensors", "vae.safetensors", "qwen")]
    made = Step1XPipeline.from_published(*files, "v1.1", tmp_path / "prompt_prefix")
    assert (made.vae.config.scaling_factor, made.vae.config.shift_factor) == (0.3611, 0.1159)
    encoded, expected = (v.encode(2 * IMAGES - 1).latent_dist.mean for v in (made.vae, vae))
    assert torch.allclose(encoded, expected, atol=1e-5)
    assert torch.allclose(made.vae.decode(encoded).sample, vae.decode(encoded).sample, atol=1e-5)
    made.save_pretrained(tmp_path / "saved")
    loaded = load_editor(tmp_path / "saved", device="cpu")
    made.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 2, "output_type": "pt"}
    shipped = made(IMAGES, "snow", generator=generators(1, 2), **arguments).images
    assert torch.allclose(loaded.edit(IMAGES, "snow", steps=2, seed=1), shipped, atol=1e-5)
    with pytest.raises(UserError, match=r"no such file or folder: .*none"):
        Step1XPipeline.from_published(tmp_path / "none", *files[1:], "v1.1", tmp_path / "prompt_prefix")
    with pytest.raises(UserError, match="is not FLUX's VAE"):
        Step1XPipeline.from_published(files[0], files[0], files[2], "v1.1", tmp_path / "prompt_prefix")


# By name: a hub's cache with small parts that are laid out as the published ones

TEXT = "look\\n at this picture:"
CODE = f"""import nowhere
Qwen25VL_7b_PREFIX = \'\'\'{TEXT}\'\'\'
raise SystemExit("never run")
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "cached_assets_path", lambda *names, **more: tmp_path)
    monkeypatch.setattr(step1x_parts, "SHA256", hashlib.sha256(b"look\n at this picture:").hexdigest())
    monkeypatch.setattr(step1x_parts, "CUT", 20)
    parts = tiny.hub_cache(tmp_path / "hub", "stepfun-ai/Step1X-Edit")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipes = {version: tiny.step1x(version) for version in step1x_parts.TRANSFORMERS}
        vae = vae_as_published()
    for version, pipe in pipes.items():
        state = published_transformer(pipe.transformer)
        if version == "v1.0":
            state["connector.scale_factor"] = torch.ones(1)
        save_file(state, parts / step1x_parts.TRANSFORMERS[version])
    save_file(published_vae(vae), parts / step1x_parts.VAE)
    qwen = tiny.hub_cache(tmp_path / "hub", step1x_parts.QWEN)
    for part in (pipe.text_encoder, pipe.tokenizer, pipe.photo_processor):
        part.save_pretrained(qwen)
    (tmp_path / "conditioner.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(("name", "version"), [("step1x-edit", "v1.1"), ("step1x-edit-v1.0", "v1.0")])
def test_the_editor_by_its_name(hub: Path, name: str, version: str) -> None:
    assert doctor.on_disk(EDITORS[name])
    editor = load_editor(name, device="cpu")
    config = editor.pipe.config
    assert config.prompt_prefix == "<|im_start|>user\nlook\n at this picture:Picture 1: "
    assert (config.prefix_tokens, editor.pipe.transformer.config.version) == (20, version)
    _, mask = editor.pipe.read(IMAGES[:1], ["snow"])
    words = editor.pipe.tokenizer(config.prompt_prefix + "snow<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    assert mask.sum() == len(words) - 20 + 2 + 256  # the picture's marks and patches
    edited = editor.edit(IMAGES[:1], "snow", steps=1)
    assert edited.shape == IMAGES[:1].shape
    assert edited.isfinite().all()


def test_parts_that_are_missing_give_one_line(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            load_editor("step1x-edit", device="cpu")
        assert "\n" not in str(caught.value)

    shutil.rmtree(hub / "hub" / "models--Qwen--Qwen2.5-VL-7B-Instruct")
    refused("run `hf download Qwen/Qwen2.5-VL-7B-Instruct` where there is network")
    shutil.rmtree(hub / "hub")
    assert not doctor.on_disk(EDITORS["step1x-edit"])
    refused("hf download stepfun-ai/Step1X-Edit step1x-edit-v1p1-official.safetensors vae.safetensors` where")
    (hub / "conditioner.py").write_text(CODE.replace("look", "stare"))
    refused(r"conditioner\.py does not hold the Qwen25VL_7b_PREFIX that editproof knows: delete it, or save https")
    for nonsense in (b"", b"(", b"Qwen25VL_7b_PREFIX = 3", b"\x00"):
        (hub / "conditioner.py").write_bytes(nonsense)
        refused("does not hold")
    (hub / "conditioner.py").unlink()
    refused(r"needs a text from its authors' code: save https.* as .*conditioner\.py")
    with pytest.raises(UserError, match="own scheduler only"):
        load_editor("step1x-edit", scheduler="ddim")


def test_the_authors_text_is_fetched_once(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        if len(asked) == 1:
            raise urllib.error.URLError("no route")
        return io.BytesIO(CODE.encode())

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    (hub / "conditioner.py").unlink()
    with pytest.raises(UserError, match="no route"):
        step1x_parts.instruction("x")
    assert not list(hub.glob("*conditioner*"))
    for _ in range(2):
        assert step1x_parts.instruction("x") == "look\n at this picture:"
    assert asked == [step1x_parts.CODE] * 2


def test_what_is_no_checkpoint() -> None:
    state = published_transformer(tiny.step1x().transformer)
    with pytest.raises(UserError, match=r"unknown version 'v2' of Step1X-Edit: v1\.0 or v1\.1"):
        load_transformer(state, "v2")
    broken = {"empty": {}, "another's": {**state, "lora.weight": torch.zeros(1)},
              "cut": {name: tensor for name, tensor in state.items() if name != "txt_in.bias"}}  # fmt: skip
    for wrong in broken.values():
        with pytest.raises(UserError, match=r"not a checkpoint of Step1X-Edit v1\.1: "):
            load_transformer(wrong, "v1.1")
    with pytest.raises(UserError, match="scale_factor"):
        load_transformer(state, "v1.0")


# Reading and sampling


def test_the_language_model_reads_photo_and_instruction_behind_a_prefix_that_is_cut_off(editor: Step1XEditor) -> None:
    pipe = editor.pipe
    hidden, mask = pipe.read(IMAGES, ["snow", "a red hat"])
    assert hidden.shape == (2, 64, 32)
    difference = len("a red hat") - len("snow")  # this tokenizer's tokens are letters
    assert mask[1].sum() - mask[0].sum() == difference
    assert (hidden[mask == 0] == 0).all()
    assert (hidden[mask == 1].abs().amax(-1) > 0).all()
    assert not torch.allclose(pipe.read(1 - IMAGES, ["snow", "a red hat"])[0], hidden, atol=1e-3)
    alone, _ = pipe.read(IMAGES[1:], ["a red hat"])
    assert torch.allclose(alone, hidden[1:], atol=1e-5)
    long, mask = pipe.read(IMAGES[:1], ["snow " * 100])
    assert long.shape == (1, 64, 32)
    assert mask.all()


def test_quoted_text_is_spelled() -> None:
    def tokenizer(text: str) -> dict[str, list[str]]:
        return {"input_ids": [text]}

    assert spelled('write "Hi" in red', tokenizer) == ['write "', "H", "i", '" in red']
    assert spelled("“no” and ''", tokenizer) == ['"', "n", "o", '" and "', '"']
    assert spelled("it's cold", tokenizer) == ['it"', "s", *" cold"]  # as in the published code
    assert spelled("it is cold", tokenizer) == ["it is cold"]
    assert spelled("", tokenizer) == []


def test_guidance_is_damped_where_nearly_all_is_noise() -> None:
    without, with_text = torch.zeros(1, 2, 4), torch.tensor([[[3.0, 0, 4.0, 0], [0.3, 0, 0.4, 0]]])
    assert torch.allclose(guided(with_text, without, 6.0, 0.93), 6 * with_text)
    damped = guided(with_text, without, 6.0, 0.94)
    assert torch.allclose(damped[0, 0], 6 * with_text[0, 0] / 5**0.4)
    assert torch.allclose(damped[0, 1], 6 * with_text[0, 1])  # a difference below 1 stays
    assert torch.allclose(guided(with_text, without + 1, 1.0, 0.5), with_text)


def test_the_schedule_and_the_calls(editor: Step1XEditor) -> None:
    calls: list[tuple] = []

    def record(module: object, arguments: tuple, named: dict, output: Tensor) -> None:
        calls.append((arguments, named, output))

    handle = editor.pipe.transformer.register_forward_hook(record, with_kwargs=True)
    latents: list[Tensor] = []

    def step_end(pipe: object, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        latents.append(tensors["latents"])
        return tensors

    editor.pipe(IMAGES, "snow", generator=generators(0, 2), output_type="latent", callback_on_step_end=step_end)
    handle.remove()
    mu = 0.5 + (16 - 256) * (1.15 - 0.5) / (4096 - 256)
    levels = [math.exp(mu) / (math.exp(mu) + 1 / t - 1) if t > 0 else 0 for t in torch.linspace(1, 0, 29).tolist()]
    assert [named["timestep"][0].item() for _, named, _ in calls] == pytest.approx(levels[:-1], abs=1e-5)
    (target, context, hidden, _), named, output = calls[9]
    assert target.shape == context.shape == (4, 16, 16)  # two photos, with the prompt and without
    assert torch.equal(context[:2], context[2:])
    assert not torch.equal(hidden[:2], hidden[2:])
    velocity = guided(*output[:, :16].chunk(2), 6.0, levels[9])
    assert torch.allclose(latents[9], target[:2] + (levels[10] - levels[9]) * velocity, atol=1e-5)
    assert torch.equal(named["context_ids"], named["target_ids"] + 1)


def test_positions_of_the_first_version(editor: Step1XEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step1XTransformer, "config", SimpleNamespace(version="v1.0"))
    _, _, target_ids, context_ids = editor.pipe.prepare_latents(
        torch.zeros(1, 4, 8, 8), 1, 4, 32, 32, torch.float32, torch.device("cpu"), generators(0, 1)
    )
    assert torch.equal(target_ids, context_ids)


def test_a_picture_comes_back_at_its_own_size(editor: Step1XEditor) -> None:
    seen: list[torch.Size] = []
    handle = editor.pipe.vae.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    picture = Image.new("RGB", (101, 60), "red")
    edited = editor.pipe(picture, "snow", num_inference_steps=1, generator=torch.Generator().manual_seed(0)).images
    handle.remove()
    assert [image.size for image in edited] == [(101, 60)]
    assert seen == [(1, 3, 24, 40)]  # the area of 32 x 32, sides cut to multiples of 8


# As an editor


def test_attention_and_methods(editor: Step1XEditor) -> None:
    images = IMAGES.clone().requires_grad_()
    mass = context_mass(editor, images, "snow", blocks="all single", timestep=0.9, generator=generators(0, 2))
    assert ((mass > 0) & (mass < 1)).all()
    assert torch.autograd.grad(mass.sum(), images)[0].abs().amax((1, 2, 3)).min() > 0
    methods = {
        "decontext": {"steps": 20, "step_size": 2 / 255},
        "veto": {"timesteps": 2},
        "photoguard-encoder": {},
        "photoguard-diffusion": {"samples": 1, "denoising_steps": 1},
    }
    for method, knobs in methods.items():
        safe = METHODS[method](editor, IMAGES, budget=Linf(16 / 255), **{"steps": 2, **knobs})
        assert 0 < (safe - IMAGES).abs().max() <= 16 / 255 + 1e-6
        if method == "decontext":
            with torch.no_grad():
                less = context_mass(editor, safe, "snow", blocks="all single", timestep=0.9, generator=generators(0, 2))
            assert (less < mass).all()


def test_how_often_the_photo_is_read(editor: Step1XEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = editor.pipe.read, []
    monkeypatch.setattr(editor.pipe, "read", lambda images, prompts: seen.append(images) or read(images, prompts))
    METHODS["decontext"](editor, IMAGES, steps=5, read_every=2, budget=Linf(16 / 255))
    assert len(seen) == 3
    assert torch.equal(seen[0], IMAGES)
    assert not torch.equal(seen[1], IMAGES)
