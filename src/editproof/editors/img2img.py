"""Image-to-image with Stable Diffusion XL and 3 (SDEdit, arXiv 2108.01073): the photo, noised, is denoised anew.

The prompt describes the result. A strength of 1 would start from (nearly) pure noise and forget the photo, so edits and
attacks have the pipelines' own strength unless told otherwise.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from editproof.editors.inpaint import TEXTS, sample_latents
from editproof.editors.pipeline import Editor, Prompt, steps_left
from editproof.editors.speed.graphs import without_cudnn
from editproof.randomness import Generators


class XLImageEditor(Editor):
    """Stable Diffusion XL: the photo keeps its own size."""

    masked = False
    steps, guidance, strength = 50, 5.0, 0.3  # the pipeline's defaults
    settings: ClassVar[dict[str, Any]] = {"eta": 0.0}

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        return {"image": images, "strength": 1.0}

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        return {"strength": (taken + 0.5) / steps}  # the pipeline rounds down

    def _pipeline_attributes(self, alike: int, taken: int, steps: int) -> dict[str, Any]:
        shipped = type(self.pipe).prepare_latents  # given latents, it does not cast its VAE to and fro (see inpaint.py)

        def prepare_latents(image: Tensor, *more: Any) -> Tensor:
            *_, generator, _ = more
            return shipped(self.pipe, sample_latents(self, alike, image, generator), *more)

        return {"prepare_latents": prepare_latents}

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        embeddings = self.pipe.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=True
        )
        return dict(zip(TEXTS, embeddings, strict=True))


class SD3ImageEditor(Editor):
    """Stable Diffusion 3 and 3.5: photos are squashed to a square by default. What it predicts is the velocity."""

    masked, cudnn = False, False
    steps, guidance, strength = 50, 7.0, 0.6  # the pipeline's defaults
    settings: ClassVar[dict[str, Any]] = {}
    noisiest: ClassVar[float] = 1000.0

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        super().__init__(name, pipe, dtype)
        self.multiple *= pipe.patch_size

    def _trained_side(self) -> int:
        return self.pipe.default_sample_size * self.pipe.vae_scale_factor

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        height, width = images.shape[-2:]
        return {"image": images, "height": height, "width": width, "strength": 1.0}

    def _taken(self, steps: int, strength: float) -> int:
        return steps_left(steps, strength)

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        return {"strength": (taken - 0.5) / steps}  # the pipeline rounds up

    def _encode_prompt(self, prompt: str | list[str]) -> dict[str, Tensor]:
        embeddings = self.pipe.encode_prompt(prompt, None, None, device=self.device)
        return dict(zip(TEXTS, embeddings, strict=True))

    def _latents(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        return without_cudnn(super()._latents, images, prompt, **more)
