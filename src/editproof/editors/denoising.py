"""How well an editor's denoiser knows a noised photo: the loss that diffusion models are trained with."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editproof.errors import UserError
from editproof.randomness import Generators

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor, Prompt

STEPS = 1000  # of the schedule that levels are taken from


def denoising_loss(
    editor: "Editor",
    images: Tensor,
    prompt: "Prompt" = "",
    *,
    mask: Tensor | None = None,
    strength: float,
    generator: Generators,
) -> Tensor:
    """The mean squared error `(B,)` of the denoiser's first output; differentiable with respect to images.

    The photo's own latents are noised and shown to the denoiser as in an edit of the photo, which an inpainting editor
    sees with its hole and the others whole. What the output is compared with depends on the model: the noise, or the
    velocity.

    Args:
        editor: Any editor; photos go through it one by one.
        images: (B,3,H,W) in [0,1].
        prompt: One for all, or one each, or what `Editor.encode_prompt` has made of them.
        mask: (B,1,H,W), 1 = repaint, of an inpainting editor.
        strength: Where in the schedule: 1 is the noisiest level, 0 none.
        generator: One for each image.
    """
    reading, losses = editor.encode_prompt(images, prompt), []
    for row, own in enumerate(generator):
        one = slice(row, row + 1)
        hole = None if mask is None else mask[one if len(mask) > 1 else slice(None)]
        arguments = {name: value[one] for name, value in reading.items()}
        seen = _first_call(editor, images[one], arguments, hole, strength, own)
        losses.append(_error(editor, images[one], *seen))
    return torch.cat(losses)


class _Seen(Exception):
    """Carries the denoiser's first input, timestep and output out of the pipeline."""


def _first_call(
    editor: "Editor", image: Tensor, reading: Any, mask: Tensor | None, strength: float, own: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    def stop(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        hidden = given[0] if given else named["hidden_states"]
        time = given[1] if len(given) > 1 else named["timestep"]
        raise _Seen(hidden, torch.as_tensor(time), output[0])

    hook = editor.denoiser.register_forward_hook(stop, with_kwargs=True)
    try:
        editor._latents(
            image, reading, mask=mask, steps=STEPS, guidance=editor.single_guidance, strength=strength, generator=[own]
        )
    except _Seen as seen:
        hidden, time, output = seen.args
        return hidden, time, output
    finally:
        hook.remove()
    raise UserError(f"the denoiser of {editor.name} is not called as diffusers' are: its loss cannot be taken")


def _error(editor: "Editor", image: Tensor, hidden: Tensor, time: Tensor, output: Tensor) -> Tensor:
    """The mean squared error (1,) of an output, from the latents that the denoiser was shown."""
    latents = editor.encode(image)
    noised = editor.latents_in(hidden, image)[:, : latents.shape[1]].float()
    predicted, scheduler = editor.latents_in(output, image).float(), editor.pipe.scheduler
    if not hasattr(scheduler, "alphas_cumprod"):  # flow matching: the timestep is the share of noise
        level = time.float().flatten()[0] / editor.noisiest
        return (predicted - (noised - latents) / level).square().flatten(1).mean(1)
    kept = scheduler.alphas_cumprod[int(time.float().round().clamp(max=len(scheduler.alphas_cumprod) - 1))]
    kept = kept.to(latents.device).float()
    noise = (noised - kept.sqrt() * latents) / (1 - kept).sqrt()
    velocity = scheduler.config.prediction_type == "v_prediction"
    wanted = kept.sqrt() * noise - (1 - kept).sqrt() * latents if velocity else noise
    return (predicted - wanted).square().flatten(1).mean(1)
