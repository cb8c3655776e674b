"""Training a one-pass immunizer against an editor, as DiffVax does (arXiv 2411.17957).

Each step immunizes a batch with the network, edits it (4 denoising steps, guidance 7.5) and minimises, per photo,

    alpha * L1(perturbation) / kept area  +  L1(edited region - mid-grey) / edited area        (pixels in [-1,1])

with Adam, back through the editor. Differences from the authors' code: photos are cut to their middle square instead of
squashed to 512x512, areas and losses per photo instead of per batch, each photo its own noise, norms on each photo's
own statistics (network.batch_norm), an optional bound (eps), a network that sees the whole photo
(network.in_channels: 4), photos that go through counters before they are edited (transform).
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader

from editproof.counters.transform import check_transform, make_transform
from editproof.editors import load_editor, pick_device
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import atomic, check_folder
from editproof.immunizer.config import TrainConfig
from editproof.immunizer.dataset import Entry, PhotoPrompts, read_split
from editproof.immunizer.network import NestedUNet, perturb, save_immunizer
from editproof.randomness import same_bits

MAY_CHANGE = ("iter_num", "checkpoint_every", "resume", "workers")  # between a checkpoint and its continuation


def losses(
    network: NestedUNet,
    editor: Editor,
    images: Tensor,
    mask: Tensor,
    prompts: Sequence[str],
    config: TrainConfig,
    generators: Sequence[torch.Generator],
    mask_known: bool = True,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """DiffVax's two losses, `(B,)` each: of the edited region, and of the perturbation (times alpha).

    images (B,3,H,W) in [0,1], mask (B,1,H,W) with 1 = edit region, a generator for each photo. A 4-channel network that
    is not told the mask perturbs the whole photo, and the whole photo then counts. transform: what happens to a
    protected photo before it is edited.
    """
    told = mask if mask_known else None
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        delta = perturb(network, images, told, config.eps or None)
    protected = (images + delta).clamp(0, 1)
    seen = protected if transform is None else transform(protected)
    edited = editor.sample(
        seen, prompts, mask=mask, steps=config.steps, guidance=config.guidance, eta=config.eta, generator=generators
    )
    kept = 1 - mask if mask_known else torch.ones_like(mask)
    edit = (2 * (edited - 0.5) * mask).abs().sum((1, 2, 3)) / mask.sum((1, 2, 3))
    perturbation = config.alpha * (2 * (protected - images) * kept).abs().sum((1, 2, 3)) / kept.sum((1, 2, 3))
    return edit, perturbation


def train(
    config: TrainConfig,
    data_dir: str | Path,
    output_dir: str | Path,
    device: str | None = None,
    console: Console | None = None,
) -> Path:
    """Train until `iter_num` epochs are done; returns the folder of the weights, `output_dir/immunizer`.

    Writes `checkpoint.pt` (all that is needed to go on bit for bit) and `immunizer/` every `checkpoint_every` batches
    and at the end, and a line of `log.jsonl` for every batch and validation. Raises UserError for data, settings or a
    checkpoint that cannot be used, and FloatingPointError, with the last checkpoint kept, when a loss is not finite.
    """
    output = Path(output_dir)
    check_folder(output)
    if config.transform is not None:
        check_transform(config.transform)
    entries = _chosen(read_split(data_dir, "train", config.images_subdir, config.masks_subdir), config)
    held_out = read_split(data_dir, "validation") if (Path(data_dir) / "validation").exists() else []
    checkpoint = _read_checkpoint(output / "checkpoint.pt", config, _fingerprint(entries))

    chosen_device = pick_device(device)
    editor = load_editor(config.attack_model_link, chosen_device, _editor_dtype(chosen_device))
    size = config.resolution or editor.size
    if not editor.masked:
        raise UserError(f"attack_model_link: {editor.name!r} takes no mask; allowed: an inpainting editor")
    if size % editor.multiple:
        raise UserError(f"resolution: {size}; allowed for {editor.name!r}: a multiple of {editor.multiple}")
    levels = len(config.network.depths)
    if size <= 2 ** (levels - 1):
        raise UserError(f"resolution: {size}; allowed for {levels} network.depths: more than {2 ** (levels - 1)}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NestedUNet(**dataclasses.asdict(config.network))
    network.trained_eps, network.size = config.eps or None, size
    network.to(chosen_device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    random = torch.Generator().manual_seed(config.seed)
    epoch = position = step = log_size = 0
    if checkpoint is not None:
        network.load_state_dict(checkpoint["network"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        random.set_state(checkpoint["random"])
        epoch, position, step, log_size = (checkpoint[x] for x in ("epoch", "position", "step", "log_size"))

    samples = PhotoPrompts(entries, size)
    validation = PhotoPrompts([dataclasses.replace(entry, prompts=entry.prompts[:1]) for entry in held_out], size)
    per_epoch = -(-len(samples) // config.batch_size)
    output.mkdir(parents=True, exist_ok=True)
    log = _Log(output / "log.jsonl", log_size)

    def save() -> None:
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": random.get_state(),
            "epoch": epoch,
            "position": position,
            "step": step,
            "log_size": log.size(),
            "config": _plain(config),
            "data": _fingerprint(entries),
        }
        with atomic(output / "checkpoint.pt") as file:
            torch.save(state, file)
        save_immunizer(network, output / "immunizer", trained_against=config.attack_model_link, steps=step)

    with same_bits(chosen_device), _progress(console) as progress:
        bar = progress.add_task("training", total=config.iter_num * per_epoch, completed=step, status="")
        if checkpoint is None:
            save()
        saved = step
        while epoch < config.iter_num:
            for images, mask, prompts in _batches(samples, config, epoch, position, chosen_device):
                started = time.perf_counter()
                known = config.network.in_channels == 3 or _rand(random) < config.mask_known
                seeds = [_seed(random) for _ in images]
                generators = [torch.Generator().manual_seed(seed) for seed in seeds]
                seed = _seed(random) if config.transform else 0
                transform = make_transform(config.transform, editor, seed)
                optimizer.zero_grad(set_to_none=True)
                parts = losses(network.train(), editor, images, mask, prompts, config, generators, known, transform)
                edit, perturbation = (part.mean() for part in parts)
                loss = edit + perturbation
                loss.backward()
                norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
                _check_finite(loss, norm, step, saved, output)
                optimizer.step()
                position, step = position + 1, step + 1
                values = {"loss": loss.item(), "edit": edit.item(), "perturbation": perturbation.item()}
                log.write(step=step, epoch=epoch, **values, seconds=round(time.perf_counter() - started, 3))
                progress.update(bar, completed=step, status=f"epoch {epoch + 1}, loss {values['loss']:.4f}")
                if step % config.checkpoint_every == 0:
                    save()
                    saved = step
            if len(validation) and ((epoch + 1) % config.validate_every == 0 or epoch + 1 == config.iter_num):
                score = validate(network, editor, validation, config)
                log.write(step=step, epoch=epoch, validation_loss=score)
                progress.update(bar, description=f"validation loss {score:.4f}")
            epoch, position = epoch + 1, 0
        save()
    return output / "immunizer"


@torch.no_grad()
def validate(network: NestedUNet, editor: Editor, samples: PhotoPrompts, config: TrainConfig) -> float:
    """The mean loss over `samples`, with the same noise at every call; a 4-channel network is not told the masks."""
    network.eval()
    transform = make_transform(config.transform, editor, config.seed)
    total = 0.0
    for images, mask, prompts in DataLoader(samples, config.batch_size, num_workers=config.workers):
        images, mask = images.to(editor.device), mask.to(editor.device)
        generators = [torch.Generator().manual_seed(config.seed) for _ in images]
        known = config.network.in_channels == 3
        parts = losses(network, editor, images, mask, prompts, config, generators, known, transform)
        total += sum(part.sum().item() for part in parts)
    return total / len(samples)


def _batches(
    samples: PhotoPrompts, config: TrainConfig, epoch: int, position: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """The epoch's batches from `position` on; the order depends on the seed and the epoch only."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(config.seed + epoch)).tolist()
    chunks = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)][position:]
    own = torch.Generator()  # DataLoader would otherwise draw from the global one
    for images, mask, prompts in DataLoader(samples, batch_sampler=chunks, num_workers=config.workers, generator=own):
        yield images.to(device), mask.to(device), list(prompts)


def _chosen(entries: list[Entry], config: TrainConfig) -> list[Entry]:
    if config.train_all:
        return entries
    wrong = [index for index in config.image_index_list if index >= len(entries)]
    if wrong:
        raise UserError(f"image_index_list: {wrong[0]}; allowed: 0 to {len(entries) - 1}, as there are {len(entries)}")
    return [entries[index] for index in config.image_index_list]


def _editor_dtype(device: torch.device) -> torch.dtype | None:
    """The editor's default, but not float16: small gradients would vanish in it."""
    return torch.float32 if device.type == "cuda" and not torch.cuda.is_bf16_supported(False) else None


def _check_finite(loss: Tensor, norm: Tensor, step: int, saved: int, output: Path) -> None:
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        what = "loss" if not torch.isfinite(loss) else "gradient"
        raise FloatingPointError(
            f"training stopped: the {what} of step {step + 1} is not finite; '{output / 'checkpoint.pt'}' and "
            f"'{output / 'immunizer'}' hold step {saved}; a lower learning_rate may help (in a new output folder)"
        )


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _rand(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _plain(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _fingerprint(entries: Sequence[Entry]) -> str:
    """What identifies the training data: names and prompts, in their order."""
    return hashlib.sha256(json.dumps([(e.image.name, e.mask.name, e.prompts) for e in entries]).encode()).hexdigest()


def _read_checkpoint(path: Path, config: TrainConfig, data: str) -> dict[str, Any] | None:
    """The checkpoint to go on from, None for a fresh start. Raises UserError if it belongs to another training."""
    if not path.exists():
        return None
    if not config.resume:
        raise UserError(f"'{path}' exists; allowed: resume: true to go on from it, or another output folder")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        before = checkpoint["config"]
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise UserError(f"checkpoint '{path}' cannot be read; allowed: one that `editproof train` wrote") from error
    now = _plain(config)
    for name in sorted(set(before) | set(now)):
        if name not in MAY_CHANGE and before.get(name) != now.get(name):
            raise UserError(
                f"{name}: {now.get(name)!r}, but '{path}' was trained with {before.get(name)!r}; "
                "allowed: the same value, or another output folder"
            )
    if checkpoint["data"] != data:
        raise UserError(f"'{path}' was trained on other photos or prompts; allowed: the same, or another output folder")
    return checkpoint


def _progress(console: Console | None) -> Progress:
    text = TextColumn("{task.description}  {task.fields[status]}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console or Console(quiet=True))


class _Log:
    """A JSONL file that is first cut to `size` bytes, so that no step is logged twice after a resume."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        with path.open("ab") as file:
            file.truncate(size)

    def write(self, **values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def size(self) -> int:
        return self.path.stat().st_size
