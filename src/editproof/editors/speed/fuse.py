"""A diffusers UNet or VAE on a GPU: norms fused with their activations, convolutions channels last, wide attention."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from editproof.editors.speed.norms import LARGEST, added, group_norm
from editproof.editors.speed.wide import WIDE, WideAttention


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


class FusedResnet(ResnetBlock2D):
    """A residual block whose convolutions' biases are added with what follows them, not in passes of their own."""

    def forward(self, input_tensor: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        if trained or self.training or input_tensor.shape[2] * input_tensor.shape[3] > LARGEST:
            return super().forward(input_tensor, temb, *args, **kwargs)
        before = self.conv1.bias
        if self.time_emb_proj is not None:
            before = self.time_emb_proj(self.nonlinearity(temb)) + before
        x = _bare(self.conv1, self.norm1(input_tensor))
        x = group_norm(
            x, self.norm2.num_groups, self.norm2.weight, self.norm2.bias, self.norm2.eps, "silu", before
        )  # fmt: skip
        shortcut = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return added(shortcut, _bare(self.conv2, x), self.conv2.bias)


def _bare(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return conv._conv_forward(x, conv.weight, None)


def _plain(block: Any) -> bool:
    """Whether a residual block does nothing but what FusedResnet does."""
    return (
        block.upsample is None and block.downsample is None and block.time_embedding_norm == "default"
        and block.output_scale_factor == 1 and not getattr(block, "skip_time_act", False)
    )  # fmt: skip


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
            if _plain(module):
                module.__class__ = FusedResnet
        elif isinstance(getattr(module, "conv_act", None), nn.SiLU) and type(module.conv_norm_out) is nn.GroupNorm:
            module.conv_norm_out.__class__ = NormSiLU
            module.conv_act = nn.Identity()
        elif kind == "Attention" and module.to_q.out_features // module.heads > WIDE:
            module.set_processor(WideAttention())
