"""Memory plans: where an editor's weights are while it works."""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from editproof.editors import INT8
from editproof.editors.attention import record_blocks
from editproof.editors.pipeline import LARGE
from editproof.editors.speed.fused import works
from editproof.editors.speed.graphs import record, without_cudnn
from editproof.editors.speed.streaming import recompute_resnets, stream
from editproof.errors import UserError

ROOM = 0.75  # the share of a GPU's memory that weights may take if all of them are to stay on it
FIRST_BLOCK = {"FluxKontextPipeline": "FluxTransformer2DModel", "Flux2KleinPipeline": "Flux2Transformer2DModel"}


def first_block_parts(class_name: str, label: str, source: str, dtype: torch.dtype) -> dict[str, Any]:
    """Parts to load a FLUX pipeline with for VETO: of the transformer, the embedders and the first double block."""
    if class_name not in FIRST_BLOCK:
        raise UserError(f"plan 'first-block' is for FLUX Kontext and klein, and editor {label} is a {class_name}")
    import diffusers

    transformer = getattr(diffusers, FIRST_BLOCK[class_name]).from_pretrained(
        source, subfolder="transformer", num_layers=1, num_single_layers=0, torch_dtype=dtype, use_safetensors=True
    )
    return {"transformer": transformer}


def place(pipe: Any, plan: str | None, device: torch.device, recorded: bool = True) -> str:
    """Put a pipeline that is in CPU memory where `plan` says, and return the plan; None: whatever fits `device`.

    recorded: whether a GPU records what it computes (see graphs.py), with weights that stay on it.
    """
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        part.requires_grad_(False).eval()
    if plan is None:
        weights = sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
        total = weights / ROOM
        if device.type == "cuda":
            limit = torch.cuda.get_per_process_memory_fraction(device)  # 1 unless somebody has set one
            total = limit * torch.cuda.get_device_properties(device).total_memory
        plan = "whole" if weights <= ROOM * total else "stream"
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    spare = plan != "whole" or sum(p.numel() for p in denoiser.parameters()) > LARGE
    if spare:
        flux = hasattr(pipe, "transformer")
        getattr(denoiser, "flux", denoiser).enable_gradient_checkpointing(_recomputed_without_cudnn if flux else None)
    if plan == "stream":
        recompute_resnets(pipe.vae, always=True)
        for part in parts:
            stream(part, device)
    else:
        pipe.to(device)
        flat = not hasattr(pipe.vae, "temperal_downsample")  # Qwen-Image's VAE has kernels of three dimensions
        if works(device) and plan != INT8:
            from editproof.editors.speed.fuse import fuse

            for part in {pipe.vae, denoiser} if flat else {denoiser}:
                fuse(part)
        if spare:
            recompute_resnets(pipe.vae, always=False)
        if recorded and device.type == "cuda" and plan == "whole":
            if flat:
                record(pipe.vae.encoder)
                record(pipe.vae.decoder)
            if hasattr(pipe, "unet"):
                record(pipe.unet, cudnn=True)
            else:
                record_blocks(getattr(denoiser, "flux", denoiser))
    return plan


def _recomputed_without_cudnn(block: Any, *inputs: Any) -> Any:
    """A block of a transformer that keeps its inputs only; computed anew it must not use cuDNN's attention either."""
    return checkpoint(without_cudnn, block, *inputs, use_reentrant=False)
