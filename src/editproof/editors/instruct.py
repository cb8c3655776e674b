"""InstructPix2Pix (arXiv 2211.09800): edits the whole picture as the prompt says; no mask."""

from typing import Any

from torch import Tensor

from editproof.editors.pipeline import Editor


class InstructEditor(Editor):
    """Edits the whole picture. Image guidance is the pipeline's default (1.5)."""

    masked = False

    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents of the whole picture: an editor without a hole ignores the mask."""
        return super().encode(images)

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        return {"image": images}

    def _encode_prompt(self, prompt: str) -> dict[str, Tensor]:
        # The pipeline's own encode_prompt stacks text, empty, empty.
        text, empty, _ = self.pipe._encode_prompt(prompt, self.device, 1, True).chunk(3)
        return {"prompt_embeds": text, "negative_prompt_embeds": empty}
