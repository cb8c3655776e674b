"""Speed and memory of DeContext and VETO at FLUX.1 Kontext's real size, for each memory plan.

The weights are random, of the real shapes (12 billion parameters, bfloat16), and so are the text embeddings, so nothing
is downloaded and no text encoder is loaded. One JSON line for each plan, method and size: median seconds of a step
after a warm-up, and the most GPU memory that tensors took. With --tiny a small model in float32, on a CPU too.

    python benchmarks/in_context.py --out in_context.jsonl
"""

import argparse
import gc
import json
import statistics
import time
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from diffusers.utils import logging
from torch import Tensor, nn

from editproof.editors import pick_device
from editproof.editors.kontext import KontextEditor
from editproof.editors.plans import place
from editproof.errors import UserError
from editproof.methods import METHODS

# The published configurations, and small ones. Of the transformer: what FluxTransformer2DModel's defaults differ in.
TRANSFORMER = {"guidance_embeds": True}
VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16, "norm_num_groups": 32,
       "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False,
       "use_post_quant_conv": False, "down_block_types": ("DownEncoderBlock2D",) * 4,
       "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
SIZES = ((512, 512), (1024, 768))  # height, width
TEXT = 512  # tokens
TINY_TRANSFORMER = {
    **TRANSFORMER, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 32, "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
TINY_VAE = {**VAE, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "sample_size": 64}
TINY_SIZES = ((64, 64), (64, 48))
PLANS = {"first-block": ("veto",), "whole": ("veto", "decontext"), "stream": ("veto", "decontext")}


class RandomTexts(KontextEditor):
    """An editor whose prompts have random embeddings of the shape that T5 and CLIP give."""

    def read(self, images: Tensor, prompt: object) -> dict[str, Tensor]:
        config, shape = self.denoiser.config, {"device": self.device, "dtype": self.dtype}
        return {
            "prompt_embeds": torch.randn(len(images), TEXT, config.joint_attention_dim, **shape),
            "pooled_prompt_embeds": torch.randn(len(images), config.pooled_projection_dim, **shape),
        }


class EnoughError(Exception):
    """Ends a method when its steps have been timed."""


def random_model(config: dict, device: torch.device, dtype: torch.dtype) -> FluxTransformer2DModel:
    """A transformer with small random weights, made where it is to be."""
    with torch.device("meta"):
        model = FluxTransformer2DModel(**config).to(dtype)
    model.to_empty(device=device).requires_grad_(False)
    for name, parameter in model.named_parameters():
        nn.init.ones_(parameter) if "norm_" in name and parameter.ndim == 1 else nn.init.normal_(parameter, std=0.02)
    return model


def pipeline(transformer: FluxTransformer2DModel, vae: AutoencoderKL) -> FluxKontextPipeline:
    """A pipeline without text encoders."""
    return FluxKontextPipeline(
        vae=vae, transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip


def timed(editor: KontextEditor, method: str, height: int, width: int, warm_up: int, steps: int) -> list[float]:
    """Seconds of each of `steps` steps of a method on one photo, after `warm_up` others."""
    photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(editor.device)
    times = [time.perf_counter()]

    def callback(step: int, of: int, loss: float) -> None:  # the loss has been read, so the device is done
        times.append(time.perf_counter())
        if step == warm_up + steps:
            raise EnoughError

    with suppress(EnoughError):
        METHODS[method](editor, photo, callback=callback)
    return [after - before for before, after in pairwise(times)][warm_up:]


def measured(
    editor: KontextEditor, plan: str, method: str, size: tuple[int, int], arguments: argparse.Namespace
) -> dict:
    """One row."""
    on_gpu = editor.device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(editor.device)
    try:
        times = timed(editor, method, *size, arguments.warm_up, arguments.steps)
        row = {"seconds_per_step": round(statistics.median(times), 4), "slowest_step": round(max(times), 4)}
    except (RuntimeError, UserError) as error:  # out of memory is a RuntimeError
        row = {"error": " ".join(str(error).split())[:300]}
    if on_gpu:
        row["peak_gib"] = round(torch.cuda.max_memory_allocated(editor.device) / 2**30, 2)
        row["reserved_gib"] = round(torch.cuda.max_memory_reserved(editor.device) / 2**30, 2)
    return {"plan": plan, "method": method, "height": size[0], "width": size[1], **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file, which grows by each row")
    parser.add_argument("--plans", default=",".join(PLANS), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="steps to time; default %(default)s")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them; default %(default)s")
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is if not given")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try this script out")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    logging.set_verbosity_error()
    dtype = torch.float32 if arguments.tiny else torch.bfloat16
    config, sizes = (TINY_TRANSFORMER, TINY_SIZES) if arguments.tiny else (TRANSFORMER, SIZES)
    torch.manual_seed(0)
    started = time.perf_counter()
    model = None
    with arguments.out.open("a") as file:
        for plan in arguments.plans.split(","):
            with torch.device(device):
                vae = AutoencoderKL(**TINY_VAE if arguments.tiny else VAE).to(dtype)
            if plan == "first-block":
                transformer = random_model({**config, "num_layers": 1, "num_single_layers": 0}, device, dtype)
            else:
                transformer = model = model or random_model(config, device, dtype)
            pipe = pipeline(transformer, vae)
            place(pipe, plan, device)
            editor = RandomTexts("flux-kontext", pipe, dtype)
            parts = [part for part in (pipe.transformer, pipe.vae) if plan != "stream"]
            weights = sum(p.nbytes for part in parts for p in part.parameters()) / 2**30
            common = {"weights_on_device_gib": round(weights, 2), "dtype": str(dtype).removeprefix("torch."),
                      "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                      "torch": version("torch"), "diffusers": version("diffusers"), "tiny": arguments.tiny}  # fmt: skip
            print(f"{plan}: ready after {time.perf_counter() - started:.0f} s", flush=True)
            for size in sizes:
                for method in PLANS[plan]:
                    row = measured(editor, plan, method, size, arguments) | common
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(json.dumps(row), f"after {time.perf_counter() - started:.0f} s", flush=True)
            del transformer, pipe, editor, parts


if __name__ == "__main__":
    main()
