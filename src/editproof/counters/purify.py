"""Another model paints the photo anew: through the autoencoder only, or with a part of the denoising."""

from typing import TYPE_CHECKING

from torch import Tensor

from editproof.resolution import resize

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor

STEPS = 50  # of a whole edit; the strength says how many of them are taken
INSTRUCTION = "denoise the image"


def vae(images: Tensor, strength: float = 1, *, editor: "Editor", seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] encoded and decoded `strength` times by the editor's autoencoder. Differentiable."""
    height, width = images.shape[-2:]
    small = fitting(images, editor)
    for _ in range(int(strength)):
        small = editor.decode(editor.encode(small.to(editor.device))).clamp(0, 1)
    return resize(small.to(images.device), (height, width)).clamp(0, 1)


def regenerate(images: Tensor, strength: float = 0.2, *, editor: "Editor", seed: int = 0) -> Tensor:
    """Images (B,3,H,W) in [0,1] that an editor paints anew from their latents, noised by `strength` (img2img).

    An editor that follows instructions is told "denoise the image" and sees the photo as well, as in any edit of its.
    An inpainting editor is told nothing and sees no photo but the noised latents: everything is to be repainted.
    """
    height, width = images.shape[-2:]
    small = fitting(images, editor)
    if editor.masked:
        everything = small.new_ones(1, 1, *small.shape[-2:])
        painted = editor.edit(
            small, "", mask=everything, steps=STEPS, guidance=editor.single_guidance, strength=strength, seed=seed
        )
    else:
        painted = editor.edit(small, INSTRUCTION, steps=STEPS, strength=strength, seed=seed)
    return resize(painted, (height, width)).clamp(0, 1)


def fitting(images: Tensor, editor: "Editor") -> Tensor:
    """Images (B,3,H,W) with their sides scaled to the nearest multiples that the editor takes."""
    size = [max(1, round(side / editor.multiple)) * editor.multiple for side in images.shape[-2:]]
    return resize(images, (size[0], size[1])).clamp(0, 1)
