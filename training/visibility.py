"""How visible a perturbation is, with gradients: colour differences, and what shows on smooth parts of a photo."""

import torch
from pictures import blur
from torch import Tensor

from editproof.methods.quiet import texture

# Linear sRGB to CIE XYZ (IEC 61966-2-1), divided by the white point D65.
TO_XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = torch.tensor([0.9505, 1.0, 1.089])


def lab(images: Tensor) -> Tensor:
    """CIE L*a*b* (B,3,H,W) of sRGB pictures (B,3,H,W) in [0,1]."""
    images = images.float().clamp(0, 1)
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("rc,bchw->brhw", (TO_XYZ / WHITE[:, None]).to(images.device), linear)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def colour_difference(images: Tensor, protected: Tensor) -> Tensor:
    """CIE94's difference at each pixel, (B,H,W): near CIEDE2000, with a gradient everywhere."""
    first, second = lab(images), lab(protected)
    light, a, b = (second - first).unbind(1)
    chroma = first[:, 1:].norm(dim=1)
    change = (second[:, 1:].square().sum(1) + 1e-4).sqrt() - (first[:, 1:].square().sum(1) + 1e-4).sqrt()
    hue = (a * a + b * b - change * change).clamp_min(0)
    weighed = light**2 + (change / (1 + 0.045 * chroma)) ** 2 + hue / (1 + 0.015 * chroma) ** 2
    return (weighed + 1e-4).sqrt()


def visibility(images: Tensor, protected: Tensor, eps: float) -> tuple[Tensor, dict[str, float]]:
    """A penalty, one number, of what a person would see, and its parts for the log.

    Above the aims at 8/255 (scaled with `eps`): mean colour difference 1.4, 3.5 at most, 35 dB. Always: low frequencies
    (tints, halos, stripes), most where the photo is smooth, and more than .3 of `eps` there.
    """
    scale, delta = eps / (8 / 255), (protected - images).float()
    smooth = 1 - texture(images).detach()
    difference = colour_difference(images, protected)
    mean = (difference.mean((1, 2)) / (1.4 * scale) - 1).relu()
    high = (difference - 3.5 * scale).relu().mean((1, 2))
    noise = ((delta.square().mean((1, 2, 3)) + 1e-9).sqrt() / (scale * 10 ** (-35 / 20)) - 1).relu()
    low = ((blur(delta, 3.0, 8) / eps).square() * (0.2 + smooth)).mean((1, 2, 3))
    rough = (blur(delta.square(), 2.0, 6) / eps**2 - (1 - 0.7 * smooth) ** 2).relu().mean((1, 2, 3))
    parts = {"mean": 2 * mean, "high": high, "noise": 2 * noise, "low": 8 * low, "rough": 2 * rough}
    return sum(parts.values(), torch.zeros_like(mean)).mean(), {k: v.mean().item() for k, v in parts.items()}
