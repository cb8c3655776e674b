"""The table of aims: does a person see that protection holds, and do they see the protection?

    python benchmarks/aims.py PHOTOS --masks MASKS --out outputs/aims
    python benchmarks/aims.py PHOTOS --masks MASKS --out outputs/aims --weights WEIGHTS --spaces sd1=work/sd1/model
    python benchmarks/aims.py PHOTOS --masks MASKS --out outputs/aims --method autoencoder --set spaces=sd1,flux1

PHOTOS and MASKS are folders with files of the same names but for their endings (white = the editor may repaint, the
person black), all of one size, or a pack as training/README.md describes it (portraits-val.tar). Protected as a user
does it without further words: 8/255, the whole photo, no mask told. --weights: a folder with distilled autoencoders of
real latent spaces (sd1, sdxl, flux1, flux2; files as in training/spaces.py); --spaces: more, NAME=SOURCE, as `--set
spaces=` takes them. Each row is printed, and written to aims.json and aims.md, as soon as it is known; pictures only
with --pictures.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

import editproof
from editproof.budgets import Linf
from editproof.counters.codecs import jpeg
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.editors.spaces import load_spaces, round_trip
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.metrics import psnr
from editproof.metrics.contrast import contrast_structure
from editproof.metrics.faces import recognised
from editproof.parsing import parse_settings
from editproof.photo.masks import open_mask
from editproof.photo.reading import open_photo

Row = tuple[str, list[float | None], list[float | None]]
TRAINING = Path(__file__).parents[1] / "training"
DISTILLED = ("sd1", "sdxl", "flux1", "flux2")
COLOURS = ("red", "green", "blue", "white")
INSTRUCTIONS = (
    "a photo of this person", "make it black and white", "mirror the picture", "zoom in on the face",
    "change the background to red",
)  # fmt: skip
WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "JPEG 75": lambda x: jpeg(x, 75),
    "half size": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
}


@contextmanager
def training_scripts() -> Iterator[None]:
    """training/ on the path: its readers of packs and of autoencoders are no part of the package."""
    sys.path.insert(0, str(TRAINING))
    try:
        yield
    finally:
        sys.path.remove(str(TRAINING))


def read_photos(photos: Path, masks: Path | None, count: int) -> tuple[Tensor, Tensor | None]:
    """(B,3,H,W) in [0,1] and masks (B,1,H,W), 1 = repaint, evenly chosen from folders or a pack. Raises UserError."""
    if photos.suffix == ".tar":
        with training_scripts():
            from photos import read_tar, to_uint8
        pictures, notes = read_tar(photos)
        notes = notes[:: max(1, len(notes) // count)][:count]
        holes = to_uint8([pictures[note["mask"]] for note in notes], "L")
        return to_uint8([pictures[note["file_name"]] for note in notes], "RGB") / 255, (holes > 127).float()
    files = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    files = files[:: max(1, len(files) // count)][:count]
    if not files:
        raise UserError(f"no photos in '{photos}'; allowed: .jpg, .png, .webp")
    images = [open_photo(path).pixels for path in files]
    if len({image.shape for image in images}) > 1:
        raise UserError(f"the photos in '{photos}' differ in size; allowed: one size for all")
    if masks is None:
        return torch.stack(images), None
    found = [sorted(masks.glob(f"{path.stem}.*")) for path in files]
    for path, hits in zip(files, found, strict=True):
        if not hits:
            raise UserError(f"no mask for '{path.name}' in '{masks}'")
    holes = [open_mask(hits[0], tuple(images[0].shape[-2:])) for hits in found]
    return torch.stack(images), torch.cat(holes)


def visibility(photos: Tensor, protected: Tensor) -> list[float]:
    """CIEDE2000 over all pixels, mean and 95th percentile, and PSNR."""
    first, second = (rgb2lab(x.permute(0, 2, 3, 1).numpy()) for x in (photos, protected))
    difference = deltaE_ciede2000(first, second)
    shift = psnr(protected, photos).mean().item()
    return [float(difference.mean()), float(np.percentile(difference, 95)), shift]


def structures(trips: dict[str, Callable[[Tensor], Tensor]], photos: Tensor, seen: Tensor, way: str) -> list[float]:
    """For each space the contrast-structure of the round trip to the photo, both having gone the same way."""
    device = photos.device
    before, after = (WAYS[way](x.cpu()).to(device) for x in (photos, seen))
    pairs = list(zip(before.split(4), after.split(4), strict=True))
    with torch.no_grad():
        return [
            torch.cat([contrast_structure(trip(s).clamp(0, 1), p) for p, s in pairs]).mean().item()
            for trip in trips.values()
        ]


def inpaint_edits(editor: Editor, seen: Tensor, mask: Tensor) -> Tensor:
    """All but the people repainted: "plain <colour> background", the colours in turn."""
    prompts = [f"plain {COLOURS[i % len(COLOURS)]} background" for i in range(len(seen))]
    return editor.edit(seen, prompts, mask=mask, seed=0)


def share(edits: Tensor, photos: Tensor) -> float:
    """In what share of the edits dlib recognises the person, of the photos in which it finds one; nan for none."""
    return recognised(edits, photos).nanmean().item()


def protector(args: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """Photos -> protected photos, as the library does it; --method: for the size that they have."""
    if args.method is None:
        return partial(editproof.protect, budget=Linf(8 / 255), device=args.device)
    knobs = parse_settings(args.set) | ({} if args.steps is None else {"steps": args.steps})
    editor = load_editor(args.on, args.device) if METHODS[args.method].needs_editor(knobs) else None
    return lambda images: METHODS[args.method](editor, images.to(args.device), budget=Linf(8 / 255), **knobs).cpu()


def seconds_for(protect: Callable[[Tensor], Tensor], photo: Tensor) -> float:
    """The least of three times for one photo at 512x512, after one that does not count."""
    large = F.interpolate(photo, size=(512, 512), mode="bicubic").clamp(0, 1)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        protect(large)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure(args: argparse.Namespace, photos: Tensor, mask: Tensor | None, pictures: list[Tensor]) -> Iterator[Row]:
    """The rows of the table, one after another: what, of untouched photos, of protected ones. Pictures are added."""
    protect = protector(args)
    protected = protect(photos)
    pictures += [photos, protected]
    yield "visibility: mean CIEDE2000, 95th percentile, PSNR in dB", [0, 0, None], visibility(photos, protected)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield "seconds for 512x512, 2 threads", [None], [seconds_for(protect, photos[:1])]
    torch.set_num_threads(threads)
    both = {"untouched": photos, "protected": protected}
    if "tiny-inpaint" in args.editors and mask is not None:
        editor = load_editor("tiny-inpaint", args.device)
        edits = {label: inpaint_edits(editor, x, mask) for label, x in both.items()}
        pictures += edits.values()
        kept = [[contrast_structure(x, photos, 1 - mask).mean().item()] for x in edits.values()]
        yield "tiny-inpaint: kept person's structure", *kept
        yield "tiny-inpaint: recognised by dlib", *([share(x, photos)] for x in edits.values())
    if "tiny-kontext" in args.editors:
        editor = load_editor("tiny-kontext", args.device)
        for prompt in INSTRUCTIONS:
            edits = {label: editor.edit(x, prompt, seed=0) for label, x in both.items()}
            pictures += edits.values()
            yield f'tiny-kontext, "{prompt}": recognised by dlib', *([share(x, photos)] for x in edits.values())
    device = torch.device(args.device)
    trips: dict[str, Callable[[Tensor], Tensor]] = {}
    for label, _, source in (name.rpartition("=") for name in args.spaces):
        trips[label or source] = partial(round_trip, load_spaces(source, device)[0])
    if args.weights is not None:
        with training_scripts():
            from spaces import load_space
        trips |= {name: load_space(name, args.weights, device) for name in DISTILLED}
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0)).sign()
    signs = (photos + 8 / 255 * noise).clamp(0, 1)
    for way in WAYS if trips else ():
        scores = [structures(trips, photos.to(device), x.to(device), way) for x in (photos, protected)]
        yield f"structure of the round trip, {way}: {', '.join(trips)}", *scores
    if trips:
        chance = structures(trips, photos.to(device), signs.to(device), "plain")
        yield "the same, plain, of random signs at 8/255", [None], chance


def shown(values: list[float | None]) -> str:
    """Figures for a cell of the table."""
    return ", ".join("-" if value is None else f"{value:.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--masks", type=Path, help="folder; a pack has its own")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--method", choices=METHODS, help="instead of the default")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="the method's own settings")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--on", default="tiny-kontext", help="the editor that --method attacks, if it needs one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="folder of distilled autoencoders")
    parser.add_argument("--spaces", nargs="*", default=[], metavar="NAME=SOURCE")
    parser.add_argument("--editors", nargs="*", default=["tiny-inpaint", "tiny-kontext"],
                        choices=("tiny-inpaint", "tiny-kontext"))  # fmt: skip
    parser.add_argument("--pictures", action="store_true", help="write pictures.png: photos, protected, edits")
    args = parser.parse_args()
    photos, mask = read_photos(args.photos, args.masks, args.count)
    args.out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    lines = [f"| {len(photos)} photos, 8/255, {args.method or 'default'}, no mask told | untouched | protected |",
             "| --- | --- | --- |"]  # fmt: skip
    print("\n".join(lines), flush=True)
    pictures: list[Tensor] = []
    for what, untouched, protected in measure(args, photos, mask, pictures):
        found.append({"what": what, "untouched": untouched, "protected": protected})
        lines.append(f"| {what} | {shown(untouched)} | {shown(protected)} |")
        print(lines[-1], flush=True)
        (args.out / "aims.json").write_text(json.dumps(found, indent=1) + "\n")
        (args.out / "aims.md").write_text("\n".join(lines) + "\n")
    if args.pictures:
        strips = [torch.cat(list(row[:8].clamp(0, 1)), 2) for row in pictures]
        grid = (torch.cat(strips, 1).permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(grid).save(args.out / "pictures.png")


if __name__ == "__main__":
    main()
