"""FLUX.1 Kontext (arXiv 2506.15742): a transformer that reads the photo as tokens beside those it denoises; no mask."""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from editproof.editors.pipeline import Editor, Prompt
from editproof.randomness import Generators


class Tokens(NamedTuple):
    """What the transformer is given: packed latents (B,N,C), text embeddings and positions (N,3)."""

    target: Tensor  # pure noise, drawn
    context: Tensor  # the photo
    text: Tensor
    pooled: Tensor
    target_ids: Tensor
    context_ids: Tensor


class KontextEditor(Editor):
    """Edits the whole picture at its own size: the pipeline's resizing to about a megapixel is switched off."""

    masked = False
    in_context = True
    steps = 28  # the pipeline's default; 2.5 is the model card's guidance
    guidance = single_guidance = 2.5  # the model embeds its guidance: one call a step, whatever the guidance
    settings: ClassVar[dict[str, Any]] = {"_auto_resize": False}

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        super().__init__(name, pipe, dtype)
        self.multiple *= 2  # latents are packed in 2 x 2

    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents of the whole picture: an editor without a hole ignores the mask."""
        return super().encode(images)

    def first_prediction(
        self, images: Tensor, prompt: Prompt = "", *, mask: Tensor | None = None, steps: int = 4, generator: Generators
    ) -> Tensor:
        """The velocity that the transformer predicts first, as latents, at the editor's guidance; see `Editor`."""
        tokens = super().first_prediction(images, prompt, mask=mask, steps=steps, generator=generator)
        return self._unpack(tokens[:, : tokens.shape[1] // 2], images)  # the rest are the photo's, of the same size

    def tokens(self, images: Tensor, prompt: Prompt, generator: Generators) -> Tokens:
        """The transformer's input for images (B,3,H,W) in [0,1] at the first step; differentiable.

        generator: one for each image, for the noise. Token numbers and positions are the pipeline's own.
        """
        self._check(images, None)
        text = self._text(prompt, len(images))
        embeddings = text["prompt_embeds"]
        target, context, target_ids, context_ids = self.pipe.prepare_latents(
            self.encode(images), len(images), self.denoiser.config.in_channels // 4, *images.shape[-2:],
            embeddings.dtype, self.device, list(generator),
        )  # fmt: skip
        return Tokens(target, context, embeddings, text["pooled_prompt_embeds"], target_ids, context_ids)

    def noise_levels(self, images: Tensor, steps: int) -> list[float]:
        """The share of noise, from 1 down, in the latents at each of `steps` steps of an edit of images (B,3,H,W)."""
        from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
        tokens = images.shape[-2] * images.shape[-1] // self.multiple**2
        mu = calculate_shift(tokens, *(scheduler.config.get(name, value) for name, value in names.items()))
        scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], mu=mu)
        return scheduler.sigmas[:steps].tolist()

    def _trained_side(self) -> int:
        return self.pipe.vae.config.sample_size

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        height, width = images.shape[-2:]
        return {"image": images, "height": height, "width": width, "max_area": height * width}

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        embeddings, pooled, _ = self.pipe.encode_prompt(prompt, device=self.device)
        return {"prompt_embeds": embeddings, "pooled_prompt_embeds": pooled}

    def _latents(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        return self._unpack(super()._latents(images, prompt, **more), images)

    def _unpack(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Latents (B,C,h,w) from their 2 x 2 packing."""
        return self.pipe._unpack_latents(tokens, *images.shape[-2:], self.pipe.vae_scale_factor)
