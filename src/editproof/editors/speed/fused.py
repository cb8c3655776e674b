"""Whether the fused norms of norms.py can be used on a device: Triton is there, and what they compute is right."""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional

CLOSE = 0.02  # in half precision: largest norm of the difference, as a share of the result's norm


@cache
def works(device: torch.device) -> bool:
    """Tried on small pictures once a process: False off CUDA, without Triton, or if anything differs or fails."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    try:
        from editproof.editors.speed.norms import doubled, group_norm

        noise = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0))
        weight, bias = noise[0, :, 0, 0].to(device), noise[0, :, 0, 1].to(device)
        x = noise.to(device, torch.float16).requires_grad_()
        with torch.enable_grad():
            ours = group_norm(x, 8, weight, bias, 1e-5, "silu")
            plain = functional.silu(functional.group_norm(x.float(), 8, weight, bias, 1e-5))
            gradients = [torch.autograd.grad((y.float() ** 2).sum(), x)[0] for y in (ours, plain)]
        half = x.detach()
        scaled = functional.interpolate(half.float(), scale_factor=2, mode="bilinear", align_corners=True)
        return all(_close(a, b) for a, b in ((ours, plain), gradients, (doubled(half), scaled)))
    except Exception:  # a compiler that is missing, a GPU that Triton does not know ...
        return False


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a.float() - b.float()).norm() <= CLOSE * b.float().norm())
