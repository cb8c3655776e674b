"""Step1X-Edit (arXiv 2504.17761), v1.0 and v1.1, as a pipeline in diffusers' style: load, save, edit."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from editproof.editors.step1x import parts as step1x_parts
from editproof.editors.step1x.model import Step1XTransformer, load_transformer
from editproof.errors import UserError

SIDE = 512  # pixels: pictures are edited at the area of this square
PATCH = 28  # pixels: what one token of the language model shows
SHIFTS = (256, 4096, 0.5, 1.15)  # (numbers of tokens, mu there) between which the schedule's shift is linear
CALM, POWER = 0.93, 0.4  # above this noise level, large differences between guided and unguided are damped


class Step1XPipeline(DiffusionPipeline):
    """The photo goes into a FLUX-like transformer as context tokens, and into Qwen2.5-VL together with the instruction.

    prompt_prefix: the text before the picture that the language model was fed in training, chat marks included; what it
    makes of its first prefix_tokens tokens (None: of all) is cut off. max_tokens: how many tokens of what follows the
    transformer is given, padded. side: pictures are edited at the area of this square.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs = ("latents",)
    _pack_latents = staticmethod(FluxKontextPipeline._pack_latents)
    _unpack_latents = staticmethod(FluxKontextPipeline._unpack_latents)

    def __init__(
        self,
        transformer: Step1XTransformer,
        vae: AutoencoderKL,
        text_encoder: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        photo_processor: Qwen2VLImageProcessorPil,
        scheduler: FlowMatchEulerDiscreteScheduler,
        prompt_prefix: str = "",
        prefix_tokens: int | None = None,
        max_tokens: int = 640,
        side: int = SIDE,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
            photo_processor=photo_processor, scheduler=scheduler,
        )  # fmt: skip
        self.register_to_config(
            prompt_prefix=prompt_prefix, prefix_tokens=prefix_tokens, max_tokens=max_tokens, side=side
        )  # fmt: skip
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=2 * self.vae_scale_factor)
        self.num_timesteps = 0

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> "Step1XPipeline":
        """A pipeline that `save_pretrained` has written."""
        dtype = options.get("dtype") or options.get("torch_dtype")
        transformer = Step1XTransformer.from_pretrained(folder, subfolder="transformer", torch_dtype=dtype)
        return super().from_pretrained(folder, transformer=transformer, **options)

    @classmethod
    def from_published(
        cls,
        transformer: Path,
        vae: Path,
        qwen: Path,
        version: str,
        prompt_prefix: Path | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Step1XPipeline":
        """The published files: two .safetensors in their own naming and the folder of Qwen2.5-VL-7B-Instruct.

        version: "v1.0" or "v1.1". prompt_prefix: a text file, see the class; None: the authors' own, from their code
        (see step1x_parts.py). Raises UserError for other files.
        """
        for path in (transformer, vae, qwen, prompt_prefix):
            if path is not None and not Path(path).exists():
                raise UserError(f"no such file or folder: {path}")
        model = load_transformer(load_file(transformer), version)
        try:
            autoencoder = load_vae(load_file(vae))
        except (KeyError, RuntimeError) as error:
            raise UserError(f"{vae} is not FLUX's VAE: {' '.join(str(error).split())[:300]}") from error
        tokenizer = AutoTokenizer.from_pretrained(qwen)
        if prompt_prefix is None:
            prefix, cut = step1x_parts.prompt_prefix(Path(qwen), tokenizer), step1x_parts.CUT
        else:
            prefix, cut = Path(prompt_prefix).read_text(), None
        return cls(
            model.to(dtype), autoencoder.to(dtype),
            Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen, dtype=dtype or torch.float32), tokenizer,
            Qwen2VLImageProcessorPil.from_pretrained(qwen, min_pixels=256 * PATCH**2, max_pixels=324 * PATCH**2),
            FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), prefix, cut,
        )  # fmt: skip

    @torch.no_grad()
    def read(self, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """What the language model makes of images (B,3,H,W) in [0,1] and an instruction for each:

        its last hidden states (B,max_tokens,D) behind the prefix, and a mask (B,max_tokens), 1 where there are any.
        """
        if not self.config.prompt_prefix:
            raise UserError("this Step1X-Edit has no prompt_prefix: the text that its language model reads first")
        prefix = self.tokenizer(self.config.prompt_prefix)["input_ids"]
        cut = len(prefix) if self.config.prefix_tokens is None else self.config.prefix_tokens
        width = self.text_encoder.config.text_config.hidden_size
        hidden = torch.zeros(len(prompts), self.config.max_tokens, width, device=self._execution_device)
        mask = torch.zeros(len(prompts), self.config.max_tokens, device=self._execution_device)
        for row, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            picture = Image.fromarray((image.detach().permute(1, 2, 0) * 255).round().byte().cpu().numpy())
            patches = self.photo_processor(images=[picture], return_tensors="pt")
            merge = self.text_encoder.config.vision_config.spatial_merge_size
            pads = int(patches["image_grid_thw"].prod()) // merge**2
            shown = self.tokenizer(f"<|vision_start|>{'<|image_pad|>' * pads}<|vision_end|>")["input_ids"]
            asked = spelled(prompt, self.tokenizer) + self.tokenizer("<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
            ids = torch.tensor([[*prefix, *shown, *asked]], device=self._execution_device)
            states = self.text_encoder.model(
                input_ids=ids,
                pixel_values=patches["pixel_values"].to(self._execution_device, self.text_encoder.dtype),
                image_grid_thw=patches["image_grid_thw"].to(self._execution_device),
                mm_token_type_ids=(ids == self.text_encoder.config.image_token_id).int(),
                use_cache=False,
            ).last_hidden_state[0, cut:][: self.config.max_tokens]
            hidden[row, : len(states)], mask[row, : len(states)] = states.float(), 1
        return hidden.to(self.transformer.dtype), mask

    def prepare_latents(
        self, image: Tensor, batch_size: int, channels: int, height: int, width: int, dtype: torch.dtype,
        device: torch.device, generator: list[torch.Generator],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Packed noise and photo, and the positions of both; the photo in [-1,1] or as latents (B,channels,h,w)."""
        if image.shape[1] != channels:
            image = self._encode_vae_image(image.to(device, dtype), generator)
        rows, columns = (length // self.vae_scale_factor for length in (height, width))
        noise = randn_tensor((batch_size, channels, rows, columns), generator=generator, device=device, dtype=dtype)
        packed = [self._pack_latents(x.to(device, dtype), batch_size, channels, rows, columns) for x in (noise, image)]
        ids = FluxKontextPipeline._prepare_latent_image_ids(batch_size, rows // 2, columns // 2, device, dtype)
        return packed[0], packed[1], ids, ids + (1 if self.transformer.config.version == "v1.1" else 0)

    def _encode_vae_image(self, image: Tensor, generator: list[torch.Generator]) -> Tensor:
        posterior = self.vae.encode(image).latent_dist
        noise = torch.cat([randn_tensor(posterior.mean[:1].shape, g, image.device, image.dtype) for g in generator])
        latents = posterior.mean + posterior.std * noise
        return (latents - self.vae.config.shift_factor) * self.vae.config.scaling_factor

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Tensor,
        prompt: str | Sequence[str] = "",
        *,
        llm_hidden: Tensor | None = None,
        llm_mask: Tensor | None = None,
        num_inference_steps: int = 28,
        guidance_scale: float = 6.0,
        sigmas: Sequence[float] | None = None,
        latents: Tensor | None = None,
        generator: list[torch.Generator] | torch.Generator | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict[str, Tensor]] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Edit a PIL image, brought to the area the model was trained at and back, or images (B,3,H,W) in [0,1] at
        their own size, whose sides are multiples of 16.

        prompt: an instruction, or one for each image; or llm_hidden and llm_mask, what `read` has made of them.
        guidance_scale: 1 is none. sigmas, latents (packed): as in diffusers' FLUX pipelines, for another start than
        pure noise. generator: one, or one for each image. output_type: "pil" (a list of the given picture's size), "pt"
        (in [0,1]) or "latent" (packed).
        """
        original = image.size if isinstance(image, Image.Image) else None
        images = self._working_copy(image) if isinstance(image, Image.Image) else image.to(self._execution_device)
        (height, width), batch = images.shape[-2:], len(images)
        generators = generator if isinstance(generator, list) else [generator or torch.Generator()] * batch
        prompts = [prompt] * batch if isinstance(prompt, str) else list(prompt)
        if llm_hidden is None or llm_mask is None:
            llm_hidden, llm_mask = self.read(images, prompts)
        if guidance_scale > 1:
            unguided = self.read(images, [""] * batch)
            llm_hidden, llm_mask = torch.cat([llm_hidden, unguided[0]]), torch.cat([llm_mask, unguided[1]])
        noise, context, target_ids, context_ids = self.prepare_latents(
            2 * images - 1, batch, self.vae.config.latent_channels, height, width, self.transformer.dtype,
            self._execution_device, generators,
        )  # fmt: skip
        latents = noise if latents is None else latents
        self.scheduler.set_timesteps(
            sigmas=sigmas or [1 - step / num_inference_steps for step in range(num_inference_steps)],
            mu=calculate_shift(latents.shape[1], *SHIFTS), device=self._execution_device,
        )  # fmt: skip
        self.scheduler.set_begin_index(0)
        self.num_timesteps = len(self.scheduler.timesteps)
        copies = len(llm_hidden) // batch
        for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            level = (timestep / 1000).to(latents.dtype)
            velocity = self.transformer(
                latents.repeat(copies, 1, 1), context.repeat(copies, 1, 1), llm_hidden, llm_mask,
                timestep=level.expand(len(llm_hidden)), target_ids=target_ids, context_ids=context_ids,
            )[:, : latents.shape[1]]  # fmt: skip
            if copies > 1:
                with_text, without = velocity.chunk(2)
                velocity = guided(with_text, without, guidance_scale, float(timestep) / 1000)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, step, timestep, {"latents": latents}).get("latents", latents)
        result: Any = latents
        if output_type != "latent":
            unpacked = self._unpack_latents(latents, height, width, self.vae_scale_factor)
            unpacked = unpacked / self.vae.config.scaling_factor + self.vae.config.shift_factor
            decoded = self.vae.decode(unpacked, return_dict=False)[0]
            result = self.image_processor.postprocess(decoded, output_type=output_type)
            if original is not None and output_type == "pil":
                result = [picture.resize(original, Image.Resampling.LANCZOS) for picture in result]
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=result) if return_dict else (result,)

    def _working_copy(self, image: Image.Image) -> Tensor:
        """(1,3,H,W) in [0,1] at the area of `side` squared, sides cut to multiples of 16."""
        scale = self.config.side / (image.width * image.height) ** 0.5
        multiple = 2 * self.vae_scale_factor
        width, height = (max(multiple, int(side * scale) // multiple * multiple) for side in image.size)
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(1, height, width, 3)
        return (pixels.permute(0, 3, 1, 2) / 255).to(self._execution_device)


def guided(with_text: Tensor, without: Tensor, scale: float, level: float) -> Tensor:
    """Classifier-free guidance of packed velocities (B,N,C), damped per token where nearly all is noise."""
    difference = with_text - without
    if level > CALM:
        difference = difference / difference.norm(dim=-1, keepdim=True).clamp_min(1) ** POWER
    return without + scale * difference


def spelled(prompt: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of an instruction; what stands in quotes, to be written into the picture, letter by letter.

    As in the published code, an apostrophe is a quote too, and a quote belongs to the words outside.
    """
    pieces, inside = [""], False
    for letter in re.sub("['\u201c\u201d]", '"', prompt):
        if letter == '"':
            inside = not inside
            if inside:
                pieces[-1] += letter
            else:
                pieces.append(letter)
        elif inside:
            pieces.append(letter)
        else:
            pieces[-1] += letter
    return [token for piece in pieces if piece for token in tokenizer(piece)["input_ids"]]


def load_vae(state_dict: dict[str, Tensor]) -> AutoencoderKL:
    """FLUX's VAE from the published naming, of any width."""
    widths = tuple(
        len(state_dict[f"decoder.up.{level}.block.0.conv1.bias"])
        for level in range(sum(name.endswith("block.0.conv1.bias") and ".up." in name for name in state_dict))
    )
    config = {
        "block_out_channels": widths, "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths), "layers_per_block": 2, "sample_size": 1024,
        "latent_channels": state_dict["decoder.conv_in.weight"].shape[1], "norm_num_groups": min(32, *widths),
        "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
    }  # fmt: skip
    vae = AutoencoderKL(**config)
    vae.load_state_dict(convert_ldm_vae_checkpoint(state_dict, config))
    return vae.eval()
