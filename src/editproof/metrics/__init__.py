"""Metrics: one function a file, one number per photo."""

from editproof.metrics.disruption import disruption, edit_change, ssim_map
from editproof.metrics.psnr import psnr

__all__ = ["disruption", "edit_change", "psnr", "ssim_map"]
