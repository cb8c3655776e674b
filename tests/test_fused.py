"""Fused norms: a UNet and a VAE that use them compute what they computed before. Their kernels need a GPU (see
test_speed.py); here each is replaced by PyTorch's own functions, so that all around them is run."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "silu": F.silu, "relu": F.relu}


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, activation: str, before: Tensor | None = None
) -> Tensor:
    moved = x if before is None else x + before.expand(x.shape[:2])[..., None, None]
    return ACTIVATIONS[activation](F.group_norm(moved, groups, weight, bias, eps))


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    kernels = ModuleType("editproof.editors.speed.norms")
    kernels.LARGEST, kernels.group_norm = 2**22, group_norm  # type: ignore[attr-defined]
    kernels.added = lambda x, y, bias: x + y + bias.view(-1, 1, 1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, kernels.__name__, kernels)
    return import_module("editproof.editors.speed.fuse").fuse  # nothing else here can import it: it needs Triton


def stirred(model: nn.Module) -> nn.Module:
    """Norms that do something, and an embedding of the noise level that counts."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval().requires_grad_(False)


def both(call: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = call(x)
    return [y.detach(), torch.autograd.grad(y.square().sum(), x)[0]]


def test_a_unet_sees_the_noise_level_as_before(fuse: Callable[[nn.Module], None]) -> None:
    model, text, noise = stirred(tiny.unet(4)), torch.randn(2, 5, tiny.WIDTH), torch.randn(2, 4, 8, 8)

    def at(level: int) -> Callable[[Tensor], Tensor]:
        return lambda x: model(x, torch.tensor(level), encoder_hidden_states=text).sample

    before = [both(at(level), noise) for level in (10, 900)]
    assert (before[0][0] - before[1][0]).norm() > 0.05 * before[0][0].norm(), "the noise level hardly counts"
    kinds = [type(module) for module in model.modules() if not isinstance(module, nn.SiLU | nn.Identity)]
    fuse(model)
    resnets = [module for module in model.modules() if type(module).__name__ == "ResnetBlock2D"]
    assert resnets and all("forward" in vars(module) for module in resnets)
    assert [type(module) for module in model.modules() if not isinstance(module, nn.SiLU | nn.Identity)] == kinds
    for level, plain in zip((10, 900), before, strict=True):
        for ours, theirs in zip(both(at(level), noise), plain, strict=True):
            assert (ours - theirs).norm() < 1e-4 * theirs.norm()


def test_a_vae_encodes_and_decodes_as_before(fuse: Callable[[nn.Module], None]) -> None:
    model, images = stirred(tiny.vae()), tiny.pictures()
    calls = [lambda x: model.encode(x).latent_dist.mean, lambda x: model.decode(model.encode(x).latent_dist.mean)[0]]
    before = [both(call, images) for call in calls]
    fuse(model)
    for call, plain in zip(calls, before, strict=True):
        for ours, theirs in zip(both(call, images), plain, strict=True):
            assert (ours - theirs).norm() < 1e-4 * theirs.norm()
