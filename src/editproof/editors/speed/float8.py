"""Products of a transformer's blocks in float8 (e4m3), forward and backward for the inputs.

Every row of activations, weights and gradients has a scale of its own, the largest value at float8's largest. The
weights are kept twice, by rows and by columns, so that memory is that of bfloat16. Needs a GPU of compute capability
8.9 (Ada) or more. One product differs from bfloat16's by some 4 %, on a CPU; neither the speed nor what becomes of an
attack has been measured on a GPU yet.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from editproof.errors import UserError

PIPELINES = ("FluxKontextPipeline", "Flux2KleinPipeline", "Step1XPipeline")
KIND = torch.float8_e4m3fn
LARGEST = torch.finfo(KIND).max


class Float8Linear(nn.Module):
    """A Linear layer (no gradient for its weights) of values that are bfloat16 outside."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        by_rows, by_columns = scaled(linear.weight.detach()), scaled(linear.weight.detach().mT)
        for name, value in zip(
            ("rows", "row_scales", "columns", "column_scales"), (*by_rows, *by_columns), strict=True
        ):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.rows, self.row_scales, self.columns, self.column_scales)
        flat = _Product.apply(x.flatten(0, -2), *weights)
        return (flat if self.bias is None else flat + self.bias).unflatten(0, x.shape[:-1])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, row_scales: Tensor, columns: Tensor, column_scales: Tensor
    ) -> Tensor:
        ctx.save_for_backward(columns, column_scales)
        return product(x, rows, row_scales)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return product(dy, *ctx.saved_tensors), None, None, None, None


def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """(M,K) -> float8 (M,K), and the scale (M,1) of each row, float32."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    return (x.float() / scale).to(KIND), scale


def product(x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """x (M,K) @ weight (N,K).T, the weight in float8 with its rows' scales (N,1): (M,N) of x's kind."""
    rows, row_scales = scaled(x)
    return torch._scaled_mm(
        rows, weight.mT, scale_a=row_scales, scale_b=scales.mT, out_dtype=x.dtype, use_fast_accum=True
    )


def to_float8(transformer: Any, plan: str = "whole") -> None:
    """Put the products of a FLUX transformer's blocks in float8; those of the few embeddings and modulations stay.

    UserError for other models, and for weights that are elsewhere by the plan.
    """
    if plan != "whole" or not hasattr(transformer, "single_transformer_blocks"):
        raise UserError(
            f"float8 for {type(transformer).__name__} with plan {plan!r}: allowed for FLUX with plan 'whole'"
        )
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        for name, module in list(block.named_modules()):
            fits = isinstance(module, nn.Linear) and not (module.in_features % 16 or module.out_features % 16)
            if fits and "norm" not in name:
                block.set_submodule(name, Float8Linear(module))


def check_float8(device: torch.device, pipeline: str) -> None:
    """UserError where float8 cannot be computed with: on this device, in a pipeline of this class."""
    if pipeline not in PIPELINES:
        raise UserError(f"float8 for a {pipeline}: allowed for {', '.join(PIPELINES)}")
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise UserError(f"float8 on {device}: allowed on a GPU of compute capability 8.9 or more")
