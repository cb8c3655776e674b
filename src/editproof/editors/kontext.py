"""In-context editors: transformers that read the photo as tokens beside those they denoise. They take no mask.

FLUX.1 Kontext (arXiv 2506.15742) and Step1X-Edit (arXiv 2504.17761); FLUX.2 klein is in klein.py.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from editproof.editors import EDITORS
from editproof.editors.blocks import Tokens
from editproof.editors.pipeline import Editor, Prompt, Reading, again
from editproof.editors.speed.graphs import without_cudnn
from editproof.errors import UserError
from editproof.randomness import Generators, generators, sent


class KontextEditor(Editor):
    """Edits the whole picture at its own size: the pipeline's resizing to about a megapixel is switched off."""

    masked = False
    in_context, cudnn = True, False
    steps = 28  # the pipeline's default; 2.5 is the model card's guidance
    guidance = single_guidance = 2.5  # the model embeds its guidance: one call a step, whatever the guidance
    settings: ClassVar[dict[str, Any]] = {"_auto_resize": False}

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        super().__init__(name, pipe, dtype)
        self.multiple *= 2  # latents are packed in 2 x 2
        self._known_ids: tuple[Any, tuple[Tensor, Tensor]] | None = None

    def latents_in(self, values: Tensor, images: Tensor) -> Tensor:
        """The edit's latents among the transformer's tokens: the rest are the photo's, of the same size."""
        return self._unpack(values[:, : values.shape[1] // 2], images)

    def tokens(self, images: Tensor, prompt: Prompt, generator: Generators, timestep: float | Tensor = 1.0) -> Tokens:
        """The transformer's input for images (B,3,H,W) in [0,1] at the first step; differentiable.

        generator: for the noise, one for each image, or n (see `Editor`). timestep: in [0,1], where text tokens depend
        on it. Token numbers and positions are the pipeline's own.
        """
        self._check(images, None)
        draws = len(generator) // len(images)
        text, pooled = self._text_tokens(again(self.encode_prompt(images, prompt), draws), timestep)
        photo = self.encode(images).repeat(draws, 1, 1, 1)
        one = (1, *photo.shape[1:])
        noise = [torch.randn(one, generator=g, device=g.device, dtype=text.dtype) for g in generator]
        target, context = (
            self.pipe._pack_latents(x, *photo.shape)
            for x in (sent(torch.cat(noise), self.device), photo.to(text.dtype))
        )
        return Tokens(target, context, text, pooled, *self._ids(images, text.dtype))

    def _ids(self, images: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The pipeline's positions of target and context tokens, kept for the next photos of the same size."""
        size, known = (*images.shape[-2:], dtype), self._known_ids
        if known is None or known[0] != size:
            with torch.no_grad():
                photo = self.encode(images[:1])
            known = self._known_ids = size, self.pipe.prepare_latents(
                photo, 1, photo.shape[1], *images.shape[-2:], dtype, self.device, generators(0, 1)
            )[2:]  # fmt: skip
        return known[1]

    def _text_tokens(self, reading: Reading, timestep: float | Tensor) -> tuple[Tensor, Tensor | None]:
        return reading["prompt_embeds"], reading["pooled_prompt_embeds"]

    def noise_levels(self, images: Tensor, steps: int) -> list[float]:
        """The share of noise, from 1 down, in the latents at each of `steps` steps of an edit of images (B,3,H,W)."""
        tokens = images.shape[-2] * images.shape[-1] // self.multiple**2
        return noise_levels(self.pipe.scheduler, steps, self._shift(tokens, steps))

    def _shift(self, tokens: int, steps: int) -> float:
        """How far the schedule is shifted towards noise for so many target tokens."""
        return flux_shift(self.pipe.scheduler, tokens)

    def _trained_side(self) -> int:
        return self.pipe.vae.config.get("sample_size") or EDITORS["flux-kontext"].size  # tiny autoencoders do not say

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        height, width = images.shape[-2:]
        return {"image": images, "height": height, "width": width, "max_area": height * width}

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        noise, photo = self.pipe.prepare_latents(
            self.encode(images), len(images), self.pipe.vae.config.latent_channels, *images.shape[-2:], self.dtype,
            self.device, list(generator),
        )[:2]  # fmt: skip
        level = self.noise_levels(images, steps)[steps - taken]
        sigmas = [1 - step / steps for step in range(steps - taken, steps)]
        return {"latents": level * noise + (1 - level) * photo, "sigmas": sigmas}

    def _encode_prompt(self, prompt: str | list[str]) -> dict[str, Tensor]:
        return flux_texts(self.pipe, prompt, self.device)

    def _check_steps(self, steps: int) -> None:
        if len(self.denoiser.single_transformer_blocks) == 0:
            raise UserError(f"only the first block of {self.name} is loaded, with which it cannot edit")
        super()._check_steps(steps)

    def _tokens(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        """Latents as the pipeline returns them."""
        return without_cudnn(super()._latents, images, prompt, **more)

    def _latents(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        return self._unpack(self._tokens(images, prompt, **more), images)

    def _unpack(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Latents (B,C,h,w) from their 2 x 2 packing."""
        return self.pipe._unpack_latents(tokens, *images.shape[-2:], self.pipe.vae_scale_factor)


def noise_levels(scheduler: Any, steps: int, shift: float) -> list[float]:
    """The share of noise at each of so many steps of a flow-matching scheduler, from 1 down."""
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], mu=shift)
    return own.sigmas[:steps].tolist()


def flux_shift(scheduler: Any, tokens: int) -> float:
    """How far FLUX.1's and Qwen-Image's pipelines shift a schedule towards noise for so many target tokens."""
    from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

    names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
    return calculate_shift(tokens, *(scheduler.config.get(name, value) for name, value in names.items()))


def flux_texts(pipe: Any, prompt: str | list[str], device: torch.device) -> dict[str, Tensor]:
    """What the text encoders of a FLUX.1 pipeline make of prompts: its arguments."""
    tokens = min(512, pipe.tokenizer_2.model_max_length)  # 512 is FLUX's; tiny-kontext's says 64, for speed
    embeddings, pooled, _ = pipe.encode_prompt(prompt, device=device, max_sequence_length=tokens)
    return {"prompt_embeds": embeddings, "pooled_prompt_embeds": pooled}


class Step1XEditor(KontextEditor):
    """Step1X-Edit: its language model reads the photo together with the prompt, from which no gradient goes back."""

    guidance = 6.0
    single_guidance = 1.0  # guided and unguided are two calls, so without guidance it is one
    settings: ClassVar[dict[str, Any]] = {}

    @property
    def denoiser(self) -> Any:
        return self.pipe.transformer.flux

    def encode_prompt(self, images: Tensor, prompt: Prompt) -> Reading:
        """What the language model makes of images (B,3,H,W) in [0,1] with a prompt; nothing is kept."""
        if isinstance(prompt, dict):
            return prompt
        hidden, mask = self.pipe.read(images, self._one_each(images, prompt))
        return {"llm_hidden": hidden, "llm_mask": mask}

    def _text_tokens(self, reading: Reading, timestep: float | Tensor) -> tuple[Tensor, Tensor]:
        hidden = reading["llm_hidden"]
        times = torch.as_tensor(timestep, device=hidden.device, dtype=hidden.dtype).expand(len(hidden))
        return self.pipe.transformer.connector(hidden, times, reading["llm_mask"])

    def _trained_side(self) -> int:
        return self.pipe.config.side

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        return {"image": images}
