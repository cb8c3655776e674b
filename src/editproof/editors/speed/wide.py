"""Attention of a VAE: its one head is 512 wide, too wide for flash kernels."""

from typing import Any

from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

WIDE, LARGEST = 256, 2**30  # features of a head above which, and bytes of the matrix up to which, it is multiplied


class WideAttention(AttnProcessor):
    """Attention with heads too wide for flash kernels: products and a softmax, where the matrix is not huge."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if len(hidden_states) * hidden_states[0, 0].numel() ** 2 * hidden_states.itemsize <= LARGEST:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
