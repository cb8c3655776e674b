"""Autoencoders by themselves: the latent spaces that `--set spaces=...` names. No diffusion model is loaded."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.building import ONE_AT_A_TIME
from editproof.editors.hub import one_line, quiet
from editproof.editors.packed import FILE, load_packed
from editproof.errors import UserError

ASSETS = Path(__file__).parents[1] / "assets"
# Of each name a folder (embedded students of distilled autoencoders of Stable Diffusion 1 and 2 and of FLUX.1) or a hub
# id: SDXL's distilled autoencoder (MIT; madebyollin/taesd and taef1 are the students' teachers), FLUX.2's own.
SPACES = {
    "sd1": str(ASSETS / "tiny-inpaint" / "vae"),
    "sdxl": "madebyollin/taesdxl",
    "flux1": str(ASSETS / "tiny-kontext" / "vae"),
    "flux2": "black-forest-labs/FLUX.2-klein-4B",
}
CLASSES = ("AutoencoderTiny", "AutoencoderKL", "AutoencoderKLFlux2")
MULTIPLE = 16  # of the sides of pictures that go through


def space_names(spaces: str) -> list[str]:
    """The names, hub ids and paths of a text that lists them with commas. Raises UserError where there is none."""
    names = [name.strip() for name in spaces.split(",") if name.strip()]
    if not names:
        raise UserError(f"spaces '{spaces}' names no autoencoder; allowed: {_allowed()}")
    return names


def load_spaces(spaces: str, device: torch.device) -> list[Any]:
    """Diffusers' autoencoders, float32, without gradients to their weights.

    Args:
        spaces: Names in SPACES, hub ids (owner/model), folders in diffusers' layout (of an autoencoder, or of a
            pipeline with one) or .safetensors files of an AutoencoderTiny, with commas between them.
        device: Where they compute.

    Returns:
        One autoencoder each, in the order of the text; they are kept for the next call.

    Raises:
        UserError: For a name that is unknown, weights that are not there, and models of other classes.
    """
    return [_load(name, str(device)) for name in space_names(spaces)]


def round_trip(vae: Any, images: Tensor) -> Tensor:
    """What an autoencoder makes of images (B,3,H,W) in [0,1]: encoded (the mean) and decoded, not clamped.

    Any size: edges are repeated up to a multiple of 16. Differentiable.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
    encoded = vae.encode(2 * padded - 1)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    return (vae.decode(latents).sample / 2 + 0.5)[..., :height, :width]


def _allowed() -> str:
    return f"{', '.join(SPACES)}, a hub id owner/model, a folder, or a .safetensors file of an AutoencoderTiny"


@lru_cache(maxsize=8)
def _load(name: str, device: str) -> Any:
    source = SPACES.get(name, name)
    path = Path(source)
    if name not in SPACES and not path.exists() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise UserError(f"unknown latent space '{name}'; allowed: {_allowed()}")
    try:
        with ONE_AT_A_TIME:
            vae = _from_file(path) if path.is_file() else _from_layout(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"latent space '{name}' cannot be loaded: {one_line(error)}") from error
    return vae.to(device).requires_grad_(False).eval()


def _from_layout(source: str) -> Any:
    """From a hub id or a folder, of an autoencoder or of a pipeline that has one in `vae`."""
    import diffusers

    subfolder = "vae" if Path(source, "vae").is_dir() else None
    with quiet():
        try:
            config = diffusers.AutoencoderTiny.load_config(source, subfolder=subfolder)
        except OSError:
            if Path(source).is_dir():
                raise
            subfolder = "vae"
            config = diffusers.AutoencoderTiny.load_config(source, subfolder=subfolder)
        class_name = config.get("_class_name")
        if class_name not in CLASSES:
            raise ValueError(f"it is a {class_name}; allowed: {', '.join(CLASSES)}")
        folder = Path(source, subfolder or "")
        if (folder / FILE).is_file():
            return load_packed(folder, "diffusers", class_name)
        return getattr(diffusers, class_name).from_pretrained(
            source, subfolder=subfolder, dtype=torch.float32, use_safetensors=True
        )


def _from_file(path: Path) -> Any:
    """An AutoencoderTiny of the usual size whose weights, in any precision, are in one file."""
    import diffusers
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ValueError("a file; allowed: .safetensors")
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    if "decoder.layers.0.weight" not in weights:
        raise ValueError("not an AutoencoderTiny in diffusers' naming")
    vae = diffusers.AutoencoderTiny(latent_channels=weights["decoder.layers.0.weight"].shape[1])
    vae.load_state_dict(weights)
    return vae
