"""Inpainting with Stable Diffusion 1, 2 and XL: the editor sees the photo with a mid-grey hole."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from editproof.editors.pipeline import Editor
from editproof.randomness import Generators

TEXTS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class InpaintEditor(Editor):
    """Repaints the pixels where the mask is 1. Starts from pure noise by default, whatever the pipeline's default."""

    masked = True

    def _pipeline_attributes(self, alike: int, taken: int, steps: int) -> dict[str, Any]:
        # The pipelines encode one photo after another, and all copies of each. And XL's VAE overflows in half
        # precision: its pipeline casts it to and fro, over which a backward pass would trip, so it stays in float32.
        return {"_encode_vae_image": partial(sample_latents, self, alike)}

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        height, width = images.shape[-2:]
        return {"image": images, "mask_image": mask, "height": height, "width": width, "strength": 1.0}

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        return {"strength": (taken + 0.5) / steps}  # the pipeline rounds down

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        embeddings = self.pipe.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=True
        )
        return dict(zip(TEXTS, embeddings, strict=False))  # two for Stable Diffusion, four for XL


def sample_latents(editor: Editor, alike: int, image: Tensor, generator: list[torch.Generator]) -> Tensor:
    """Latents of images (B,3,H,W) in [-1,1], scaled, drawn from the VAE's distribution with a generator each.

    alike: the images come in so many copies of all of them, of which one is encoded.
    """
    posterior, config = editor._posterior(image[: len(image) // alike]), editor.pipe.vae.config
    mean, std = (x.repeat(alike, 1, 1, 1) for x in (posterior.mean, posterior.std))
    noise = torch.cat([_normal(mean[:1], g) for g in generator])
    return ((mean + std * noise - (config.get("shift_factor") or 0)) * config.scaling_factor).to(image.dtype)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
