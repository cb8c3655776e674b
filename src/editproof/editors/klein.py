"""FLUX.2 klein: an in-context editor with normalised latents, whose pipeline takes one photo, as a PIL picture."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from editproof.editors.blocks import Tokens
from editproof.editors.kontext import KontextEditor
from editproof.editors.one_by_one import OneByOne
from editproof.editors.pipeline import Prompt, Reading, again
from editproof.randomness import Generators


class KleinEditor(OneByOne, KontextEditor):
    """Edits the whole picture at its own size."""

    single_guidance = 1.0  # guided and unguided are two calls, so without guidance it is one
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        super().__init__(name, pipe, dtype)
        self.distilled = bool(pipe.config.is_distilled)
        self.steps, self.guidance = (4, 1.0) if self.distilled else (50, 4.0)  # the model cards' settings

    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents (B,C,h,w) of images (B,3,H,W) in 2 x 2 patches, normalised; differentiable. The mask is ignored."""
        return self.pipe._encode_vae_image((2 * images - 1).to(self.device, self.pipe.vae.dtype), None).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B,3,H,W) of such latents, float32, about [0,1] but not clamped; differentiable."""
        mean, deviation = self._statistics(latents)
        latents = self.pipe._unpatchify_latents(latents.float() * deviation + mean)
        return self.pipe.vae.decode(latents.to(self.pipe.vae.dtype), return_dict=False)[0].float() / 2 + 0.5

    def encode_prompt(self, images: Tensor, prompt: Prompt) -> Reading:
        """What the text encoder makes of a prompt, and of an empty one where the model needs that for its guidance."""
        if isinstance(prompt, dict) or self.distilled:
            return super().encode_prompt(images, prompt)
        self.encode_ahead([*self._one_each(images, prompt), ""])
        reading = super().encode_prompt(images, prompt)
        return {**reading, "negative_prompt_embeds": super().encode_prompt(images, "")["prompt_embeds"]}

    def tokens(self, images: Tensor, prompt: Prompt, generator: Generators, timestep: float | Tensor = 1.0) -> Tokens:
        """The transformer's input for images (B,3,H,W) in [0,1] at the first step; see `KontextEditor`."""
        self._check(images, None)
        draws = len(generator) // len(images)
        text = again(self.encode_prompt(images, prompt), draws)["prompt_embeds"]
        photo = self.encode(images).repeat(draws, 1, 1, 1)
        target, target_ids = self._noise(images, text.dtype, generator)
        context_ids = self.pipe._prepare_image_ids([photo[:1]])[0].to(self.device)
        return Tokens(target, self.pipe._pack_latents(photo).to(text.dtype), text, None, target_ids[0], context_ids)

    def _shift(self, tokens: int, steps: int) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(tokens, steps)

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        noise, _ = self._noise(images, self.dtype, generator)
        level = self.noise_levels(images, steps)[steps - taken]
        sigmas = [1 - step / steps for step in range(steps - taken, steps)]
        return {"latents": level * self._unpack(noise, images) + (1 - level) * self.encode(images), "sigmas": sigmas}

    def _noise(self, images: Tensor, dtype: torch.dtype, generator: Generators) -> tuple[Tensor, Tensor]:
        """Packed noise (B,N,C) for an edit of images, and its positions (B,N,4)."""
        channels = self.denoiser.config.in_channels // 4
        return self.pipe.prepare_latents(
            len(generator), channels, *images.shape[-2:], dtype, self.device, list(generator)
        )  # fmt: skip

    def _encode_prompt(self, prompt: str | list[str]) -> dict[str, Tensor]:
        return {"prompt_embeds": self.pipe.encode_prompt(prompt, device=self.device)[0]}

    def _one(self, image: Tensor, reading: Reading, **more: Any) -> Tensor:
        latents = self._tokens(image, reading, **more)
        mean, deviation = self._statistics(latents)
        return (self.pipe._patchify_latents(latents.float()) - mean) / deviation  # the pipeline has undone both

    def _unpack(self, tokens: Tensor, images: Tensor) -> Tensor:
        height, width = (length // self.multiple for length in images.shape[-2:])
        return tokens.mT.unflatten(2, (height, width))

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        bn = self.pipe.vae.bn
        mean, variance = (x.to(latents.device).float().view(1, -1, 1, 1) for x in (bn.running_mean, bn.running_var))
        return mean, (variance + self.pipe.vae.config.batch_norm_eps).sqrt()
