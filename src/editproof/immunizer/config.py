"""The settings of `editproof train`: DiffVax's names (arXiv 2411.17957), checked before anything is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editproof.errors import UserError
from editproof.parsing import Allowed, read_yaml, settings_of


@dataclass(frozen=True)
class NetworkConfig:
    """The immunizer's shape; the defaults are DiffVax's network (9,163,395 parameters)."""

    depths: tuple[int, ...] = (32, 64, 128, 256, 512)
    in_channels: int = 3  # 3: sees the masked photo, as DiffVax's; 4: the whole photo and, if it is told, the mask
    batch_norm: str = "photo"  # "photo": each photo's own statistics; "stored": PyTorch's BatchNorm


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training; the defaults are DiffVax's, but for the editor."""

    iter_num: int = 1_000_000  # epochs
    learning_rate: float = 1e-5  # of Adam
    batch_size: int = 5
    alpha: float = 4.0  # weight of the perturbation's size against the edit's distance to grey
    attack_model_link: str = "tiny-inpaint"  # an inpainting editor: name, hub id or folder
    train_all: bool = True  # false: only the photos in image_index_list
    image_index_list: tuple[int, ...] = ()  # lines of train/metadata.jsonl, the first is 0
    images_subdir: str | None = None  # of the training photos, below the data folder; null: as metadata.jsonl says
    masks_subdir: str | None = None  # of their masks; null: train/masks
    steps: int = 4  # denoising steps that the loss is taken back through
    guidance: float = 7.5
    eta: float = 0.0  # of DDIM in these steps: 0 adds no noise, as DiffVax trains (edits are made with 1)
    transform: str | None = None  # counters that the edited photos go through, one drawn a batch: none,jpeg-diff:75
    eps: float | None = None  # Linf bound in [0,1], such as 8/255; null or 0: none, as DiffVax
    resolution: int | None = None  # side in pixels; null: the editor's
    network: NetworkConfig = field(default_factory=NetworkConfig)
    mask_known: float = 0.5  # share of batches in which a 4-channel network is told the mask
    seed: int = 5
    checkpoint_every: int = 100  # batches
    validate_every: int = 1  # epochs
    resume: bool = True  # go on from the checkpoint in the output folder
    workers: int = 2  # processes that read photos


# name: (smallest, largest), both allowed
LIMITS: dict[str, tuple[float, float]] = {
    "iter_num": (1, float("inf")),
    "learning_rate": (1e-30, float("inf")),
    "batch_size": (1, 100_000),
    "alpha": (0, float("inf")),
    "image_index_list": (0, float("inf")),
    "steps": (1, 1000),
    "guidance": (0, 1000),
    "eta": (0, 1),
    "eps": (0, 1),
    "resolution": (16, 8192),
    "network.depths": (1, 8192),
    "network.in_channels": (3, 4),
    "mask_known": (0, 1),
    "seed": (0, 2**62),
    "checkpoint_every": (1, float("inf")),
    "validate_every": (1, float("inf")),
    "workers": (0, 256),
}
CHOICES = {"network.batch_norm": ("photo", "stored")}

# In DiffVax's own configs/train.yml: what has nothing to set here, and its editor, which is no longer on the hub.
UNUSED = ("immunization_model", "project_name", "image_prompt_json")
MOVED = {"runwayml/stable-diffusion-inpainting": "sd-inpaint"}


def read_config(
    path: str | Path, changes: Mapping[str, Any] | None = None, tell: Callable[[str], None] | None = None
) -> TrainConfig:
    """The settings in a YAML file, DiffVax's own included, with `changes` laid over it.

    `tell` is given one line that says which of DiffVax's settings were left out or replaced, if any were. Raises
    UserError for what is not allowed.
    """
    settings = {**read_yaml(path), **(changes or {})}
    unused = [name for name in UNUSED if name in settings]
    news = [f"not used here: {', '.join(unused)}"] if unused else []
    link = settings.get("attack_model_link")
    if isinstance(link, str) and link in MOVED:
        settings["attack_model_link"] = MOVED[link]
        news.append(f"attack_model_link: {MOVED[link]} in place of {link}, which was deleted from the hub")
    if news and tell is not None:
        tell(f"config '{path}': {'; '.join(news)}")
    return make_config({name: value for name, value in settings.items() if name not in unused})


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """The settings with the given values, the others by default. Raises UserError for what is not allowed."""
    config: TrainConfig = settings_of(TrainConfig, values, Allowed(LIMITS, CHOICES))
    if not config.train_all and not config.image_index_list:
        raise UserError("image_index_list is empty; with train_all: false it must name at least one photo")
    if len(config.network.depths) < 2:
        raise UserError(f"network.depths {list(config.network.depths)}; allowed: two levels or more")
    return config
