"""Tiny random pipelines of the real classes, saved as hub models are; and pictures and masks to try them on."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from editproof.bench.demo import astronaut

WIDTH, SIZE = 16, 32  # of text embeddings, and of pictures the editors are made for


def tokenizer() -> CLIPTokenizer:
    """Spells every word in letters: both forms of every byte and the two marks."""
    letters = sorted(ByteLevel.alphabet())
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={s: i for i, s in enumerate(symbols)}, merges=[], model_max_length=77)


def text_config(projection: int = WIDTH) -> CLIPTextConfig:
    words = tokenizer()
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=projection, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip


def vae() -> AutoencoderKL:
    """Four resolutions: a factor of 8, as in Stable Diffusion; a scaling factor of its own."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4, sample_size=SIZE,
        scaling_factor=0.7,
    )  # fmt: skip


def unet(in_channels: int, width: int = WIDTH, **more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=in_channels, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width, attention_head_dim=2, norm_num_groups=4, **more,
    )  # fmt: skip


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def sd_inpaint() -> DiffusionPipeline:
    return StableDiffusionInpaintPipeline(
        vae=vae(), text_encoder=CLIPTextModel(text_config()), tokenizer=tokenizer(), unet=unet(9),
        scheduler=scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def instruct_pix2pix() -> DiffusionPipeline:
    return StableDiffusionInstructPix2PixPipeline(
        vae=vae(), text_encoder=CLIPTextModel(text_config()), tokenizer=tokenizer(), unet=unet(8),
        scheduler=scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(pipeline: type[DiffusionPipeline], in_channels: int) -> DiffusionPipeline:
    denoiser = unet(
        in_channels, 2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )  # fmt: skip
    return pipeline(
        vae=vae(), text_encoder=CLIPTextModel(text_config()), text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=denoiser, scheduler=scheduler(), add_watermarker=False,
    )  # fmt: skip


def sdxl_inpaint() -> DiffusionPipeline:
    return sdxl(StableDiffusionXLInpaintPipeline, 9)


def sdxl_img2img() -> DiffusionPipeline:
    return sdxl(StableDiffusionXLImg2ImgPipeline, 4)


def sd3_img2img() -> DiffusionPipeline:
    """Latents in 2 x 2 patches, two of whose 4 x 4 positions are cut away at the smallest."""
    transformer = SD3Transformer2DModel(
        sample_size=SIZE // 4, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH, pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    words = t5_tokenizer()
    text = T5Config(vocab_size=len(words), d_model=2 * WIDTH, d_ff=32, d_kv=8, num_layers=2, num_heads=2,
                    feed_forward_proj="gated-gelu")  # fmt: skip
    return StableDiffusion3Img2ImgPipeline(
        vae=flux_vae(), transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=CLIPTextModelWithProjection(text_config()), tokenizer=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(text_config()), tokenizer_2=tokenizer(),
        text_encoder_3=T5EncoderModel(text), tokenizer_3=words,
    )  # fmt: skip


def t5_tokenizer() -> T5Tokenizer:
    """Spells every word in letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,'-"]
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=[*marks, *((letter, -3.0) for letter in letters)], extra_ids=0, model_max_length=512)


def flux_transformer(**more: object) -> FluxTransformer2DModel:
    """As in a trained editor, what it predicts depends on the photo's tokens about as much as on its own."""
    model = FluxTransformer2DModel(**{
        "in_channels": 16, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "pooled_projection_dim": WIDTH, "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6), **more,
    })  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for block in model.transformer_blocks:  # the 512 tokens of text would drown the 16 of the photo
            block.attn.to_v.weight *= 40
            block.attn.add_v_proj.weight *= 0.1
    return model


def flux_vae() -> AutoencoderKL:
    """Of factor 4, so that pictures of SIZE have 4 x 4 tokens."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, sample_size=SIZE,
        scaling_factor=4.0, shift_factor=0.1,
    )  # fmt: skip


def flux(pipeline: type[DiffusionPipeline], **more: object) -> DiffusionPipeline:
    words = t5_tokenizer()
    text = T5Config(vocab_size=len(words), d_model=WIDTH, d_ff=32, d_kv=8, num_layers=2, num_heads=2,
                    feed_forward_proj="gated-gelu")  # fmt: skip
    return pipeline(
        vae=flux_vae(), text_encoder=CLIPTextModel(text_config()), tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(text), tokenizer_2=words, transformer=flux_transformer(**more),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )  # fmt: skip


def flux_kontext() -> DiffusionPipeline:
    return flux(FluxKontextPipeline)


def flux_fill() -> DiffusionPipeline:
    """Its tokens hold noise, the masked photo and the 4 x 4 pixels of the mask for each latent."""
    return flux(FluxFillPipeline, in_channels=16 + 16 + 4 * 4**2, out_channels=16)


MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Spells every word in bytes; the marks of a chat and of a picture are tokens, and a chat has a template."""
    letters = sorted(ByteLevel.alphabet())
    words = Qwen2Tokenizer(
        vocab={symbol: i for i, symbol in enumerate([*letters, *MARKS])}, merges=[], pad_token=MARKS[0],
        additional_special_tokens=MARKS[1:],
    )  # fmt: skip
    words.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
        "{{ message.content }}{% else %}{% for item in message.content %}{% if item.type == 'image' %}"
        "{% if add_vision_id %}Picture 1: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ item.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return words


def flux2_klein(distilled: bool = True) -> DiffusionPipeline:
    """Its text encoder has as many layers as the pipeline looks at (the 27th is the last)."""
    words = qwen_tokenizer()
    text = Qwen3Config(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for block in transformer.transformer_blocks:  # as in flux_transformer
            block.attn.to_v.weight *= 40
            block.attn.add_v_proj.weight *= 0.1
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, sample_size=SIZE)  # fmt: skip
    vae.bn.running_mean.normal_(std=0.1)
    vae.bn.running_var.uniform_(0.05, 0.1)
    return Flux2KleinPipeline(
        vae=vae, text_encoder=Qwen3ForCausalLM(text), tokenizer=words, transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), is_distilled=distilled,
    )  # fmt: skip


def reader(words: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """A language model that is shown pictures."""
    numbers = dict(zip(MARKS, words.convert_tokens_to_ids(MARKS), strict=True))
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=numbers["<|image_pad|>"], vision_start_token_id=numbers["<|vision_start|>"],
        vision_end_token_id=numbers["<|vision_end|>"], video_token_id=len(words) + 1,
    )).eval()  # fmt: skip


def step1x(version: str = "v1.1") -> DiffusionPipeline:
    """Not one of MAKERS, as it needs no test that Kontext has not had; a language model that reads 4 to 9 patches."""
    from editproof.editors.step1x.model import Step1XTransformer
    from editproof.editors.step1x.pipeline import Step1XPipeline

    words = qwen_tokenizer()
    transformer = Step1XTransformer(
        version=version, in_channels=16, num_layers=2, num_single_layers=3, attention_head_dim=32,
        num_attention_heads=1, llm_dim=32, text_dim=16, pooled_dim=8, refiner_layers=1,
    ).eval()  # fmt: skip
    return Step1XPipeline(
        transformer=transformer, vae=flux_vae(), text_encoder=reader(words), tokenizer=words,
        photo_processor=Qwen2VLImageProcessorPil(min_pixels=4 * 28**2, max_pixels=9 * 28**2),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        prompt_prefix="<|im_start|>user\nlook: ", max_tokens=64, side=SIZE,
    )  # fmt: skip


def qwen_edit() -> DiffusionPipeline:
    """A VAE of factor 4, as FLUX's here; a transformer as of 2511, which knows the photo's tokens to be clean."""
    words = qwen_tokenizer()
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 6, 6), zero_cond_t=True,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[0.3, 0.4, 0.5, 0.3],
    )  # fmt: skip
    return QwenImageEditPlusPipeline(
        vae=vae, transformer=transformer, text_encoder=reader(words), tokenizer=words, processor=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
    )  # fmt: skip


MAKERS = {
    "sd-inpaint": sd_inpaint,
    "sdxl-inpaint": sdxl_inpaint,
    "instruct-pix2pix": instruct_pix2pix,
    "flux-kontext": flux_kontext,
    "flux2-klein": flux2_klein,
    "flux-fill": flux_fill,
    "sdxl-img2img": sdxl_img2img,
    "sd3-img2img": sd3_img2img,
    "qwen-edit": qwen_edit,
}


def save(name: str, folder: Path) -> Path:
    """A random pipeline of this kind, always the same, in diffusers' layout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (MAKERS | {"step1x-edit": step1x})[name]().save_pretrained(folder / name, safe_serialization=True)
    if name == "qwen-edit":
        save_processor(folder / name)
    return folder / name


class Processor(Qwen2VLProcessor):
    """Qwen2-VL's without clips, for which transformers wants torchvision."""

    def check_argument_for_proper_class(self, name: str, argument: object) -> None:
        """Takes None for what reads clips."""


def processor(folder: Path) -> Processor:
    """The one in a pipeline's folder: it reads 4 to 9 patches of a picture."""
    words = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder / "processor")
    return Processor(pictures, words, None, chat_template=words.chat_template)


def loaded(kind: type[DiffusionPipeline], folder: Path) -> DiffusionPipeline:
    """The shipped pipeline in a folder, by diffusers alone."""
    if kind is not QwenImageEditPlusPipeline:
        return kind.from_pretrained(folder)
    pipe = kind.from_pretrained(folder, processor=None)
    pipe.processor = processor(folder)
    return pipe


def save_processor(folder: Path) -> None:
    """Files of a processor, as real ones have them, in the folder of a pipeline that was saved without."""
    Qwen2VLImageProcessorPil(min_pixels=4 * 28**2, max_pixels=9 * 28**2).save_pretrained(folder / "processor")
    index = folder / "model_index.json"
    told = json.loads(index.read_text()) | {"processor": ["transformers", "Qwen2VLProcessor"]}
    index.write_text(json.dumps(told, indent=2))


def hub_cache(cache: Path, repository: str) -> Path:
    """The folder of a hub model's files in a cache that looks as if they had been downloaded."""
    model = cache / f"models--{repository.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    (model / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return model / "snapshots" / ("0" * 40)


def pictures(n: int = 2, height: int = SIZE, width: int = SIZE) -> Tensor:
    """Smooth random 8-bit pictures (n,3,height,width) in [0,1]; white and black occur."""
    noise = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(7)) * 1.4 - 0.2
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", antialias=True)
    return (smooth.clamp(0, 1) * 255).round() / 255


def people(n: int = 2, height: int = SIZE, width: int = SIZE) -> Tensor:
    """8-bit pictures (n,3,height,width) of one face in the middle, every second one mirrored and darker."""
    photo = astronaut(max(height, width))[0][..., :height, :width]
    return torch.cat([((photo.flip(-1) * 0.7 if i % 2 else photo) * 255).round() / 255 for i in range(n)])


def hole(n: int = 2, height: int = SIZE, width: int = SIZE) -> Tensor:
    """A mask (n,1,height,width), 1 = repaint: everything but a box in the middle, at another place in every picture."""
    mask = torch.ones(n, 1, height, width)
    for i in range(n):
        mask[i, :, height // 8 + i : height * 3 // 4, width // 4 : width * 3 // 4 + i] = 0
    return mask
