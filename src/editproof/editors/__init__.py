"""The editors photos are protected against: what is known of them, and loading one. Imports no torch or diffusers."""

import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editproof.building import ONE_AT_A_TIME
from editproof.editors.hub import model_index
from editproof.errors import UserError
from editproof.plugins import add_plugins
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    import torch

    from editproof.editors.pipeline import Editor

# diffusers imports torchao where it is installed, which then warns of its own insides at each start
for library in ("torchao", "torch.utils._pytree"):
    logging.getLogger(library).setLevel(logging.ERROR)


@dataclass(frozen=True)
class EditorInfo:
    """What is known of an editor before it is loaded; `size` is the side in pixels it was trained for.

    Numbers of weights are in millions; safety checkers are not counted.
    """

    name: str
    kind: str  # "inpaint": repaints what a mask allows; "instruct": changes the whole picture as the prompt says;
    # "kontext": likewise, and the photo is read as tokens, through attention; "img2img": redraws the photo as the
    # prompt describes the result
    source: str  # a folder in editproof/assets (if embedded) or a hub id
    licence: str
    size: int
    masked: bool
    note: str
    embedded: bool = False
    in_parts: str = ""  # the version, if it is published as single files (step1x/parts.py)
    weights: int = 0  # of all parts that stay in memory: not of the text encoders of FLUX editors (see prompt_cache.py)
    largest: int = 0  # of the largest layer: what the plan "stream" has on the device at once
    first_block: int = 0  # of what the plan "first-block" has there; 0: there is no such plan
    pipeline: str = ""  # a name in PIPELINES
    variational: bool = True  # whether its autoencoder gives a distribution over latents

    @property
    def in_context(self) -> bool:
        """Whether it reads the photo as tokens, through attention."""
        return self.kind == "kontext"


EDITORS: dict[str, EditorInfo] = {
    info.name: info
    for info in (
        EditorInfo("tiny-inpaint", "inpaint", "tiny-inpaint", "MIT", 256, True,
                   "embedded: a small inpainter near Stable Diffusion 1's latent space, trained for editproof",
                   embedded=True, weights=13, largest=1, variational=False,
                   pipeline="StableDiffusionInpaintPipeline"),
        EditorInfo("tiny-kontext", "kontext", "tiny-kontext", "MIT", 256, False,
                   "embedded: a small FLUX Kontext trained for editproof, edits the whole picture by instruction",
                   embedded=True, weights=21, largest=2, first_block=5, pipeline="FluxKontextPipeline"),
        EditorInfo("sd-inpaint", "inpaint", "stable-diffusion-v1-5/stable-diffusion-inpainting",
                   "CreativeML OpenRAIL-M", 512, True, "Stable Diffusion 1.5 inpainting", weights=1067, largest=38,
                   pipeline="StableDiffusionInpaintPipeline"),
        EditorInfo("sd2-inpaint", "inpaint", "sd2-community/stable-diffusion-2-inpainting", "CreativeML OpenRAIL++-M",
                   512, True, "Stable Diffusion 2 inpainting", weights=1290, largest=51,
                   pipeline="StableDiffusionInpaintPipeline"),
        EditorInfo("sdxl-inpaint", "inpaint", "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
                   "CreativeML OpenRAIL++-M", 1024, True, "Stable Diffusion XL inpainting", weights=3469, largest=63,
                   pipeline="StableDiffusionXLInpaintPipeline"),
        EditorInfo("flux-fill", "inpaint", "black-forest-labs/FLUX.1-Fill-dev", "FLUX.1-dev Non-Commercial", 1024, True,
                   "FLUX.1 Fill inpainting", weights=11987, largest=132, pipeline="FluxFillPipeline"),
        EditorInfo("instruct-pix2pix", "instruct", "timbrooks/instruct-pix2pix", "MIT", 512, False,
                   "InstructPix2Pix: edits the whole picture by instruction, takes no mask", weights=1067, largest=38,
                   pipeline="StableDiffusionInstructPix2PixPipeline"),
        EditorInfo("sdxl-img2img", "img2img", "stabilityai/stable-diffusion-xl-base-1.0",
                   "CreativeML OpenRAIL++-M", 1024, False,
                   "Stable Diffusion XL image-to-image: redraws the whole picture, takes no mask", weights=3469,
                   largest=63, pipeline="StableDiffusionXLImg2ImgPipeline"),
        EditorInfo("sd3-img2img", "img2img", "stabilityai/stable-diffusion-3.5-medium", "Stability AI Community", 1024,
                   False, "Stable Diffusion 3.5 medium image-to-image: redraws the whole picture, takes no mask",
                   weights=2327, largest=132, pipeline="StableDiffusion3Img2ImgPipeline"),
        EditorInfo("flux-kontext", "kontext", "black-forest-labs/FLUX.1-Kontext-dev", "FLUX.1-dev Non-Commercial", 1024,
                   False, "FLUX.1 Kontext: edits the whole picture by instruction, takes no mask", weights=11985,
                   largest=132, first_block=488, pipeline="FluxKontextPipeline"),
        EditorInfo("flux2-klein", "kontext", "black-forest-labs/FLUX.2-klein-4B", "Apache-2.0", 1024, False,
                   "FLUX.2 klein 4B: edits the whole picture by instruction, takes no mask", weights=3960, largest=389,
                   first_block=524, pipeline="Flux2KleinPipeline"),
        EditorInfo("qwen-edit", "instruct", "Qwen/Qwen-Image-Edit-2511", "Apache-2.0", 1024, False,
                   "Qwen-Image-Edit: edits the whole picture by instruction, takes no mask", weights=28849, largest=545,
                   pipeline="QwenImageEditPlusPipeline"),
        EditorInfo("step1x-edit", "kontext", "stepfun-ai/Step1X-Edit", "Apache-2.0", 512, False,
                   "Step1X-Edit: edits the whole picture by instruction, takes no mask", in_parts="v1.1",
                   weights=20830, largest=545, pipeline="Step1XPipeline"),
        EditorInfo("step1x-edit-v1.0", "kontext", "stepfun-ai/Step1X-Edit", "Apache-2.0", 512, False,
                   "Step1X-Edit's first version", in_parts="v1.0", weights=20830, largest=545,
                   pipeline="Step1XPipeline"),
    )
}  # fmt: skip
add_plugins("editproof.editors", EDITORS, EditorInfo)

# The diffusers pipelines that can be differentiated here, and the Editor for each.
PIPELINES = {
    "StableDiffusionInpaintPipeline": ("editproof.editors.inpaint", "InpaintEditor"),
    "StableDiffusionXLInpaintPipeline": ("editproof.editors.inpaint", "InpaintEditor"),
    "FluxFillPipeline": ("editproof.editors.fill", "FillEditor"),
    "StableDiffusionInstructPix2PixPipeline": ("editproof.editors.instruct", "InstructEditor"),
    "StableDiffusionXLImg2ImgPipeline": ("editproof.editors.img2img", "XLImageEditor"),
    "StableDiffusion3Img2ImgPipeline": ("editproof.editors.img2img", "SD3ImageEditor"),
    "FluxKontextPipeline": ("editproof.editors.kontext", "KontextEditor"),
    "Flux2KleinPipeline": ("editproof.editors.klein", "KleinEditor"),
    "QwenImageEditPlusPipeline": ("editproof.editors.qwen", "QwenEditor"),
    "Step1XPipeline": ("editproof.editors.kontext", "Step1XEditor"),
}
# What edits photos with models that are published to make pictures of text.
OF_TEXT = {
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusion3Pipeline": "StableDiffusion3Img2ImgPipeline",
}
OWN_PIPELINES = {"Step1XPipeline": "editproof.editors.step1x.pipeline"}  # where, if not in diffusers

# The samplers that can be chosen: diffusers' class, and what Stable Diffusion sets where the class has another default.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
}

# Where the weights are while an editor works.
PLANS = {
    "whole": "everything on the device",
    "stream": "in CPU memory, each layer on the device while it computes",
    "int8": "everything on the device, matrices of the largest parts as whole numbers of 8 bits",
    "first-block": "of a FLUX editor, what VETO needs: VAE, embedders and the first block",
}
FIRST_BLOCK, INT8 = "first-block", "int8"


@undisturbed
def load_editor(
    name: str | Path,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    scheduler: str | None = None,
    plan: str | None = None,
    record: bool = True,
    size: int | None = None,
    *,
    compile: bool | None = None,
) -> "Editor":
    """The editor of this name (see EDITORS), hub id (`owner/model`) or local folder in diffusers' layout.

    Only safetensors weights are loaded and no code from the hub is run.

    Args:
        name: See above.
        device: None: cuda, else mps, else cpu.
        dtype: None: float32 for embedded editors and off CUDA, else bfloat16 (float16 where the GPU has none).
        scheduler: A name in SCHEDULERS; None leaves the one the model came with.
        plan: A name in PLANS; None is whole, or stream where the weights would fill three quarters of a GPU.
        record: Whether a GPU records the kernels of gradients, which takes some seconds at first; a pipeline that is
            changed afterwards (LoRA, other processors) needs False.
        size: Photos are worked on at the area of size x size pixels; None: at what the shipped pipeline makes of them,
            see `attacker_size`.
        compile: An older name of record.

    Returns:
        The editor, ready to edit and to be differentiated.

    Raises:
        UserError: A line that says what to do.
    """
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise UserError(f"unknown scheduler {scheduler!r}: one of {', '.join(SCHEDULERS)}")
    check_plan(plan, first_block=True)
    check_size(size)
    info, source = EDITORS.get(str(name)), str(name)
    if info is not None:
        source = str(files("editproof") / "assets" / info.source) if info.embedded else info.source
    folder, chosen_device = _is_folder(source, name), pick_device(device)
    try:
        with ONE_AT_A_TIME:
            from editproof.editors import loading
    except ImportError as error:
        raise UserError(f"editor {name} needs {error.name}: pip install diffusers transformers accelerate") from None
    embedded, version = (info.embedded, info.in_parts) if info is not None else (False, "")
    origin = loading.Origin(str(name), source, folder, embedded, version)
    record = record if compile is None else compile
    with ONE_AT_A_TIME:
        editor = loading.load(origin, chosen_device, dtype, scheduler, plan, record, size)
    if info is not None and embedded:
        editor.size = info.size
    return editor


def attacker_size(name: str | Path, height: int, width: int) -> tuple[int, int]:
    """(height, width) in pixels at which an editor sees a photo of height x width, if nobody tells it otherwise.

    That is what the shipped pipeline does by default (editors/sizes.py). name: as `load_editor` takes it. Of hub ids
    and folders the class of the pipeline decides, and for inpainting the side in its config; weights are not loaded.
    The embedded editors, which editproof alone runs, keep the aspect ratio. Raises UserError.
    """
    from editproof.editors import sizes

    for what, value in (("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{what} is {value!r}; allowed: a whole number of pixels above 0")
    info = EDITORS.get(str(name))
    if info is not None and info.embedded:
        return sizes.kept(height, width, info.size, sizes.RULES[info.pipeline][1])
    if info is not None:
        return sizes.size_of(info.pipeline, height, width, info.size)
    source = str(name)
    folder = _is_folder(source, name)
    class_name = supported(model_index(source, source, folder), source)
    return sizes.size_of(class_name, height, width, *sizes.side_and_multiple(class_name, source, source, folder))


def check_size(size: int | None) -> None:
    """UserError for a side in pixels that no editor can work at; None is allowed."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 8192):
        raise UserError(f"size is {size!r}; allowed: a whole number of pixels from 16 to 8192")


def on_disk(info: EditorInfo) -> bool:
    """Whether an editor can be loaded without network: its files ship with the package or lie in the hub's cache."""
    if info.embedded:
        return (files("editproof") / "assets" / info.source / "model_index.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    weights = ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
               "transformer/diffusion_pytorch_model.safetensors",
               "transformer/diffusion_pytorch_model.safetensors.index.json")  # fmt: skip
    if info.in_parts:
        from editproof.editors.step1x.parts import QWEN, TRANSFORMERS, VAE

        parts = [(info.source, TRANSFORMERS[info.in_parts]), (info.source, VAE), (QWEN, "config.json")]
        return all(isinstance(try_to_load_from_cache(*part), str) for part in parts)
    found = [try_to_load_from_cache(info.source, "model_index.json")]
    found += [next(filter(None, (try_to_load_from_cache(info.source, file) for file in weights)), None)]
    return all(isinstance(path, str) for path in found)


def check_plan(plan: str | None, what: str = "an edit", first_block: bool = False) -> None:
    """UserError for a plan that is not in PLANS, or loads too little for `what` unless a first block is enough."""
    if plan is not None and plan not in PLANS:
        raise UserError(f"unknown plan {plan!r}: one of {', '.join(PLANS)}")
    if plan == FIRST_BLOCK and not first_block:
        others = ", ".join(name for name in PLANS if name != plan)
        raise UserError(f"plan {plan!r} loads what veto needs, too little for {what}; allowed: {others}")


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device asked for, or the best there is: cuda, else mps, else cpu. UserError if it is not on this machine.

    A GPU always with its number: some of PyTorch's questions about memory want one.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        device = next(kind for kind, available in there.items() if available)
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or not there.get(chosen.type) or (chosen.index or 0) >= max(torch.cuda.device_count(), 1):
        raise UserError(f"no device {str(device)!r} here: {', '.join(kind for kind in there if there[kind])}")
    return torch.device("cuda", torch.cuda.current_device()) if chosen == torch.device("cuda") else chosen


def _is_folder(source: str, name: str | Path) -> bool:
    """Whether an editor is a folder here; a hub id otherwise, or a UserError."""
    if Path(source).is_dir():
        return True
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(f"unknown editor {name!r}: one of {', '.join(EDITORS)}, a hub id owner/model, or a folder")
    return False


def supported(index: dict[str, Any], label: str) -> str:
    """The class of the pipeline that edits with the model of a model_index.json, or a UserError."""
    named = index.get("_class_name")
    class_name = OF_TEXT.get(str(named), named)
    if class_name not in PIPELINES:
        raise UserError(f"editor {label} is a {named}: supported are {', '.join((*PIPELINES, *OF_TEXT))}")
    return str(class_name)
