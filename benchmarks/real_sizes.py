"""Editors of the published sizes with random weights, made on the device: nothing is downloaded."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from editproof.editors.inpaint import InpaintEditor
from editproof.editors.kontext import KontextEditor
from editproof.editors.pipeline import Editor
from editproof.editors.speed.placement import place

KL = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
VAE = {**KL, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
SD_VAE = {**VAE, "latent_channels": 4, "sample_size": 512}
FLUX_VAE = {
    **VAE, "latent_channels": 16, "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
UNET = {"sample_size": 64, "in_channels": 9, "out_channels": 4, "cross_attention_dim": 768}  # the rest: the defaults
FLUX = {"guidance_embeds": True}  # the rest: FluxTransformer2DModel's defaults
TINY = {
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "sample_size": 64},
    "unet": {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 16,
             "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 2,
             "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "norm_num_groups": 4},
    "flux": {"num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
             "joint_attention_dim": 32, "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6)},
}  # fmt: skip


class RandomInpaint(InpaintEditor):
    """Prompts have random embeddings of CLIP's shape."""

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        shape = (1, 77, self.denoiser.config.cross_attention_dim)
        pair = torch.randn(2, *shape, device=self.device, dtype=self.dtype)
        return {"prompt_embeds": pair[0], "negative_prompt_embeds": pair[1]}


class RandomKontext(KontextEditor):
    """Prompts have random embeddings of the shapes that T5 and CLIP give."""

    def _encode_prompt(self, prompt: str | list[str]) -> dict[str, Tensor]:
        config, shape = self.denoiser.config, {"device": self.device, "dtype": self.dtype}
        return {
            "prompt_embeds": torch.randn(1, 512, config.joint_attention_dim, **shape),
            "pooled_prompt_embeds": torch.randn(1, config.pooled_projection_dim, **shape),
        }


def random_model(kind: type[Any], config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A model with small random weights, each layer's from the same million numbers."""
    with torch.device("meta"):
        model = kind(**config).to(dtype)
    model.to_empty(device=device).requires_grad_(False)
    numbers = 0.02 * torch.randn(2**20, dtype=dtype, device=device)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            nn.init.ones_(parameter)  # of norms
        else:
            for part in parameter.view(-1).split(len(numbers)):
                part.copy_(numbers[: len(part)])
    return model


def sd_inpaint(device: torch.device, dtype: torch.dtype, tiny: bool) -> Editor:
    """Stable Diffusion 1.5 inpainting: 860 million weights in the denoiser."""
    parts = {
        "vae": random_model(AutoencoderKL, SD_VAE | (TINY["vae"] if tiny else {}), device, dtype),
        "unet": random_model(UNet2DConditionModel, UNET | (TINY["unet"] if tiny else {}), device, dtype),
        "scheduler": DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
    }  # fmt: skip
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionInpaintPipeline(**parts, **absent, requires_safety_checker=False)
    place(pipe, "whole", device)
    return RandomInpaint("sd-inpaint", pipe, dtype)


def flux_kontext(device: torch.device, dtype: torch.dtype, tiny: bool, plan: str = "whole") -> Editor:
    """FLUX.1 Kontext: 12 billion weights in the transformer, of which the plan first-block has one block."""
    config = FLUX | (TINY["flux"] if tiny else {})
    if plan == "first-block":
        config |= {"num_layers": 1, "num_single_layers": 0}
    made = torch.device("cpu") if plan == "stream" else device  # whose weights need not fit the GPU
    pipe = FluxKontextPipeline(
        vae=random_model(AutoencoderKL, FLUX_VAE | (TINY["vae"] if tiny else {}), made, dtype),
        transformer=random_model(FluxTransformer2DModel, config, made, dtype),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        **dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")),
    )
    place(pipe, plan, device)
    editor = RandomKontext("flux-kontext", pipe, dtype)
    editor.plan = plan
    return editor
