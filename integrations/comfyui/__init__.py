"""A ComfyUI node: protects images on their way to "Save Image". Copy this folder to ComfyUI/custom_nodes/editproof.

ComfyUI's Python needs editproof (`pip install editproof`).
"""

from typing import Any

import torch
from torch import Tensor

from editproof.budgets import Linf
from editproof.protection import protect

CATEGORY = "image/postprocessing"
ROUNDED_DOWN = 0.25  # of a level is added, because ComfyUI's nodes that save cut fractions off instead of rounding


class EditproofProtect:
    """Images (B, H, W, 3) in [0, 1], as ComfyUI has them -> the same, protected; one after the other, each by itself.

    A mask (1 or B, h, w) is 1 where an editor may repaint, ComfyUI's habit, too; without one, everything is protected.
    """

    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)
    DESCRIPTION = "Makes images harder for AI editors to change. Harder, never impossible. Save them as PNG."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        """What the node takes: images, the strength in levels of 255, and perhaps a mask."""
        strength = ("INT", {"default": 8, "min": 1, "max": 32, "tooltip": "4 hardly visible, 8 faint, 16 plain to see"})
        return {"required": {"images": ("IMAGE",), "strength": strength}, "optional": {"mask": ("MASK",)}}

    def run(self, images: Tensor, strength: int, mask: Tensor | None = None) -> tuple[Tensor]:
        """Protect the images."""
        results = []
        for number, image in enumerate(images[..., :3]):
            photo = image.movedim(-1, 0)[None].float().clamp(0, 1)
            results.append(protect(photo, mask=hole_of(mask, number, photo), budget=Linf(strength / 255)))
        levels = (torch.cat(results) * 255).round().movedim(1, -1)
        return (((levels + ROUNDED_DOWN) / 255).clamp(max=1).to(images.device),)


def hole_of(mask: Tensor | None, number: int, photo: Tensor) -> Tensor | None:
    """The mask (1, 1, H, W) of one image (1, 3, H, W) out of ComfyUI's, which may have another size."""
    if mask is None:
        return None
    masks = mask if mask.ndim == 3 else mask[None]
    one = masks[min(number, len(masks) - 1)][None, None].float()
    return (torch.nn.functional.interpolate(one, photo.shape[-2:], mode="nearest") > 0.5).float()


NODE_CLASS_MAPPINGS = {"EditproofProtect": EditproofProtect}
NODE_DISPLAY_NAME_MAPPINGS = {"EditproofProtect": "Protect from AI editing (editproof)"}
