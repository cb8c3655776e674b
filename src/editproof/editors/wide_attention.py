"""Attention with heads too wide for flash attention, as in the middle of a VAE (512): its matrix made explicitly.

What PyTorch falls back to there takes longer for its gradient than all of the VAE's convolutions together.
"""

from typing import Any

import torch
from torch import Tensor, nn

from editproof.editors.room import on_cuda, roomy

WIDEST = 256  # of a head, for flash attention
MATRICES = 6  # of (tokens, tokens) that exist at once, with those for the gradient


class Explicit:
    """A processor of diffusers' Attention: the explicit one for a gradient on a GPU where it fits, else PyTorch's."""

    def __init__(self) -> None:
        from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

        self.explicit, self.fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **more: Any) -> Tensor:
        pixels = hidden_states[:, 0].numel() if hidden_states.ndim == 4 else hidden_states[..., 0].numel()
        size = MATRICES * hidden_states.element_size() * pixels**2 / len(hidden_states)
        wanted = torch.is_grad_enabled() and on_cuda(hidden_states.device) and roomy(hidden_states.device, size)
        return (self.explicit if wanted else self.fused)(attn, hidden_states, *rest, **more)


def make_explicit(vae: nn.Module) -> None:
    """Give a VAE's attention with wide heads that processor."""
    module: Any
    for module in vae.modules():
        if type(module).__name__ == "Attention" and module.inner_dim // module.heads > WIDEST:
            module.set_processor(Explicit())
