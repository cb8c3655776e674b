"""A diffusers UNet or VAE on a GPU: norms fused with their activations, convolutions channels last, wide attention.

Modules keep their classes, parameters and names: some get another forward, as with all that makes editors faster.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from editproof.editors.speed.norms import LARGEST, added, group_norm
from editproof.editors.speed.wide import WIDE, WideAttention


def fuse(model: nn.Module) -> None:
    """Fuse the norms of a diffusers UNet or VAE with the SiLU behind them, and put its convolutions channels last.

    Attention with wide heads (the VAE's, 512) is computed by products, which is quicker than PyTorch's kernel for it.
    Nothing is fused where weights are trained.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in cast("Iterator[Any]", model.modules()):
        kind = type(module).__name__
        if kind == "ResnetBlock2D" and _plain(module):
            module.forward = partial(_resnet, module, module.forward)
        elif isinstance(getattr(module, "conv_act", None), nn.SiLU) and type(module.conv_norm_out) is nn.GroupNorm:
            norm: Any = module.conv_norm_out
            norm.forward = partial(_norm_silu, norm)
            module.conv_act = nn.Identity()
        elif kind == "Attention" and module.to_q.out_features // module.heads > WIDE:
            module.set_processor(WideAttention())


def _plain(block: Any) -> bool:
    """Whether a residual block does nothing but what `_resnet` does."""
    return (
        block.upsample is None and block.downsample is None and block.time_embedding_norm == "default"
        and block.output_scale_factor == 1 and not getattr(block, "skip_time_act", False)
        and isinstance(block.nonlinearity, nn.SiLU)
    )  # fmt: skip


def _fits(module: nn.Module, x: Tensor) -> bool:
    """Whether the kernels can be used: for x (N,C,H,W) of this size, and no weight of the module that is trained."""
    trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in module.parameters())
    return not trained and not module.training and x.shape[2] * x.shape[3] <= LARGEST


def _norm_silu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """SiLU of a GroupNorm of x (N,C,H,W)."""
    if _fits(norm, x):
        return group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps, "silu")
    return functional.silu(functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps))


def _resnet(block: Any, shipped: Callable[..., Tensor], x: Tensor, temb: Tensor, *more: Any, **named: Any) -> Tensor:
    """A residual block whose convolutions' biases are added with what follows them, not in passes of their own.

    x (N,C,H,W); temb (N,D): the embedding of the noise level, which goes where the first convolution's bias goes.
    """
    if not _fits(block, x):
        return shipped(x, temb, *more, **named)
    before, second = block.conv1.bias, block.norm2
    if block.time_emb_proj is not None:
        before = block.time_emb_proj(block.nonlinearity(temb)) + before
    y = _bare(block.conv1, _norm_silu(block.norm1, x))
    y = group_norm(y, second.num_groups, second.weight, second.bias, second.eps, "silu", before)
    shortcut = x if block.conv_shortcut is None else block.conv_shortcut(x)
    return added(shortcut, _bare(block.conv2, y), block.conv2.bias)


def _bare(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution without its bias."""
    return conv._conv_forward(x, conv.weight, None)
