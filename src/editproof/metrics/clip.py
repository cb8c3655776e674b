"""Similarity of pictures with text and with other pictures, as CLIP sees it (Radford et al., arXiv 2103.00020)."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from editproof.building import ONE_AT_A_TIME
from editproof.errors import UserError
from editproof.metrics.models import model_folder
from editproof.metrics.trial import check_pair

SOURCE = "openai/clip-vit-large-patch14"
FILES = ["*.json", "*.txt", "model*.safetensors"]


def clip_text(images: Tensor, texts: list[str], source: str | None = None) -> Tensor:
    """Cosine similarity (B,) in [-1, 1] of each picture (B, 3, H, W) with its text; some .2 to .3 where it fits.

    CLIPScore (arXiv 2104.08718) is 100 or 250 times this, not below 0. source: a hub id or folder of a CLIP model in
    transformers' layout. Texts are cut off after the model's 77 tokens. Raises UserError.
    """
    model, _, tokenizer = _load(source or SOURCE)
    if len(texts) != len(images):
        raise UserError(f"{len(texts)} prompts for {len(images)} pictures; allowed: one each")
    seen = _features(images, source)
    tokens = tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True).to(images.device)
    with torch.no_grad():
        said = model.to(images.device).get_text_features(**tokens).pooler_output.float()
    return torch.cosine_similarity(seen, said)


def clip_image(images: Tensor, reference: Tensor, source: str | None = None) -> Tensor:
    """Cosine similarity (B,) in [-1, 1] of pictures (B, 3, H, W) in [0, 1] with others; 1 where both are equal.

    source: as above. Raises UserError.
    """
    check_pair(images, reference)
    return torch.cosine_similarity(_features(images, source), _features(reference, source))


@torch.no_grad()
def _features(images: Tensor, source: str | None) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, width) float32, by the model's own scaling, cropping and normalising."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"CLIP cannot see pictures of {tuple(images.shape)}; allowed: (B, 3, H, W)")
    model, processor, _ = _load(source or SOURCE)
    eight_bit = (images.detach() * 255).round().clamp(0, 255).byte().cpu()
    pixels = processor(images=list(eight_bit), return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    return model.to(images.device).get_image_features(pixel_values=pixels.to(images.device)).pooler_output.float()


@lru_cache(maxsize=1)
def _load(source: str) -> tuple[Any, Any, Any]:
    """CLIP's networks, picture processor (Pillow's, so that torchvision makes no difference) and tokenizer."""
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = model_folder(source, "CLIP", FILES)
    try:
        with ONE_AT_A_TIME:
            return (
                CLIPModel.from_pretrained(folder, use_safetensors=True).eval(),
                CLIPImageProcessorPil.from_pretrained(folder),
                CLIPTokenizer.from_pretrained(folder),
            )
    except (OSError, ValueError) as error:
        raise UserError(f"CLIP model '{source}' cannot be loaded: {' '.join(str(error).split())}") from error
