"""A diffusers UNet or VAE on a GPU: norms fused with their activations, convolutions channels last, wide attention."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from editproof.editors.norms import LARGEST, group_norm
from editproof.editors.wide import WIDE, WideAttention


class NormSiLU(nn.GroupNorm):
    """GroupNorm with the SiLU that follows it; PyTorch's where the weights are trained."""

    def forward(self, input: Tensor) -> Tensor:
        trained = self.weight.requires_grad and torch.is_grad_enabled()
        if trained or input.shape[2] * input.shape[3] > LARGEST:
            return functional.silu(super().forward(input))
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps, "silu")


class SiLUOfVectors(nn.Module):
    """What is left of a SiLU whose pictures have had theirs: embeddings have not."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.ndim == 4 else functional.silu(x)


def fuse(model: nn.Module) -> None:
    """Fuse all norms of a diffusers UNet or VAE with the SiLU behind them, and put its convolutions channels last.

    Attention with wide heads (the VAE's, 512) is computed by products, which is quicker than PyTorch's kernel for it.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in cast("Iterator[Any]", model.modules()):
        kind = type(module).__name__
        if kind == "ResnetBlock2D" and isinstance(module.nonlinearity, nn.SiLU):
            module.norm1.__class__ = module.norm2.__class__ = NormSiLU
            module.nonlinearity = SiLUOfVectors()
        elif isinstance(getattr(module, "conv_act", None), nn.SiLU) and type(module.conv_norm_out) is nn.GroupNorm:
            module.conv_norm_out.__class__ = NormSiLU
            module.conv_act = nn.Identity()
        elif kind == "Attention" and module.to_q.out_features // module.heads > WIDE:
            module.set_processor(WideAttention())
