"""A diffusers pipeline with gradients: shipped code, run on tensors in [0,1].

Only `__call__` of a pipeline carries `torch.no_grad`, so the function it wraps is the shipped denoising loop with
gradients. It is asked for latents, which are decoded here without the clamp that would stop gradients at white and
black.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from editproof.editors import EDITORS
from editproof.editors.sizes import size_of
from editproof.editors.speed.graphs import Graphs, without_cudnn
from editproof.editors.speed.memory import roomy
from editproof.editors.speed.settled import answers, settled
from editproof.errors import UserError
from editproof.parsing import check_seed
from editproof.photo.given import as_images, as_mask
from editproof.randomness import Generators, generators
from editproof.resolution import working_size
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.editors.prompt_cache import PromptCache

KEPT = 2300  # values that a denoiser's call keeps for the backward pass, for each pixel of a photo
LARGE = 10**9  # parameters of a denoiser from which memory is spared
Reading = dict[str, Tensor]  # what a text encoder has made of prompts: the pipeline's arguments
Prompt = str | Sequence[str] | Reading
# what programs call, of editors of every kind
CALLED = (
    "encode",
    "decode",
    "posterior",
    "tokens",
    "noise_levels",
    "encode_prompt",
    "first_prediction",
    "sample",
    "edit",
)
NO_TOKENS = "{} does not read the photo as tokens: in-context editors do, such as flux-kontext"


class Editor:
    """An image editor: images (B,3,H,W) in [0,1] with sides a multiple of `multiple` go in and come out.

    One prompt serves a whole batch, or one each; or what `encode_prompt` made of them. Every image has a generator of
    its own, so that a result does not depend on its batch but for float32 rounding. Gradients go to images only: the
    weights require none. With n generators for each of B images (first one for every image, then a second one for
    every image, and so on), n draws go through together and the results are (nB,...) in that order: the photos are
    encoded once where masks allow it.
    """

    masked: bool  # True: repaints what a mask allows and needs one; False: edits the whole picture and takes none
    in_context: bool = False  # True: reads the photo as tokens beside those it denoises (see editors/attention.py)
    steps: int = 30  # the defaults of an edit, as the papers edit
    guidance: float = 7.5
    strength: float = 1.0  # of an edit, see `sample`
    single_guidance: float = 1.0  # at which the denoiser is called once a step
    guidance_name: ClassVar[str] = "guidance_scale"  # the pipeline's argument
    noisiest: ClassVar[float] = 1.0  # the timestep for pure noise that a flow-matching denoiser is given
    plan: str = "whole"  # a name in PLANS: where the weights are
    recompute: bool | None = None  # whether edits with a gradient spare memory and take longer; None: if they must
    settings: ClassVar[dict[str, Any]] = {"eta": 1.0}  # used by schedulers that take it (DDIM)
    cudnn: bool = True  # False: never with cuDNN's attention

    def __init__(self, name: str, pipe: Any, dtype: torch.dtype) -> None:
        self.name, self.pipe, self.dtype = name, pipe, dtype
        self.device: torch.device = pipe._execution_device  # where it computes
        self._answers = answers(pipe)
        self.multiple: int = pipe.vae_scale_factor
        self.size: int = self._trained_side()
        self.side: int | None = None  # photos are worked on at its area; None: as the shipped pipeline does
        self.prompt_cache: PromptCache | None = None  # where text encoders are loaded only when they are needed
        self._encoded: dict[str, dict[str, Tensor]] = {}
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        pipe.set_progress_bar_config(disable=True)

    def __init_subclass__(cls) -> None:
        for name in vars(cls).keys() & set(CALLED):
            setattr(cls, name, undisturbed(getattr(cls, name)))

    @property
    def denoiser(self) -> Any:
        """The network that is called at every step."""
        return self.pipe.unet if hasattr(self.pipe, "unet") else self.pipe.transformer

    @property
    def batch(self) -> int:
        """How many photos should go through it together: large models have no room for a second one."""
        return 1 if sum(p.numel() for p in self.denoiser.parameters()) > LARGE else 8

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which a photo of height x width pixels is worked on.

        What the shipped pipeline makes of it (see `editors.attacker_size`), or the area of `side` x `side` pixels.
        """
        if self.side is not None:
            return working_size(height, width, self.side)
        if self.name in EDITORS and EDITORS[self.name].embedded:
            return working_size(height, width, self.size)
        return size_of(type(self.pipe).__name__, height, width, self.size, self.multiple)

    def forget(self) -> None:
        """Give up the GPU memory that is kept for the next gradient (see graphs.py)."""
        parts = [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]
        for kept in (value for part in parts for module in part.modules() for value in vars(module).values()):
            if isinstance(kept, Graphs):
                kept.forget()

    @undisturbed
    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents of images (B,3,H,W), scaled as the denoiser takes them: the mean, no sampling; differentiable.

        With a mask (B,1,H,W), 1 = repaint, an inpainting editor encodes what it is shown: a hole of mid-grey. Other
        editors encode the whole picture.
        """
        config = self.pipe.vae.config
        mean = self.posterior(images, mask).mode()
        return (mean.float() - (config.get("shift_factor") or 0)) * config.scaling_factor

    @property
    def variational(self) -> bool:
        """Whether its autoencoder gives a distribution over latents; a tiny one gives one code."""
        return type(self.pipe.vae).__name__ != "AutoencoderTiny"

    @undisturbed
    def posterior(self, images: Tensor, mask: Tensor | None = None) -> Any:
        """The VAE's distribution over latents, `.mean` and `.logvar` (B,C,h,w), of what `encode` is given."""
        if mask is not None and self.masked:
            images = torch.where(mask.to(images.device) >= 0.5, 0.5, images)
        return self._posterior(2 * images - 1)

    @undisturbed
    def decode(self, latents: Tensor) -> Tensor:
        """Images (B,3,H,W) of scaled latents, float32, about [0,1] but not clamped; differentiable."""
        config = self.pipe.vae.config
        latents = latents.float() / config.scaling_factor + (config.get("shift_factor") or 0)
        return self.pipe.vae.decode(latents.to(self.pipe.vae.dtype), return_dict=False)[0].float() / 2 + 0.5

    def tokens(self, images: Tensor, prompt: Prompt, generator: Generators, timestep: float | Tensor = 1.0) -> Any:
        """What an in-context editor's transformer is given (see editors/kontext.py); UserError for the others."""
        raise UserError(NO_TOKENS.format(self.name))

    def noise_levels(self, images: Tensor, steps: int) -> list[float]:
        """How much of an in-context editor's latents is noise at each of `steps` steps; UserError for the others."""
        raise UserError(NO_TOKENS.format(self.name))

    @undisturbed
    def encode_prompt(self, images: Tensor, prompt: Prompt) -> Reading:
        """What the text encoder makes of a prompt for all of images (B,3,H,W), or one each: usable in a prompt's place.

        Every prompt is encoded once, on its own, and kept.
        """
        if isinstance(prompt, dict):
            return prompt
        prompts = self._one_each(images, prompt)
        if len(self._encoded) > 200:
            self._encoded.clear()
        if self.prompt_cache is not None:
            self.encode_ahead(prompts)
        for text in set(prompts) - set(self._encoded):
            with torch.no_grad():
                self._encoded[text] = self._encode_prompt(text)
        rows = {key: torch.cat([self._encoded[text][key] for text in prompts]) for key in self._encoded[prompts[0]]}
        return {key: value.to(self.device) for key, value in rows.items()}

    def encode_ahead(self, prompts: Sequence[str]) -> None:
        """Encode prompts that are needed later in one go, where that means loading the text encoders."""
        missing = [prompt for prompt in prompts if prompt not in self._encoded]
        if self.prompt_cache is not None and missing:
            self._encoded |= self.prompt_cache(missing, self._encode_prompt)

    @undisturbed
    def first_prediction(
        self, images: Tensor, prompt: Prompt = "", *, mask: Tensor | None = None, steps: int = 4, generator: Generators
    ) -> Tensor:
        """The denoiser's first output for pure noise, at the first of `steps` timesteps, without guidance; float32.

        What an output is depends on the model: the noise, or the velocity (scheduler.config.prediction_type).
        """

        def stop(module: nn.Module, arguments: Any, output: Any) -> None:
            raise _FirstPrediction(output[0])

        hook = self.denoiser.register_forward_hook(stop)
        try:
            self._latents(images, prompt, mask=mask, steps=steps, guidance=self.single_guidance, generator=generator)
        except _FirstPrediction as prediction:
            return self.latents_in(prediction.args[0], images).float()
        finally:
            hook.remove()
        raise RuntimeError(f"{self.name} never called its denoiser")

    def latents_in(self, values: Tensor, images: Tensor) -> Tensor:
        """The edit's latents (B,C,h,w) among what the denoiser is given or gives for images (B,3,H,W).

        Of an inpainting U-Net's input they are the first channels.
        """
        return values

    @undisturbed
    def sample(
        self,
        images: Tensor,
        prompt: Prompt,
        *,
        mask: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        strength: float | None = None,
        eta: float | None = None,
        generator: Generators,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The edited images (B,3,H,W), float32, not clamped; differentiable with respect to `images`.

        mask: `(B,1,H,W)` or `(1,1,H,W)`, 1 = repaint; needed by inpainting editors, refused by the others.
        steps, guidance, strength: the editor's own if None. strength: as diffusers' img2img: 1 starts from pure noise,
        less from the noised photo, with this share of the steps left. eta: how much noise DDIM adds in each step, of
        editors that take it; None: the editor's own. generator: one for each image. callback: called after each
        denoising step with (step from 1, steps).
        """
        steps = self.steps if steps is None else steps
        spare = torch.is_grad_enabled() and self.spares(len(generator), images, steps)
        if spare and isinstance(self.denoiser.forward, Graphs):
            self.denoiser.forward.forget()  # nothing is recorded that is computed anew
        with recomputed(self.denoiser, self.cudnn) if spare else nullcontext():
            latents = self._latents(
                images,
                prompt,
                mask=mask,
                steps=steps,
                guidance=self.guidance if guidance is None else guidance,
                strength=strength,
                eta=eta,
                generator=generator,
                callback=callback,
            )
        if not spare:
            return self.decode(latents)
        rows = [checkpoint(self.decode, row, use_reentrant=False, preserve_rng_state=False) for row in latents.split(1)]
        return torch.cat(rows)

    @undisturbed
    @torch.no_grad()
    def edit(
        self,
        images: Any,
        prompt: Prompt,
        *,
        mask: Any = None,
        steps: int | None = None,
        guidance: float | None = None,
        strength: float | None = None,
        seed: int = 0,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """What an attacker does: edited images (B,3,H,W) in [0,1], float32, where `images` are.

        Steps, guidance and strength are the editor's own if None; see `sample`.
        The kept pixels are the pipeline's own (not pasted back), and a safety checker that ships with the model
        blackens what it objects to. Same seed, same edit, in any batch. Photos and masks in other forms: see
        `editproof.photo.given`.
        """
        check_seed(seed)
        images = as_images(images)
        mask = as_mask(mask, images)
        edited = self.sample(
            images,
            prompt,
            mask=mask,
            steps=steps,
            guidance=guidance,
            strength=strength,
            generator=generators(seed, len(images)),
            callback=callback,
        )
        if getattr(self.pipe, "safety_checker", None) is not None:
            _, flagged = self.pipe.run_safety_checker(2 * edited.to(self.dtype) - 1, self.device, self.dtype)
            edited = torch.where(torch.tensor(flagged, device=edited.device).view(-1, 1, 1, 1), 0.0, edited)
        return edited.clamp(0, 1).to(images.device)

    def spares(self, rows: int, images: Tensor, steps: int) -> bool:
        """Whether a backward pass through so many edits should compute the denoiser's calls, and the decoded photos,
        anew. Large models spare memory in their own way."""
        if self.recompute is not None or self.batch == 1:
            return bool(self.recompute)
        values = 2 * rows * steps * images.shape[-2] * images.shape[-1] * KEPT  # 2: guided and unguided
        return not roomy(self.device, values * self.pipe.vae.dtype.itemsize, own=self.denoiser.forward)

    # What follows is shared by the three calls above; a subclass says in `_inputs` and `_encode_prompt` what differs.

    def _trained_side(self) -> int:
        """The side in pixels of the pictures it was trained on."""
        return self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        """The pipeline's arguments that carry the picture. images in [0,1], on the device."""
        raise NotImplementedError

    def _encode_prompt(self, prompt: Any) -> dict[str, Tensor]:
        """The pipeline's arguments that carry the text, for one prompt, or where `texts` is used for a list of them."""
        raise NotImplementedError

    def _pipeline_attributes(self, alike: int, taken: int, steps: int) -> dict[str, Any]:
        """Attributes that the pipeline has for the time of a call, which makes the last `taken` of `steps` steps.

        alike: the pictures come in so many copies of all of them, of which one needs to be encoded.
        """
        return {}

    def _taken(self, steps: int, strength: float) -> int:
        """How many of `steps` are left for a start from the noised photo: at least one."""
        return steps_taken(steps, strength)

    def _start(self, images: Tensor, taken: int, steps: int, generator: Generators) -> dict[str, Any]:
        """The pipeline's arguments for the last `taken` of `steps` steps, from the photo's noised latents."""
        raise UserError(f"{self.name} always starts from pure noise")

    def _latents(
        self,
        images: Tensor,
        prompt: Prompt,
        *,
        mask: Tensor | None,
        steps: int,
        guidance: float,
        strength: float | None = None,
        eta: float | None = None,
        generator: Generators,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The shipped pipeline from images and prompt to latents."""
        self._check_steps(steps)
        strength = self.strength if strength is None else strength
        if not 0 < strength <= 1:
            raise UserError(f"{self.name} cannot edit at strength {strength:g}; allowed: above 0, at most 1")
        draws = max(1, len(generator) // len(images))
        rows = images.repeat(draws, 1, 1, 1) if draws > 1 else images
        own_masks = mask is not None and len(mask) > len(images)
        self._check(rows if own_masks else images, mask)
        prompt = repeated(prompt, draws)
        images = rows.to(self.device).clamp(0, 1)  # outside, diffusers would take them for [-1,1]
        if mask is not None:
            mask = mask.to(self.device).float()
            mask = mask.repeat(len(images) // len(mask), 1, 1, 1)

        def step_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if callback is not None:
                callback(step + 1, pipe.num_timesteps)
            return tensors

        taken = self._taken(steps, strength)
        reading, inputs = self.encode_prompt(images, prompt), self._inputs(images, mask)
        shipped: Any = type(self.pipe).__call__  # its __wrapped__ is the same without torch.no_grad
        own = self._pipeline_attributes(1 if own_masks else draws, taken, steps)
        settings = self.settings | ({"eta": eta} if eta is not None and "eta" in self.settings else {})
        settings |= {self.guidance_name: guidance}
        with changed(self.pipe, **own), settled(self._answers):
            if taken < steps:
                inputs |= self._start(images, taken, steps, generator)
            output = shipped.__wrapped__(
                self.pipe, **inputs, **reading, num_inference_steps=steps, **settings,
                generator=list(generator), output_type="latent", callback_on_step_end=step_end, return_dict=True,
            )  # fmt: skip
        return output.images

    def _check_steps(self, steps: int) -> None:
        most = self.pipe.scheduler.config.num_train_timesteps
        if not 1 <= steps <= most:
            raise UserError(f"{self.name} cannot denoise in {steps} steps; allowed: a whole number from 1 to {most}")

    def _check(self, images: Tensor, mask: Tensor | None) -> None:
        height, width = images.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise UserError(f"{self.name} needs sides that are multiples of {self.multiple}, not {width}x{height}")
        if self.masked and mask is None:
            raise UserError(f"{self.name} needs a mask: it repaints only what a mask allows")
        if not self.masked and mask is not None:
            raise UserError(f"{self.name} takes no mask: it edits the whole picture")
        if mask is not None and len(mask) not in (1, len(images)):
            raise UserError(f"{len(mask)} masks for {len(images)} pictures: give one, or one each")
        if mask is not None and mask.shape[-2:] != images.shape[-2:]:
            raise UserError(f"the mask is {mask.shape[-1]}x{mask.shape[-2]}, the picture {width}x{height}")

    def _one_each(self, images: Tensor, prompt: str | Sequence[str]) -> list[str]:
        prompts = [prompt] * len(images) if isinstance(prompt, str) else list(prompt)
        if len(prompts) != len(images):
            raise UserError(f"{len(prompts)} prompts for {len(images)} pictures: give one, or one each")
        return prompts

    def _posterior(self, images: Tensor) -> Any:
        """The VAE's distribution over latents for images in [-1,1]; a tiny autoencoder is certain of its own."""
        encoded = self.pipe.vae.encode(images.to(self.device, self.pipe.vae.dtype))
        return encoded.latent_dist if hasattr(encoded, "latent_dist") else Certain(encoded.latents)


class Certain:
    """The distribution of an autoencoder that gives one code: all of it lies on these latents (B,C,h,w)."""

    def __init__(self, latents: Tensor) -> None:
        self.mean, self.std = latents, torch.zeros_like(latents)

    def mode(self) -> Tensor:
        return self.mean


@contextmanager
def changed(thing: Any, **attributes: Any) -> Iterator[None]:
    """An object with other attributes, and as it was afterwards."""
    before = {name: vars(thing).get(name) for name in attributes}
    for name, value in attributes.items():
        setattr(thing, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                delattr(thing, name)
            else:
                setattr(thing, name, value)


def recomputed(network: nn.Module, cudnn: bool = True) -> AbstractContextManager[None]:
    """Keep only a network's inputs for the backward pass, which calls it again."""
    forward = network.forward if cudnn else partial(without_cudnn, network.forward)
    return changed(network, forward=partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False))


def repeated(prompt: Prompt, draws: int) -> Prompt:
    """Prompts one each, or what was made of them, for so many draws of all images."""
    if isinstance(prompt, str) or draws == 1:
        return prompt
    return again(prompt, draws) if isinstance(prompt, dict) else list(prompt) * draws


def again(reading: Reading, draws: int) -> Reading:
    """What was made of prompts, for so many draws of all images."""
    return {name: value.repeat(draws, *(1,) * (value.ndim - 1)) for name, value in reading.items()}


def steps_taken(steps: int, strength: float) -> int:
    """So large a share of steps, rounded down, as most pipelines do; at least one."""
    return max(1, int(steps * strength + 1e-6))


def steps_left(steps: int, strength: float) -> int:
    """So large a share of steps, rounded up, as the pipelines of flow matching do."""
    return max(1, steps - int(steps - steps * strength + 1e-6))


class _FirstPrediction(Exception):
    """Carries the denoiser's first output out of the pipeline."""
