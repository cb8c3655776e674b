"""FLUX.1's and FLUX.2's transformers block by block: all that differs between them, for what attention.py measures.

Each class is one forward of a model: what it makes of noise level, guidance and text once, a call of a block with it,
and the queries and keys that the block computes inside. Words and images are tokens (B,N,C).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Tokens(NamedTuple):
    """What such a transformer is given: packed latents (B,N,C), text embeddings and positions (N,3; FLUX.2: 4)."""

    target: Tensor  # what is denoised
    context: Tensor  # the photo
    text: Tensor  # (B,T,D)
    pooled: Tensor | None  # (B,P); FLUX.2 has none
    target_ids: Tensor
    context_ids: Tensor


class Flux1:
    """diffusers' FluxTransformer2DModel: every block has a modulation of its own; text tokens have no positions."""

    def __init__(
        self, model: Any, timestep: Tensor, guidance: Tensor | None, pooled: Tensor | None, words: Tensor, ids: Tensor
    ) -> None:
        times = [timestep] if guidance is None else [timestep, guidance]
        self.state = model.time_text_embed(*times, pooled)
        self.rope = model.pos_embed(torch.cat([torch.zeros_like(ids[:1]).expand(words.shape[1], -1), ids]))

    def __call__(self, block: Any, name: str, words: Tensor, image: Tensor) -> Pair:
        """The block's output: words and image."""
        return block(
            hidden_states=image, encoder_hidden_states=words, temb=self.state, image_rotary_emb=self.rope
        )  # fmt: skip

    def queries_and_keys(self, block: Any, name: str, words: Tensor, image: Tensor) -> Pair:
        """(B,N,heads,d) each, of all tokens, words first, before RoPE."""
        if name.startswith("double"):
            return _joint(
                block.attn, block.norm1_context(words, emb=self.state)[0], block.norm1(image, emb=self.state)[0]
            )
        normed = block.norm(torch.cat([words, image], dim=1), emb=self.state)[0]
        return _normed(block.attn, block.attn.to_q(normed), block.attn.to_k(normed))


class Flux2:
    """diffusers' Flux2Transformer2DModel: blocks of a kind share a modulation; text tokens are numbered; no pooled."""

    def __init__(
        self, model: Any, timestep: Tensor, guidance: Tensor | None, pooled: Tensor | None, words: Tensor, ids: Tensor
    ) -> None:
        state = model.time_guidance_embed(timestep, guidance)
        self.image, self.words = model.double_stream_modulation_img(state), model.double_stream_modulation_txt(state)
        self.single = model.single_stream_modulation(state)
        numbers = torch.zeros_like(ids[:1]).repeat(words.shape[1], 1)
        numbers[:, -1] = torch.arange(words.shape[1], device=ids.device)
        self.rope = tuple(torch.cat(pair) for pair in zip(model.pos_embed(numbers), model.pos_embed(ids), strict=True))

    def __call__(self, block: Any, name: str, words: Tensor, image: Tensor) -> Pair:
        """The block's output: words and image."""
        inputs = {"hidden_states": image, "encoder_hidden_states": words, "image_rotary_emb": self.rope}
        if name.startswith("double"):
            return block(**inputs, temb_mod_img=self.image, temb_mod_txt=self.words)
        return block(**inputs, temb_mod=self.single, split_hidden_states=True)

    def queries_and_keys(self, block: Any, name: str, words: Tensor, image: Tensor) -> Pair:
        """(B,N,heads,d) each, of all tokens, words first, before RoPE."""
        if name.startswith("double"):
            return _joint(
                block.attn, _modulated(block.norm1_context(words), self.words, 2),
                _modulated(block.norm1(image), self.image, 2),
            )  # fmt: skip
        normed = _modulated(block.norm(torch.cat([words, image], dim=1)), self.single, 1)
        width = block.attn.inner_dim
        return _normed(block.attn, *block.attn.to_qkv_mlp_proj(normed)[..., : 2 * width].split(width, dim=-1))


def family(model: Any) -> type[Flux1] | type[Flux2]:
    """Which of the two a transformer is."""
    return Flux2 if hasattr(model, "time_guidance_embed") else Flux1


def _joint(attention: Any, words: Tensor, image: Tensor) -> Pair:
    queries, keys = _normed(attention, attention.to_q(image), attention.to_k(image))
    of_words = _normed(attention, attention.add_q_proj(words), attention.add_k_proj(words), "added_")
    return torch.cat([of_words[0], queries], dim=1), torch.cat([of_words[1], keys], dim=1)


def _normed(attention: Any, queries: Tensor, keys: Tensor, kind: str = "") -> Pair:
    heads = (-1, attention.head_dim)
    norm_queries, norm_keys = (getattr(attention, f"norm_{kind}{name}") for name in "qk")
    return norm_queries(queries.unflatten(-1, heads)), norm_keys(keys.unflatten(-1, heads))


def _modulated(normed: Tensor, modulation: Tensor, sets: int) -> Tensor:
    from diffusers.models.transformers.transformer_flux2 import Flux2Modulation

    shift, scale, _ = Flux2Modulation.split(modulation, sets)[0]
    return (1 + scale) * normed + shift
