"""InstructPix2Pix (arXiv 2211.09800): edits the whole picture as the prompt says; no mask."""

import copy
from typing import Any

from torch import Tensor

from editproof.editors.pipeline import Editor
from editproof.randomness import Generators, randn


class InstructEditor(Editor):
    """Edits the whole picture. Image guidance is the pipeline's default (1.5)."""

    masked = False

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        return {"image": images}

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(steps, device=self.device)
        latents = self.encode(images)
        noise = randn(latents.shape[1:], generator, latents.device)
        noised = scheduler.add_noise(latents, noise, scheduler.timesteps[:1].expand(len(images)))
        return {"latents": (noised / scheduler.init_noise_sigma).to(self.dtype)}

    def _pipeline_attributes(self, alike: int, taken: int, steps: int) -> dict[str, Any]:
        return {"scheduler": late_scheduler(self.pipe.scheduler, steps, taken)} if taken < steps else {}

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        # The pipeline's own encode_prompt stacks text, empty, empty.
        text, empty, _ = self.pipe._encode_prompt(prompt, self.device, 1, True).chunk(3)
        return {"prompt_embeds": text, "negative_prompt_embeds": empty}


def late_scheduler(scheduler: Any, steps: int, taken: int) -> Any:
    """A scheduler that leaves out all but the last `taken` of `steps`, as diffusers' img2img pipelines have it do."""
    late = copy.deepcopy(scheduler)
    skipped = (steps - taken) * late.order

    def set_timesteps(*arguments: Any, **more: Any) -> None:
        type(late).set_timesteps(late, *arguments, **more)
        late.timesteps = late.timesteps[skipped:]
        if hasattr(late, "set_begin_index"):
            late.set_begin_index(skipped)

    late.set_timesteps = set_timesteps
    return late
