"""The settings of `editproof bench`: from a YAML file, overridden by the command line, checked before any work."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from editproof.editors import EDITORS
from editproof.errors import UserError
from editproof.parsing import (
    LARGEST_SEED,
    Allowed,
    parse_yaml,
    read_number,
    read_texts,
    read_yaml,
    settings_of,
)

Prompts = tuple[str, ...] | dict[str, tuple[str, ...]]  # the same for all, or by an editor's name or kind

MASKS = {
    "auto": "the data's, or where it has none a centred ellipse is kept",
    "files": "the data's; an error where one is missing",
    "centre": "a centred ellipse is kept, whatever the data has",
}
REFERENCES = {
    "same": "the edit of the original after the same counter-attack: what the protection changes",
    "untouched": "the edit of the original: what protection and counter-attack change together",
}
CACHES = {"all": "every picture", "photos": "protected photos and edits of originals, not edits of protected photos"}
PRESETS = ("fast", "paper", "sizes")


@dataclass(frozen=True)
class BenchConfig:
    """All settings of a benchmark; the fields are the names in the YAML file and of the options."""

    data: str  # folder: DiffVax's layout, images/ and prompts.csv, or just pictures
    methods: tuple[str, ...] = ()  # NAME[:setting=value...]; empty: none and every method that runs as it is
    editors: tuple[str, ...] = ("tiny-inpaint",)
    counters: tuple[str, ...] = ("none", "jpeg:75", "resize:0.5")
    metrics: tuple[str, ...] = ()  # empty: all that need nothing installed or downloaded
    prompts: Prompts | None = None  # None: the data's
    seeds: tuple[int, ...] = (0, 1, 2)  # of edits and counter-attacks
    transfer: bool = False  # every method against each of the editors, tested on all of them
    budgets: tuple[str, ...] = ("8/255",)  # 8/255 or 0.03 (Linf), l2:8 (at 512x512), paper (each method's own)
    match: str | None = None  # METRIC=VALUE: instead of budgets, the one at which the photo is that visible
    preset: str | None = None  # the methods' settings: fast or paper
    masks: str = "auto"
    reference: str = "same"  # what the edit of a protected photo is compared with
    size: int | None = None  # photos are worked on at the area of this square; None: as the editor sees them
    edit_steps: int | None = None  # None: the editor's own, with preset fast FAST_EDIT_STEPS
    guidance: float | None = None  # None: the editor's own
    scheduler: str | None = None
    protect_seed: int = 1_000_000  # apart from `seeds`, so that no method has seen the noise of an edit
    sources: dict[str, str] | None = None  # metric: hub id or folder of its model
    limit: int | None = None  # only the first photos
    batch: int | None = None  # photos that are worked on together; None: 16 on a GPU, 1 on a CPU
    workers: int | None = None  # chunks at the same time, each with models of its own; None: see default_workers
    cache: str = "all"
    gallery: int = 4  # photos shown in the report
    device: str | None = None
    published: dict[str, Any] | None = None  # a paper's numbers, shown beside ours


# A row made with one value of these cannot stand beside a row made with another.
FIXED = (
    "preset", "masks", "reference", "size", "edit_steps", "guidance", "scheduler", "protect_seed", "sources", "limit",
)  # fmt: skip
FAST_EDIT_STEPS = 8
CHOICES: dict[str, tuple[str, ...]] = {
    "masks": tuple(MASKS), "reference": tuple(REFERENCES), "cache": tuple(CACHES), "preset": PRESETS,
}  # fmt: skip
LIMITS: dict[str, tuple[float, float]] = {
    "size": (16, LARGEST_SEED), "edit_steps": (1, LARGEST_SEED), "protect_seed": (0, LARGEST_SEED),
    "limit": (1, LARGEST_SEED), "batch": (1, LARGEST_SEED), "workers": (1, LARGEST_SEED), "gallery": (0, LARGEST_SEED),
    "guidance": (0, 1000),
}  # fmt: skip


def read_config(path: str | Path | None, changes: Mapping[str, Any]) -> BenchConfig:
    """The settings in a YAML file with `changes` laid over them. Raises UserError for what is not allowed."""
    values = {} if path is None else read_yaml(path)
    if "budgets" in changes and "match" not in changes:
        values = {name: value for name, value in values.items() if name != "match"}
    return make_config({**values, **changes})


def make_config(values: Mapping[str, Any]) -> BenchConfig:
    """The settings with the given values, the others by default. Raises UserError for what is not allowed."""
    special = {"data": _data, "prompts": read_prompts, "seeds": _seeds}
    config: BenchConfig = settings_of(BenchConfig, {"data": None, **values}, Allowed(LIMITS, CHOICES, special))
    for name in config.editors:
        check_editor_name(name)
    return config


def check_editor_name(name: str) -> None:
    """Raise UserError for what cannot be an editor, without loading it."""
    if name in EDITORS or Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return
    raise UserError(f"unknown editor '{name}'; allowed: {', '.join(EDITORS)}, a hub id owner/model, or a folder")


def editor_label(name: str) -> str:
    """How an editor is called in rows and reports: no path of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def _data(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UserError("no data: name a folder of photos with --data or in the config")
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = value if isinstance(value, list | tuple) else [value]
    if not seeds:
        raise UserError("seeds is empty; allowed: one or more whole numbers")
    return tuple(dict.fromkeys(read_number("seeds", seed, int, 0, LARGEST_SEED - 1) for seed in seeds))


def read_prompts(value: Any) -> Prompts:
    """Prompts from a list, from a mapping of editors to lists, or from a file: .txt (one a line) or .yml (either).

    Raises UserError if there is none.
    """
    if isinstance(value, str):
        try:
            text = Path(value).read_text(encoding="utf-8")
            lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
            value = parse_yaml(text) if Path(value).suffix in (".yml", ".yaml") else lines
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UserError(f"prompts '{value}' cannot be read: {why}") from None
    if isinstance(value, dict) and value:
        return {str(editor): read_texts(f"prompts of {editor}", prompts) for editor, prompts in value.items()}
    return read_texts("prompts", value)


def published_form(config: BenchConfig) -> dict[str, Any]:
    """The settings as they are written to disk: no absolute path of this machine where a name will do."""
    values = {name: _plain(value) for name, value in asdict(config).items() if value is not None}
    if Path(config.data).is_absolute():
        values["data"] = Path(config.data).name
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
