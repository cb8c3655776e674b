"""Qwen-Image-Edit (arXiv 2508.02324), 2509 and 2511: edits the whole picture by instruction; no mask.

Its language model reads the photo together with the prompt, from which no gradient goes back. The photo's latents also
are tokens beside those of the edit; decontext and veto, which look into that attention, know FLUX's transformers only.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from editproof.editors.kontext import flux_shift, noise_levels
from editproof.editors.one_by_one import OneByOne
from editproof.editors.pipeline import Prompt, Reading
from editproof.editors.speed.graphs import without_cudnn
from editproof.randomness import Generators

NAME = "QwenImageEditPlusPipeline"
PICTURE = "<|image_pad|>"  # stands for each of the tokens that a picture becomes
UNGUIDED = " "  # the model card's negative prompt
READ_AREA = 384 * 384  # of the photo that the language model is shown


class QwenEditor(OneByOne):
    """Edits the whole picture at its own size, one photo after another."""

    masked, cudnn = False, False
    steps, guidance = 40, 4.0  # the model card's settings
    guidance_name: ClassVar[str] = "true_cfg_scale"
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        super().__init__(name, pipe, dtype)
        self.multiple *= 2  # latents are packed in 2 x 2

    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents (B,C,h,w) of images (B,3,H,W), normalised; differentiable. The mask is ignored."""
        mean, deviation = self._statistics(images.device)
        return (self.posterior(images).mode().float() - mean) / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B,3,H,W) of such latents, float32, about [0,1] but not clamped; differentiable."""
        mean, deviation = self._statistics(latents.device)
        latents, vae = latents.float() * deviation + mean, self.pipe.vae
        frames = vae.decoder(vae.post_quant_conv(latents[:, :, None].to(vae.dtype)))  # vae.decode would clamp
        return frames[:, :, 0].float() / 2 + 0.5

    def latents_in(self, values: Tensor, images: Tensor) -> Tensor:
        """The edit's latents among the transformer's tokens: the rest are the photo's, of the same size."""
        tokens = images.shape[-2] * images.shape[-1] // self.multiple**2
        return self.pipe._unpack_latents(values[:, :tokens], *images.shape[-2:], self.pipe.vae_scale_factor)[:, :, 0]

    def encode_prompt(self, images: Tensor, prompt: Prompt) -> Reading:
        """What the language model makes of images (B,3,H,W) in [0,1] with a prompt, and with an empty one.

        Nothing is kept. Shorter texts are padded; masks (B,T) say what is text.
        """
        if isinstance(prompt, dict):
            return prompt
        reading: Reading = {}
        for kind, prompts in (("", self._one_each(images, prompt)), ("negative_", [UNGUIDED] * len(images))):
            rows = [self._read(image, text) for image, text in zip(images, prompts, strict=True)]
            longest = max(len(row) for row in rows)
            reading[f"{kind}prompt_embeds"] = torch.stack([pad(row, (0, 0, 0, longest - len(row))) for row in rows])
            masks = [torch.arange(longest, device=self.device) < len(row) for row in rows]
            reading[f"{kind}prompt_embeds_mask"] = torch.stack(masks).long()
        return reading

    @torch.no_grad()
    def _read(self, image: Tensor, text: str) -> Tensor:
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

        processor, (height, width) = self.pipe.image_processor, image.shape[-2:]
        picture = processor.numpy_to_pil(processor.pt_to_numpy(image[None].float().clamp(0, 1)))[0]
        read_width, read_height = calculate_dimensions(READ_AREA, width / height)
        shown = processor.resize(picture, read_height, read_width)
        return self.pipe.encode_prompt([text], image=[shown], device=self.device)[0][0]

    def _trained_side(self) -> int:
        return self.pipe.default_sample_size * self.pipe.vae_scale_factor

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        scheduler = self.pipe.scheduler
        noise, photo = self.pipe.prepare_latents(
            self.encode(images)[:, :, None], 1, self.pipe.latent_channels, *images.shape[-2:], self.dtype, self.device,
            list(generator),
        )  # fmt: skip
        level = noise_levels(scheduler, steps, flux_shift(scheduler, noise.shape[1]))[steps - taken]
        sigmas = [1 - step / steps for step in range(steps - taken, steps)]
        return {"latents": level * noise + (1 - level) * photo, "sigmas": sigmas}

    def _one(self, image: Tensor, reading: Reading, **more: Any) -> Tensor:
        """The pipeline takes a photo to have a megapixel: the positions are told it as it is."""
        kinds = (
            ("", "negative_") if more["guidance"] > 1 else ("",)
        )  # the pipeline warns of an unguided text without use
        reading = {name: value for kind in kinds for name, value in _cut(reading, kind).items()}
        height, width = (length // self.multiple for length in image.shape[-2:])

        def place(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return given, {**named, "img_shapes": [[(1, height, width)] * 2]}

        hook = self.denoiser.register_forward_pre_hook(place, with_kwargs=True)
        try:
            tokens = without_cudnn(super()._one, image, reading, **more)
        finally:
            hook.remove()
        return self.latents_in(tokens, image)

    def _posterior(self, images: Tensor) -> Any:
        """The VAE takes clips: a picture is one of a single frame."""
        return Frame(super()._posterior(images[:, :, None]))

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.pipe.vae.config
        mean, deviation = (torch.tensor(x, device=device).view(1, -1, 1, 1) for x in
                           (config.latents_mean, config.latents_std))  # fmt: skip
        return mean, deviation


class PromptReader:
    """Qwen2-VL's processor of texts and pictures, which transformers loads only together with torchvision, for clips.

    A call gives the language model's arguments for texts with so many pictures in them.
    """

    def __init__(self, source: str, tokenizer: Any) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.pictures = Qwen2VLImageProcessorPil.from_pretrained(source, subfolder="processor")
        self.tokenizer = tokenizer

    def __call__(self, text: list[str], images: list[Any], **named: Any) -> Any:
        from transformers import BatchFeature

        shown = self.pictures(images=images, return_tensors="pt")
        tokens = iter((shown["image_grid_thw"].prod(1) // self.pictures.merge_size**2).tolist())
        filled = []
        for line in text:
            start, *rest = line.split(PICTURE)
            filled.append(start + "".join(PICTURE * next(tokens) + part for part in rest))
        return BatchFeature({**self.tokenizer(filled, padding=True, return_tensors="pt"), **shown})


class Frame:
    """The distribution over latents (B,C,h,w) of a clip's first frame."""

    def __init__(self, clip: Any) -> None:
        self.mean, self.logvar, self.std = (x[:, :, 0] for x in (clip.mean, clip.logvar, clip.std))

    def mode(self) -> Tensor:
        """The likeliest latents."""
        return self.mean


def _cut(reading: Reading, kind: str) -> Reading:
    """One photo's text (1,T,D) and its mask, without padding."""
    mask = reading[f"{kind}prompt_embeds_mask"]
    length = int(mask.sum())
    return {f"{kind}prompt_embeds": reading[f"{kind}prompt_embeds"][:, :length],
            f"{kind}prompt_embeds_mask": mask[:, :length]}  # fmt: skip
