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
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from editproof.files import atomic, check_folder, clean, held
from editproof.immunizer.config import TrainConfig
from editproof.immunizer.dataset import Entry, PhotoPrompts, fetch_missing, read_split
from editproof.immunizer.network import NestedUNet, perturb, save_immunizer
from editproof.immunizer.ranks import Ranks, joined
from editproof.randomness import same_bits
from editproof.surroundings import undisturbed

LOGGED = ("loss", "edit", "perturbation")
Batch = tuple[Tensor, Tensor, list[str]]  # photos (B,3,S,S), masks (B,1,S,S), prompts
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


@dataclass
class Progressing:
    """What changes while a network is trained; `position`: how many batches of this epoch are done."""

    network: NestedUNet
    optimizer: torch.optim.Adam
    random: torch.Generator
    epoch: int = 0
    position: int = 0
    step: int = 0


@undisturbed
def train(
    config: TrainConfig,
    data_dir: str | Path,
    output_dir: str | Path,
    device: str | None = None,
    console: Console | None = None,
    tensorboard: bool = False,
) -> Path:
    """Train until `iter_num` epochs are done; returns the folder of the weights, `output_dir/immunizer`.

    Writes `checkpoint.pt` (all that is needed to go on bit for bit) and `immunizer/` every `checkpoint_every` batches
    and at the end, and a line of `log.jsonl` for every batch and validation; with `tensorboard` the same as scalars in
    `tensorboard/`. Under torchrun the batches are shared out (see ranks.py). A data folder that does not exist is
    filled from the hub. Raises UserError for data, settings or a checkpoint that cannot be used, and
    FloatingPointError, with the last checkpoint kept, when a loss is not finite.
    """
    output = Path(output_dir)
    for folder in (output, output / "immunizer"):
        check_folder(folder)
    with joined(device) as (ranks, own):
        if not ranks.first:
            ranks.wait()  # for the lock and the data
            return _train(config, data_dir, output, own, None, False, ranks)
        existed, taken = output.exists(), f"another training is writing to '{output}'; allowed: another output folder"
        try:
            with held(output / ".lock", taken):
                clean([output, output / "immunizer"])
                fetch_missing(data_dir, None if console is None else console.print)
                ranks.wait()
                return _train(config, data_dir, output, own, console, tensorboard, ranks)
        finally:
            if not existed:
                with suppress(OSError):  # unless something is in it
                    output.rmdir()


def _train(
    config: TrainConfig,
    data_dir: str | Path,
    output: Path,
    device: str | None,
    console: Console | None,
    tensorboard: bool,
    ranks: Ranks,
) -> Path:
    if config.transform is not None:
        check_transform(config.transform)
    if ranks.world > 1 and config.network.batch_norm == "stored":
        raise UserError("network.batch_norm: 'stored'; allowed in several processes: 'photo'")
    entries = _chosen(read_split(data_dir, "train", config.images_subdir, config.masks_subdir), config)
    held_out = read_split(data_dir, "validation") if (Path(data_dir) / "validation").exists() else []
    data = _fingerprint(entries)
    checkpoint = _read_checkpoint(output / "checkpoint.pt", config, data)
    editor, size = _editor(config, pick_device(device))
    now = _begun(config, size, editor.device, checkpoint)
    samples = PhotoPrompts(entries, size)
    validation = PhotoPrompts([dataclasses.replace(entry, prompts=entry.prompts[:1]) for entry in held_out], size)
    output.mkdir(parents=True, exist_ok=True)
    board = scalars(output / "tensorboard", now.step) if tensorboard else None
    ranks.wait()  # until all have read the checkpoint
    kept = 0 if checkpoint is None else checkpoint["log_size"]
    log = _Log(output / "log.jsonl", kept, board) if ranks.first else None

    def save() -> int:
        if log is not None:
            _save(now, config, output, data=data, log_size=log.size())
        return now.step

    def tell(**values: Any) -> None:
        if log is not None:
            log.write(**values)

    with same_bits(editor.device), _progress(console) as progress:
        total = config.iter_num * -(-len(samples) // config.batch_size)
        bar = progress.add_task("training", total=total, completed=now.step, status="")
        saved = save() if checkpoint is None else now.step
        while now.epoch < config.iter_num:
            for count, own in _batches(samples, config, now.epoch, now.position, editor.device, ranks):
                started = time.perf_counter()
                values = _step(now, editor, config, count, own, ranks)
                if not all(map(math.isfinite, values.values())):
                    raise FloatingPointError(_not_finite(values, now.step, saved, output))
                tell(step=now.step, epoch=now.epoch, **{name: values[name] for name in LOGGED},
                     seconds=round(time.perf_counter() - started, 3))  # fmt: skip
                progress.update(bar, completed=now.step, status=f"epoch {now.epoch + 1}, loss {values['loss']:.4f}")
                if now.step % config.checkpoint_every == 0:
                    saved = save()
            due = (now.epoch + 1) % config.validate_every == 0 or now.epoch + 1 == config.iter_num
            if due and ranks.first and len(validation):
                score = validate(now.network, editor, validation, config)
                tell(step=now.step, epoch=now.epoch, validation_loss=score)
                progress.update(bar, description=f"validation loss {score:.4f}")
            now.epoch, now.position = now.epoch + 1, 0
        save()
    if log is not None:
        log.close()
    ranks.wait()
    return output / "immunizer"


def _editor(config: TrainConfig, device: torch.device) -> tuple[Editor, int]:
    """The editor to train against, and the side in pixels of the photos; UserError if they do not go together."""
    editor = load_editor(config.attack_model_link, device, _editor_dtype(device))
    size, levels = config.resolution or editor.size, len(config.network.depths)
    if not editor.masked:
        raise UserError(f"attack_model_link: {editor.name!r} takes no mask; allowed: an inpainting editor")
    if size % editor.multiple:
        raise UserError(f"resolution: {size}; allowed for {editor.name!r}: a multiple of {editor.multiple}")
    if size <= 2 ** (levels - 1):
        raise UserError(f"resolution: {size}; allowed for {levels} network.depths: more than {2 ** (levels - 1)}")
    return editor, size


def _begun(config: TrainConfig, size: int, device: torch.device, checkpoint: dict[str, Any] | None) -> Progressing:
    """A new training, or one that goes on where a checkpoint was written."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NestedUNet(**dataclasses.asdict(config.network))
    network.trained_eps, network.size = config.eps or None, size
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    now = Progressing(network, optimizer, torch.Generator().manual_seed(config.seed))
    if checkpoint is not None:
        network.load_state_dict(checkpoint["network"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        now.random.set_state(checkpoint["random"])
        now.epoch, now.position, now.step = (checkpoint[name] for name in ("epoch", "position", "step"))
    return now


def _step(
    now: Progressing,
    editor: Editor,
    config: TrainConfig,
    count: int,
    own: Batch | None,
    ranks: Ranks,
) -> dict[str, float]:
    """A step of Adam on one batch; the weights stay as they are where the loss or its gradient is not finite.

    `count`: of the batch's photos; `own`: those that this process edits, None where it has none. Returns the loss, its
    parts `edit` and `perturbation`, and the norm of the gradient.
    """
    known = config.network.in_channels == 3 or torch.rand((), generator=now.random).item() < config.mask_known
    generators = [torch.Generator().manual_seed(_seed(now.random)) for _ in range(count)]
    transform = make_transform(config.transform, editor, _seed(now.random) if config.transform else 0)
    now.optimizer.zero_grad(set_to_none=True)
    numbers = torch.zeros(2)
    if own is not None:
        parts = losses(now.network.train(), editor, *own, config, ranks.share(generators), known, transform)
        edit, perturbation = (part.sum() / count for part in parts)
        (edit + perturbation).backward()
        numbers = torch.stack([edit, perturbation]).detach()
    edit, perturbation = ranks.summed(now.network, numbers)
    loss = edit + perturbation
    norm = torch.nn.utils.get_total_norm([p.grad for p in now.network.parameters() if p.grad is not None])
    values = {"loss": loss.item(), "edit": edit.item(), "perturbation": perturbation.item(), "gradient": norm.item()}
    if all(map(math.isfinite, values.values())):
        now.optimizer.step()
        now.position, now.step = now.position + 1, now.step + 1
    return values


def _save(now: Progressing, config: TrainConfig, output: Path, **more: Any) -> None:
    """Write checkpoint and weights; `more`: of the data and the log."""
    state = {"network": now.network.state_dict(), "optimizer": now.optimizer.state_dict(),
             "random": now.random.get_state(), "epoch": now.epoch, "position": now.position, "step": now.step,
             "config": _plain(config), **more}  # fmt: skip
    with atomic(output / "checkpoint.pt") as file:
        torch.save(state, file)
    save_immunizer(now.network, output / "immunizer", trained_against=config.attack_model_link, steps=now.step)


def _not_finite(values: dict[str, float], step: int, saved: int, output: Path) -> str:
    what = "gradient" if math.isfinite(values["loss"]) else "loss"
    return (
        f"training stopped: the {what} of step {step + 1} is not finite; '{output / 'checkpoint.pt'}' and "
        f"'{output / 'immunizer'}' hold step {saved}; a lower learning_rate may help (in a new output folder)"
    )


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
    samples: PhotoPrompts, config: TrainConfig, epoch: int, position: int, device: torch.device, ranks: Ranks
) -> Iterator[tuple[int, Batch | None]]:
    """The epoch's batches from `position` on: how many photos each has, and this process's share, None if it has none.

    The order depends on the seed and the epoch only. Nobody reads what others edit.
    """
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(config.seed + epoch)).tolist()
    chunks = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)][position:]
    shares = [ranks.share(chunk) for chunk in chunks]
    read = [share for share in shares if share]
    own = torch.Generator()  # DataLoader would otherwise draw from the global one
    loaded = iter(DataLoader(samples, batch_sampler=read, num_workers=config.workers, generator=own))
    for chunk, share in zip(chunks, shares, strict=True):
        if not share:
            yield len(chunk), None
            continue
        images, mask, prompts = next(loaded)
        yield len(chunk), (images.to(device), mask.to(device), list(prompts))


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


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _plain(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _fingerprint(entries: Sequence[Entry]) -> str:
    """What identifies the training data: names and prompts, in their order."""
    return hashlib.sha256(json.dumps([(e.image.name, e.mask.name, e.prompts) for e in entries]).encode()).hexdigest()


def _read_checkpoint(path: Path, config: TrainConfig, data: str) -> dict[str, Any] | None:
    """The checkpoint to go on from, None for a fresh start. Raises UserError if it belongs to another training."""
    if not path.exists():
        for name in ("log.jsonl", "immunizer/model.safetensors", "immunizer/config.json"):
            other = path.parent / name
            if other.is_dir() or (other.exists() and other.stat().st_size):
                raise UserError(f"'{other}' is of no training in this folder; allowed: another output folder")
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


def scalars(folder: Path, step: int) -> Any:
    """A TensorBoard writer to `folder`, which forgets what an earlier run has told of later steps than `step`.

    Raises UserError without the extra `tensorboard`.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard's files need an extra; allowed: pip install 'editproof[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)


def _progress(console: Console | None) -> Progress:
    text = TextColumn("{task.description}  {task.fields[status]}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console or Console(quiet=True))


class _Log:
    """A JSONL file that is first cut to `size` bytes, so that no step is logged twice after a resume.

    `board`, if there is one, is told every number as a scalar of its step.
    """

    def __init__(self, path: Path, size: int, board: Any = None) -> None:
        self.path, self.board = path, board
        with path.open("ab") as file:
            file.truncate(size)

    def write(self, **values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        for name, value in values.items() if self.board is not None else ():
            if name != "step":
                self.board.add_scalar(f"training/{name}", value, values["step"])

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def size(self) -> int:
        return self.path.stat().st_size
