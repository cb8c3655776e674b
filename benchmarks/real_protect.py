"""`editproof protect --editor FLUX` as a person runs it, at FLUX Kontext's real size with random weights.

    PYTHONPATH=src python benchmarks/real_protect.py --out real_protect.jsonl    # one GPU; 35 GB of disk, a few minutes
    PYTHONPATH=src python benchmarks/real_protect.py --out outputs/tiny.jsonl --tiny   # to try it, on a CPU

A folder in diffusers' layout is written first: transformer, autoencoder and both text encoders of FLUX.1 Kontext's
sizes, the tokenizers of tiny-kontext. Then the command runs once for each of --limits, GiB of the GPU's memory that
PyTorch may take, in a process of its own, on a made photo of 1024x1024. A line of JSON each: how it ended, seconds in
all, and the most memory that PyTorch held.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from PIL import Image
from real_sizes import FLUX, FLUX_VAE, TINY, random_model
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import editproof
from editproof.editors import pick_device

CLIP = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
T5 = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
SMALL_CLIP = CLIP | {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
SMALL_T5 = T5 | {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
LIMITED = """
import sys, torch
limit = float(sys.argv.pop(1))
if torch.cuda.is_available():
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit * 2**30 / whole))
from editproof.cli.main import main
try:
    main()
finally:
    print("GiB", torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0)
"""


class Encoder(T5EncoderModel):
    """Made from settings by name, as diffusers' models are."""

    def __init__(self, **settings: object) -> None:
        super().__init__(T5Config(feed_forward_proj="gated-gelu", is_encoder_decoder=False, **settings))


class Texts(CLIPTextModel):
    def __init__(self, **settings: object) -> None:
        super().__init__(CLIPTextConfig(num_hidden_layers=12, eos_token_id=2, **settings))


def write_editor(folder: Path, tiny: bool) -> None:
    """FLUX Kontext in diffusers' layout, with random weights."""
    shutil.copytree(Path(editproof.__file__).parent / "assets" / "tiny-kontext", folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKL"]
    (folder / "model_index.json").write_text(json.dumps(index))
    device, dtype = pick_device(None), torch.float32 if tiny else torch.bfloat16
    parts = {
        "transformer": (FluxTransformer2DModel, FLUX | (TINY["flux"] if tiny else {})),
        "vae": (AutoencoderKL, FLUX_VAE | (TINY["vae"] if tiny else {})),
        "text_encoder": (Texts, SMALL_CLIP if tiny else CLIP),
        "text_encoder_2": (Encoder, SMALL_T5 if tiny else T5),
    }
    for name, (kind, settings) in parts.items():
        shutil.rmtree(folder / name)
        random_model(kind, settings, device, dtype).to("cpu").save_pretrained(folder / name)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def protect(editor: Path, photo: Path, steps: int, limit: float, more: list[str], seconds: float) -> dict[str, object]:
    """One run of the command, in a process that may take `limit` GiB of the GPU."""
    out = photo.with_name(f"protected-{limit:g}")
    command = [sys.executable, "-c", LIMITED, str(limit), "protect", str(photo), "--editor", str(editor)]
    command += ["--method", "decontext", "--steps", str(steps), "--out", str(out), *more]
    start, row = time.perf_counter(), {"limit_gib": limit, "steps": steps, "side": Image.open(photo).size[0]}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return row | {"error": f"no end within {seconds:.0f} s"}
    row |= {"code": done.returncode, "seconds": round(time.perf_counter() - start, 1)}
    row["gib"] = round(float(done.stdout.rsplit("GiB", 1)[-1]), 2) if "GiB" in done.stdout else None
    if done.returncode:
        return row | {"error": (done.stderr or done.stdout).strip()[-600:]}
    said = json.loads((out / "photo-protected.json").read_text())
    return row | {name: said[name] for name in ("device", "psnr") if name in said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limits", type=float, nargs="+", default=[80, 24, 16])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", type=int, default=1024, help="of the photo")
    parser.add_argument("--case-limit", type=float, default=200, help="seconds that a run may take")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--more", nargs="*", default=[], help="further options of `editproof protect`")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, args.out.open("a") as file:
        place, start = Path(folder), time.perf_counter()
        write_editor(place / "flux", args.tiny)
        print(f"the editor was written in {time.perf_counter() - start:.0f} s", flush=True)
        blots = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
        blots.resize((args.side, args.side), Image.Resampling.BICUBIC).save(place / "photo.png")
        for limit in args.limits:
            row = protect(place / "flux", place / "photo.png", args.steps, limit, args.more, args.case_limit)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
