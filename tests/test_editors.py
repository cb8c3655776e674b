"""Real loading code on tiny random pipelines; gradients through shipped pipelines."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import diffusers
import huggingface_hub
import pytest
import tiny
import torch
from huggingface_hub import errors
from PIL import Image
from torch import Tensor

from editproof.editors import EDITORS, PIPELINES, SCHEDULERS, load_editor, pick_device
from editproof.editors.attention import context_mass
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.people.finding import EMBEDDED, load_people
from editproof.randomness import generators

Load = Callable[[str], Editor]
Folder = Callable[[str], Path]
NAMES = list(tiny.MAKERS)
IMAGES, MASK = tiny.pictures(), tiny.hole()


def hole_for(editor: Editor, mask: Tensor = MASK) -> Tensor | None:
    return mask if editor.masked else None


def shipped_edit(folder: Path, scheduler: str | None = None, steps: int = 5) -> Tensor:
    """The same edit by diffusers alone, on a pipeline of its own."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    if name == "QwenImageEditPlusPipeline":
        return qwen_edit(folder, steps)
    pipe = getattr(diffusers, name).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if name == "Flux2KleinPipeline":
        return klein_edit(pipe, steps)
    if scheduler:
        scheduler_class, settings = SCHEDULERS[scheduler]
        pipe.scheduler = getattr(diffusers, scheduler_class).from_config(pipe.scheduler.config, **settings)
    arguments = {
        "StableDiffusionInstructPix2PixPipeline": {"guidance_scale": 7.5, "eta": 1.0},
        "FluxKontextPipeline": {
            "height": 32,
            "width": 32,
            "max_area": 32 * 32,
            "_auto_resize": False,
            "guidance_scale": 2.5,
        },
        "FluxFillPipeline": {"mask_image": MASK, "height": 32, "width": 32},
        "StableDiffusionXLImg2ImgPipeline": {},
        "StableDiffusion3Img2ImgPipeline": {},
    }.get(name, {"mask_image": MASK, "height": 32, "width": 32, "strength": 1.0, "guidance_scale": 7.5, "eta": 1.0})
    return pipe(
        prompt=["a red hat", "snow"], image=IMAGES, num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(3) for _ in range(2)], output_type="pt", **arguments,
    ).images  # fmt: skip


def as_pil() -> list[Image.Image]:
    return [Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()) for image in IMAGES]


def klein_edit(pipe: diffusers.DiffusionPipeline, steps: int, guidance: float = 1.0) -> Tensor:
    """It takes PIL pictures of at least 64 pixels, one to an edit."""
    pipe.image_processor.check_image_input = lambda picture: None
    edits = [
        pipe(image=picture, prompt=prompt, num_inference_steps=steps, generator=torch.Generator().manual_seed(3),
             output_type="pt", guidance_scale=guidance).images
        for picture, prompt in zip(as_pil(), ["a red hat", "snow"], strict=True)
    ]  # fmt: skip
    return torch.cat(edits)


def qwen_edit(folder: Path, steps: int) -> Tensor:
    """It takes a PIL picture, and brings it to about a megapixel: here to SIZE x SIZE pixels, the photo as it is."""
    pipe = tiny.loaded(diffusers.QwenImageEditPlusPipeline, folder)
    pipe.set_progress_bar_config(disable=True)
    with mock.patch("diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE", tiny.SIZE**2):
        edits = [
            pipe(image=picture, prompt=prompt, negative_prompt=" ", num_inference_steps=steps, output_type="pt",
                 height=tiny.SIZE, width=tiny.SIZE, generator=torch.Generator().manual_seed(3)).images
            for picture, prompt in zip(as_pil(), ["a red hat", "snow"], strict=True)
        ]  # fmt: skip
    return torch.cat(edits)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_equals_the_shipped_pipelines(tiny_editor: Load, tiny_folder: Folder, name: str) -> None:
    editor = tiny_editor(name)
    edited = editor.edit(IMAGES, ["a red hat", "snow"], mask=hole_for(editor), steps=5, seed=3)
    assert torch.allclose(edited, shipped_edit(tiny_folder(name)), atol=1e-5)
    assert edited.shape == IMAGES.shape and edited.dtype == torch.float32 and edited.min() >= 0 and edited.max() <= 1


def test_a_klein_that_is_not_distilled_is_guided_by_an_empty_prompt(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny.flux2_klein(distilled=False).save_pretrained(tmp_path)
    editor, told = load_editor(tmp_path, device="cpu"), []
    prompts, pipe = ["a red hat", "snow"], diffusers.Flux2KleinPipeline.from_pretrained(tmp_path)
    edited = editor.edit(IMAGES, prompts, steps=2, seed=3, callback=lambda *news: told.append(news))
    assert torch.allclose(edited, klein_edit(pipe, 2, editor.guidance), atol=1e-5)
    assert (editor.steps, editor.guidance) == (50, 4.0)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two photos, one after the other


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_edits_as_shipped_and_passes_gradients(tiny_folder: Folder, scheduler: str) -> None:
    editor = load_editor(tiny_folder("sd-inpaint"), device="cpu", scheduler=scheduler)
    assert type(editor.pipe.scheduler).__name__ == SCHEDULERS[scheduler][0]
    edited = editor.edit(IMAGES, ["a red hat", "snow"], mask=MASK, steps=5, seed=3)
    assert torch.allclose(edited, shipped_edit(tiny_folder("sd-inpaint"), scheduler), atol=1e-5)
    images = IMAGES.clone().requires_grad_()
    editor.sample(images, "snow", mask=MASK, steps=3, generator=generators(0, 2)).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(tiny_editor: Load, name: str) -> None:
    editor = tiny_editor(name)
    images = 0.2 + 0.6 * IMAGES
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).sign()

    def edit(images: Tensor) -> Tensor:
        out = editor.sample(images, "snow", mask=hole_for(editor), steps=2, guidance=2.0, generator=generators(0, 2))
        return ((out - 0.5) ** 2).sum()

    def encode(images: Tensor) -> Tensor:
        return (editor.encode(images, MASK) ** 2).sum()

    def predict(images: Tensor) -> Tensor:
        return (editor.first_prediction(images, mask=hole_for(editor), generator=generators(0, 2)) ** 2).sum()

    for objective in (edit, encode, predict):
        leaf = images.clone().requires_grad_()
        slope = (torch.autograd.grad(objective(leaf), leaf)[0] * direction).sum().item()
        with torch.no_grad():
            rise = objective(images + 1e-3 * direction) - objective(images - 1e-3 * direction)
        assert rise.item() / 2e-3 == pytest.approx(slope, rel=0.05, abs=0.02), objective.__name__
    assert not any(p.requires_grad for p in editor.denoiser.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_depends_on_the_seed_and_not_on_the_batch(tiny_editor: Load, name: str) -> None:
    editor = tiny_editor(name)

    def edit(rows: slice, seed: int) -> Tensor:
        return editor.edit(IMAGES[rows], "snow", mask=hole_for(editor, MASK[rows]), steps=3, seed=seed)

    both = edit(slice(0, 2), 1)
    assert torch.equal(both, edit(slice(0, 2), 1))
    assert torch.allclose(both[1:], edit(slice(1, 2), 1), atol=1e-5)
    assert not torch.allclose(both, edit(slice(0, 2), 2), atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_prediction_is_what_the_scheduler_gets_first(
    tiny_editor: Load, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tiny_editor(name)
    seen = []
    step = editor.pipe.scheduler.step

    def record(output: Tensor, timestep: Tensor, *rest: object, **more: object) -> object:
        seen.append((output, int(timestep)))
        return step(output, timestep, *rest, **more)

    monkeypatch.setattr(editor.pipe.scheduler, "step", record)
    guidance = editor.single_guidance
    editor.sample(IMAGES, "", mask=hole_for(editor), steps=4, guidance=guidance, generator=generators(2, 2))
    monkeypatch.undo()
    first = editor.first_prediction(IMAGES, mask=hole_for(editor), generator=generators(2, 2))
    expected = torch.cat([output for output, timestep in seen if timestep == seen[0][1]])  # klein: one for each photo
    if editor.in_context or name in ("flux-fill", "qwen-edit"):
        expected = editor.latents_in(torch.cat([expected] * 2, 1) if editor.in_context else expected, IMAGES)
    flux = [1000, 826, 612, 345]  # shifted, for 16 tokens
    shifted = {"flux-kontext": flux, "flux-fill": flux, "qwen-edit": flux, "flux2-klein": [1000, 954, 874, 699],
               "sd3-img2img": [857, 602, 8], "sdxl-img2img": [1]}  # fmt: skip
    timesteps = [timestep for _, timestep in seen[-len(shifted.get(name, [0] * 4)) :]]
    assert timesteps == pytest.approx(shifted.get(name, [751, 501, 251, 1]), abs=1)
    if editor.in_context:
        assert [1000 * level for level in editor.noise_levels(IMAGES, 4)] == pytest.approx(timesteps, abs=1)
    assert torch.allclose(first, expected, atol=1e-6)
    assert not editor.denoiser._forward_hooks


def test_inpainting_hides_the_hole(tiny_editor: Load) -> None:
    editor = tiny_editor("sd-inpaint")
    repainted = torch.where(MASK > 0, 1 - IMAGES, IMAGES)
    for see in (
        lambda images: editor.encode(images, MASK),
        lambda images: editor.first_prediction(images, mask=MASK, generator=generators(0, 2)),
        lambda images: editor.edit(images, "snow", mask=MASK, steps=2),
    ):
        assert torch.equal(see(IMAGES), see(repainted))
    assert not torch.equal(editor.encode(IMAGES), editor.encode(repainted))


def test_latents_are_scaled_as_the_model_says_and_images_are_not_clamped(tiny_editor: Load) -> None:
    editor = tiny_editor("sd-inpaint")
    latents = editor.encode(IMAGES)
    by_hand = editor.pipe.vae.encode(2 * IMAGES - 1).latent_dist.mean * 0.7
    assert latents.shape == (2, 4, 4, 4) and torch.allclose(latents, by_hand, atol=1e-6)
    decoded = editor.decode(20 * latents)
    assert decoded.min() < 0 or decoded.max() > 1
    assert torch.allclose(decoded, editor.pipe.vae.decode(20 * latents / 0.7).sample / 2 + 0.5, atol=1e-5)


def test_each_prompt_is_encoded_once(tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = load_editor(tiny_folder("sd-inpaint"), device="cpu")
    encoded = []
    encode = editor.pipe.encode_prompt
    monkeypatch.setattr(
        editor.pipe, "encode_prompt", lambda prompt, *a, **k: (encoded.append(prompt), encode(prompt, *a, **k))[1]
    )
    for _ in range(3):
        editor.sample(IMAGES, ["snow", "fire"], mask=MASK, steps=1, generator=generators(0, 2))
    assert sorted(text for text in encoded if text is not None) == ["fire", "snow"]


def test_progress_of_an_edit(tiny_editor: Load) -> None:
    told: list[tuple[int, int]] = []
    editor = tiny_editor("instruct-pix2pix")
    editor.edit(IMAGES, "snow", steps=3, callback=lambda *news: told.append(news))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_any_sides_of_the_vaes_factor(tiny_editor: Load, name: str) -> None:
    editor = tiny_editor(name)
    wide, mask = tiny.pictures(1, 24, 56), tiny.hole(1, 24, 56)
    assert editor.edit(wide, "snow", mask=hole_for(editor, mask), steps=2).shape == wide.shape
    assert editor.size == {"flux-fill": 512, "qwen-edit": 512}.get(name, tiny.SIZE)  # as their code has it
    with pytest.raises(UserError, match=r"multiples of 8, not 33x32"):
        editor.edit(tiny.pictures(1, 32, 33), "snow", mask=hole_for(editor, tiny.hole(1, 32, 33)))


def test_what_an_edit_refuses(tiny_editor: Load) -> None:
    inpaint, instruct = tiny_editor("sd-inpaint"), tiny_editor("instruct-pix2pix")
    with pytest.raises(UserError, match="needs a mask"):
        inpaint.edit(IMAGES, "snow")
    with pytest.raises(UserError, match="takes no mask"):
        instruct.edit(IMAGES, "snow", mask=MASK)
    with pytest.raises(UserError, match=r"mask is of shape \(2, 1, 16, 16\), the images are \(2, 3, 32, 32\)"):
        inpaint.edit(IMAGES, "snow", mask=MASK[..., :16, :16])
    with pytest.raises(UserError, match="3 prompts for 2 pictures"):
        inpaint.edit(IMAGES, ["a", "b", "c"], mask=MASK)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(tiny_folder: Folder, name: str) -> None:
    editor = load_editor(tiny_folder(name), device="cpu", dtype=torch.bfloat16)
    assert editor.denoiser.dtype == torch.bfloat16
    assert editor.pipe.vae.dtype == (torch.float32 if "xl" in name else torch.bfloat16)
    images = IMAGES.clone().requires_grad_()
    edited = editor.sample(images, "snow", mask=hole_for(editor), steps=3, generator=generators(0, 2))
    edited.sum().backward()
    assert edited.dtype == torch.float32
    assert images.grad is not None and images.grad.dtype == torch.float32 and images.grad.isfinite().all()
    assert images.grad.abs().max() > 0


def test_a_compiled_denoiser_keeps_working(tiny_folder: Folder, tiny_editor: Load) -> None:
    editor = load_editor(tiny_folder("sd-inpaint"), device="cpu")
    editor.pipe.unet = torch.compile(editor.pipe.unet, backend="eager")
    plain = tiny_editor("sd-inpaint")
    for see in (
        lambda editor: editor.edit(IMAGES, "snow", mask=MASK, steps=2),
        lambda editor: editor.first_prediction(IMAGES, mask=MASK, generator=generators(0, 2)),
    ):
        assert torch.allclose(see(editor), see(plain), atol=1e-5)


def test_a_shipped_safety_checker_stays_on(tmp_path: Path) -> None:
    """One that objects to everything: its concepts' thresholds are below any cosine."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessorPil

    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 16, "patch_size": 8}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-2)
    pipe = tiny.sd_inpaint()
    pipe.register_modules(
        safety_checker=checker,
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    pipe.save_pretrained(tmp_path / "model")
    editor = load_editor(tmp_path / "model", device="cpu")
    assert editor.edit(IMAGES, "snow", mask=MASK, steps=1).abs().max() == 0
    assert editor.sample(IMAGES, "snow", mask=MASK, steps=1, generator=generators(0, 2)).abs().max() > 0
    editor.pipe.safety_checker.concept_embeds_weights.data.fill_(2)
    assert editor.edit(IMAGES, "snow", mask=MASK, steps=1).abs().max() > 0


# Loading


def test_known_editors_are_described() -> None:
    for name, info in EDITORS.items():
        assert info.name == name and info.licence and info.note and info.size % 8 == 0
        assert info.masked == (info.kind == "inpaint")


def test_the_registry_imports_no_torch() -> None:
    code = "import sys, editproof.editors; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["sd-inpain", "no such editor", "a/b/c", "/nowhere/model"])
def test_an_unknown_editor(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown editor .*: one of tiny-inpaint, .*sd-inpaint, .*hub id"):
        load_editor(name)


def test_unknown_scheduler_and_device() -> None:
    with pytest.raises(UserError, match="unknown scheduler 'heun': one of ddim, pndm, euler, lms, kdpm2"):
        load_editor("tiny-inpaint", scheduler="heun")
    for device in ("quantum", "cuda:77", "meta"):
        with pytest.raises(UserError, match=f"no device '{device}' here: .*cpu"):
            load_editor("tiny-inpaint", device=device)


@pytest.mark.parametrize("asked", [None, "cuda"])
def test_a_gpu_has_its_number(monkeypatch: pytest.MonkeyPatch, asked: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert pick_device(asked) == torch.device("cuda", 3)
    assert pick_device("cuda:1") == torch.device("cuda", 1)


RESPONSE = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (lambda: errors.GatedRepoError("gated", response=RESPONSE), "is gated: accept its licence on .*hf auth login"),
        (lambda: errors.RepositoryNotFoundError("no", response=RESPONSE), "is not on the hub"),
        (lambda: errors.LocalEntryNotFoundError("offline"), "hub cannot be reached: run `hf download"),
        (lambda: errors.RemoteEntryNotFoundError("no", response=RESPONSE), "no model_index.json"),
        (lambda: errors.HfHubHTTPError("server is down", response=RESPONSE), "cannot be read: server is down"),
    ],
)  # fmt: skip
def test_a_missing_model_gives_one_line(error: Callable, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match=line) as caught:
        load_editor("sd-inpaint", device="cpu")
    assert "\n" not in str(caught.value)
    assert "sd-inpaint (stable-diffusion-v1-5/stable-diffusion-inpainting)" in str(caught.value)


def test_a_model_that_is_not_here_offline() -> None:
    with pytest.raises(UserError, match="owner/model is not on this machine and the hub cannot be reached"):
        load_editor("owner/model", device="cpu")


def test_folders_that_are_no_editors(tmp_path: Path, tiny_folder: Folder) -> None:
    with pytest.raises(UserError, match=r"no model_index\.json"):
        load_editor(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UserError, match=f"is a StableDiffusionPipeline: supported are {next(iter(PIPELINES))}"):
        load_editor(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text("not json")
    with pytest.raises(UserError, match="cannot be read"):
        load_editor(tmp_path, device="cpu")


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path, tiny_folder: Folder) -> None:
    folder = shutil.copytree(tiny_folder("sd-inpaint"), tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny.unet(9).state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load_editor(folder, device="cpu")
    assert "\n" not in str(caught.value)


# Memory plans


@pytest.mark.parametrize("name", ["sd-inpaint", "flux-kontext", "flux2-klein", "step1x-edit"])
def test_streamed_weights_change_nothing(tiny_editor: Load, tiny_folder: Folder, name: str) -> None:
    """On a CPU there is nothing to gain, but the machinery is the same."""
    plain, streamed = tiny_editor(name), load_editor(tiny_folder(name), device="cpu", plan="stream")
    assert {p.device.type for p in streamed.denoiser.parameters()} == {"meta"}
    edits = [editor.edit(IMAGES, "snow", mask=hole_for(editor), steps=2) for editor in (plain, streamed)]
    assert torch.allclose(*edits, atol=1e-6)
    gradients = []
    for editor in (plain, streamed):
        images = IMAGES.clone().requires_grad_()
        if editor.in_context:
            value = context_mass(editor, images, "snow", blocks="all single", timestep=0.9, generator=generators(0, 2))
        else:
            value = editor.sample(images, "snow", mask=MASK, steps=2, generator=generators(0, 2))
        gradients.append(torch.autograd.grad(value.sum(), images)[0])
    assert {p.device.type for p in streamed.denoiser.parameters()} == {"meta"}  # also where recomputing ends early
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, atol=1e-6 * gradients[0].abs().max())


@pytest.mark.parametrize("name", ["flux-kontext", "flux2-klein"])
def test_veto_needs_the_first_block_only(tiny_editor: Load, tiny_folder: Folder, name: str) -> None:
    editor = load_editor(tiny_folder(name), device="cpu", plan="first-block")
    assert (len(editor.denoiser.transformer_blocks), len(editor.denoiser.single_transformer_blocks)) == (1, 0)
    knobs = {"steps": 2, "timesteps": 2}
    protected = [METHODS["veto"](e, IMAGES, **knobs) for e in (editor, tiny_editor(name))]
    assert (protected[0] != protected[1]).float().mean() < 0.01  # float32 sums differ in their last bits
    with pytest.raises(UserError, match="no block single"):
        METHODS["decontext"](editor, IMAGES, blocks="single.0", steps=1)
    with pytest.raises(UserError, match=r"only the first block of .* is loaded"):
        editor.edit(IMAGES, "snow", steps=1)


def test_plans_that_are_refused(tiny_folder: Folder) -> None:
    with pytest.raises(UserError, match="unknown plan 'magic': one of whole, stream, int8, first-block"):
        load_editor("tiny-inpaint", plan="magic")
    with pytest.raises(
        UserError, match=r"'first-block' is for FLUX Kontext and klein, and .* is a StableDiffusionInpaintPipeline"
    ):
        load_editor(tiny_folder("sd-inpaint"), device="cpu", plan="first-block")


def test_files_that_are_cut_off_or_missing_are_told_in_one_line(tiny_folder: Folder, tmp_path: Path) -> None:
    """A download that broke off, a tokenizer that is not there."""
    for number, (name, change) in enumerate({
        "unet/diffusion_pytorch_model.safetensors": lambda file: file.write_bytes(file.read_bytes()[:-1000]),
        "vae/diffusion_pytorch_model.safetensors": lambda file: file.write_bytes(file.read_bytes()[:100]),
        "text_encoder/model.safetensors": lambda file: file.write_bytes(b""),
        "unet/config.json": lambda file: file.write_text("{"),
        "vae/config.json": lambda file: file.write_text("[]"),
        "tokenizer": shutil.rmtree,
        "tokenizer/vocab.json": Path.unlink,
        "scheduler/scheduler_config.json": Path.unlink,
        "text_encoder/config.json": lambda file: file.write_text('{"hidden_size": "x"}'),
    }.items()):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(tiny_folder("sd-inpaint"), folder)
        if not (folder / name).exists():
            continue
        change(folder / name)
        with pytest.raises(UserError, match="cannot be loaded: ") as caught:
            load_editor(folder, device="cpu")
        assert "\n" not in str(caught.value), name


def test_editors_are_loaded_in_threads(tiny_folder: Folder) -> None:
    """diffusers switches torch for the whole process while it loads: parameters became meta tensors, for good."""
    folders, failed = [tiny_folder("sd-inpaint"), tiny_folder("instruct-pix2pix")] * 3, []

    def load(folder: Path) -> None:
        try:
            editor = load_editor(folder, device="cpu")
            assert not any(p.is_meta for p in editor.denoiser.parameters())
            load_people(EMBEDDED)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=load, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and not torch.nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize("seed", [2**70, -1, 1.0, True, "3"])
def test_a_seed_that_cannot_be_used_is_refused(tiny_editor: Load, seed: object) -> None:
    editor = tiny_editor("sd-inpaint")
    with pytest.raises(UserError, match=r"seed .*; allowed: a whole number from 0 to"):
        editor.edit(IMAGES, "a red hat", mask=MASK, steps=1, seed=seed)
