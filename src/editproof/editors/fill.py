"""FLUX.1 Fill: inpainting by a transformer that reads the masked photo in the channels of its tokens."""

from typing import Any, ClassVar

from torch import Tensor

from editproof.editors.inpaint import InpaintEditor
from editproof.editors.kontext import flux_texts
from editproof.editors.pipeline import Prompt, steps_left
from editproof.editors.speed.graphs import without_cudnn
from editproof.randomness import Generators


class FillEditor(InpaintEditor):
    """Repaints the pixels where the mask is 1, from pure noise by default. What it predicts is the velocity."""

    cudnn = False
    steps = 50  # the model card's settings
    guidance = single_guidance = 30.0  # the model embeds its guidance: one call a step, whatever the guidance
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str, pipe: Any, dtype: Any) -> None:
        super().__init__(name, pipe, dtype)
        self.multiple *= 2  # latents are packed in 2 x 2

    def latents_in(self, values: Tensor, images: Tensor) -> Tensor:
        """The edit's latents: the first channels of each token, before the masked photo's and the mask's."""
        channels = 4 * self.pipe.vae.config.latent_channels
        return self.pipe._unpack_latents(values[..., :channels], *images.shape[-2:], self.pipe.vae_scale_factor)

    def _trained_side(self) -> int:
        return self.pipe.default_sample_size * self.pipe.vae_scale_factor

    def _taken(self, steps: int, strength: float) -> int:
        return steps_left(steps, strength)

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        return {"strength": (taken - 0.5) / steps}  # the pipeline rounds up

    def _encode_prompt(self, prompt: str | list[str]) -> dict[str, Tensor]:
        return flux_texts(self.pipe, prompt, self.device)

    def _latents(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        return self.latents_in(without_cudnn(super()._latents, images, prompt, **more), images)
