"""What an upload left of a protection: the photo, its protected version, and what came back from a website."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from editproof.bench.data import centred_mask
from editproof.editors import EDITORS, load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.metrics import Trial, broken, edit_change, kept, obeyed, psnr
from editproof.metrics.success import succeeded
from editproof.metrics.trying import try_edits
from editproof.people import faces
from editproof.photo.decoding import opened
from editproof.photo.jpeg_quality import jpeg_quality
from editproof.photo.masks import AUTO, check_mask, edit_mask, found_mask
from editproof.photo.reading import Photo, open_photo
from editproof.resolution import working_copy, working_mask, working_size
from editproof.surroundings import undisturbed

SIDE = 256  # at which the rest of the perturbation is measured: that of the embedded editors
STEPS = 8  # of an edit
ASPECT = 0.02  # by so much the download's proportions may differ
MOST, SOME = 0.6, 0.25  # shares of the perturbation: above, most is left; above, a part; below, hardly anything
PROMPTS = {  # results are known, so that it can be measured whether an editor obeyed
    "inpaint": ("a portrait photo, plain red background", "a portrait photo, plain green background"),
    "other": ("make it black and white", "change the background to blue"),
}


@dataclass(frozen=True)
class Outcome:
    """Edits of one version of the photo: of how many the attack succeeded, and why not. None: cannot be known.

    Edits of which that cannot be known, the same of all versions, are not counted where it can be known of others.
    """

    edits: int
    succeeded: int | None
    kept: int | None
    obeyed: int | None
    broken: int


@dataclass(frozen=True)
class OnEditor:
    """What one editor makes of the photo, the protected photo and the download."""

    editor: str
    prompts: list[str]
    original: Outcome
    protected: Outcome
    downloaded: Outcome
    effect: float  # what the protection changes in an edit, relative to what another seed changes, before the upload
    effect_left: float  # the same of the download, against the original after the same upload
    share_left: float  # effect_left / effect; nan where there was none


@dataclass(frozen=True)
class Checked:
    """What is left of a protection after an upload; `sentences` says it in plain words."""

    original_size: tuple[int, int]  # height, width
    downloaded_size: tuple[int, int]
    format: str
    jpeg_quality: int | None  # about; None if the download is no JPEG
    psnr: float  # of the download against the protected photo at the download's size, dB
    psnr_original: float  # of the protected photo against the original, dB
    perturbation_left: float  # the share of what protection added that is still there, as an editor sees it
    who: str  # whom the edits keep
    notes: tuple[str, ...]
    editors: tuple[OnEditor, ...]

    def sentences(self) -> list[str]:
        """What a user asks, answered; the first line is the answer."""
        return _sentences(self)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON can say it: infinite and unknown numbers are null."""
        return {"sentences": self.sentences(), **_plain(asdict(self))}


@undisturbed
def check_download(
    original: str | Path,
    protected: str | Path,
    downloaded: str | Path,
    *,
    editors: Sequence[str] | None = None,
    mask: str | Path = AUTO,
    steps: int = STEPS,
    seed: int = 0,
    device: str | None = None,
    contents: Sequence[bytes] | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Checked:
    """What an upload left of a protection: its pixels, and what editors make of it.

    original, protected: a photo and its protected version, of the same size. downloaded: what a website made of that,
    whole (not cropped or turned), of any size and format. editors: names, hub ids or folders; the embedded ones if
    None; none at all for the pixels only. mask: whom the edits keep, a file or "auto" (people; a centred ellipse where
    nobody is found). contents: of the three files, which are then only called so, and not read. Raises UserError.
    """
    check_mask(None if mask == AUTO else mask)
    names = [n for n, info in EDITORS.items() if info.embedded] if editors is None else list(editors)
    data = contents or (None, None, None)
    photos = [open_photo(*one) for one in zip((original, protected, downloaded), data, strict=True)]
    _check_sizes(photos)
    seen, notes = [photo.pixels for photo in photos], []
    if photos[2].icc != photos[0].icc:
        seen = [_in_srgb(photo) for photo in photos]
        notes.append("the colour profile was changed, so all three were brought to sRGB before they were compared")
    format, quality, tables = _file(Path(downloaded), data[2])
    size, small = photos[0].size, photos[2].size
    levels = [(x * 255).round().byte() for x in seen]
    same = working_copy(levels[1][None], small)
    faint = psnr(seen[1][None], seen[0][None]).item()
    if math.isinf(faint):
        raise UserError(f"'{protected}' has the pixels of '{original}'; allowed: a photo and its protected version")
    uploaded = _after_upload(levels[0], small, tables)
    left = _share_left(levels[0], levels[1], levels[2], uploaded)
    region, who = _mask(mask, photos[0])
    tried = [
        _on_editor(name, levels, uploaded, region, steps, seed, device, number / len(names), 1 / len(names), progress)
        for number, name in enumerate(names)
    ]
    return Checked(
        size, small, format, quality, psnr(seen[2][None], same).item(), faint, left, who, tuple(notes), tuple(tried)
    )


def _check_sizes(photos: Sequence[Photo]) -> None:
    (height, width), other, (rows, columns) = (photo.size for photo in photos)
    if other != (height, width):
        raise UserError(
            f"photos '{photos[0].path}' and '{photos[1].path}' have different sizes; allowed: a photo and its "
            "protected version"
        )
    if abs(columns * height / (rows * width) - 1) > ASPECT:
        raise UserError(
            f"download '{photos[2].path}' has {columns} x {rows} pixels, other proportions than the photo's {width} x "
            f"{height}: it was cropped or turned; allowed: the whole photo"
        )


def _file(path: Path, data: bytes | None = None) -> tuple[str, int | None, Any]:
    """A picture file's format, the quality of a JPEG (about) and its quantisation tables and chroma sampling."""
    with opened(path, "photo", data) as image:
        if image.format not in ("JPEG", "MPO"):
            return str(image.format), None, None
        from PIL import JpegImagePlugin

        tables = image.quantization  # type: ignore[attr-defined]  # of JPEGs
        return "JPEG", jpeg_quality(tables[0]), (tables, JpegImagePlugin.get_sampling(image))


def _after_upload(levels: Tensor, size: tuple[int, int], tables: Any) -> Tensor:
    """The original (3,H,W) uint8 as the upload would have left it: the download's size and, if a JPEG, its tables.

    What an upload does to an edit by itself is no effect of the protection; this takes it out.
    """
    small = (working_copy(levels[None], size)[0] * 255).round().byte()
    if tables is None:
        return small
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(small.permute(1, 2, 0).numpy()))
    sampling = max(0, tables[1])  # -1: grey or unusual; then 4:4:4
    picture.save(file, format="JPEG", qtables=tables[0], subsampling=sampling)
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)


def _share_left(original: Tensor, protected: Tensor, downloaded: Tensor, uploaded: Tensor) -> float:
    """How much of what was added to the photo is still there, as an editor sees it: 1 all, 0 nothing.

    The length, in the direction of what was added, of what tells the download from the original after the same upload.
    """
    size = working_size(original.shape[-2], original.shape[-1], SIDE)
    had, added, saw, plain = (working_copy(x[None], size).double() for x in (original, protected, downloaded, uploaded))
    length = (added - had).square().sum()
    return ((saw - plain) * (added - had)).sum().item() / length.item() if length > 0 else 0.0


def _in_srgb(photo: Photo) -> Tensor:
    """Pixels (3,H,W) in [0,1] of a photo in sRGB, whatever its colour profile."""
    if photo.icc is None:
        return photo.pixels
    picture = Image.fromarray(np.ascontiguousarray(photo.levels.numpy()))
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc))
        converted = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return photo.pixels
    return torch.from_numpy(np.array(converted)).permute(2, 0, 1).float() / 255


def _mask(mask: str | Path, photo: Photo) -> tuple[Tensor | None, str]:
    """The mask (1,1,H,W) of the edits, and whom it keeps; None: a centred ellipse."""
    if mask != AUTO:
        return edit_mask(mask, photo, working_size(*photo.size, SIDE)), "what the mask keeps"
    found, said = found_mask(photo, working_size(*photo.size, SIDE))
    return found, said if found is not None else "nobody found: the edits keep a centred ellipse"


def _on_editor(
    name: str,
    levels: Sequence[Tensor],
    uploaded: Tensor,
    region: Tensor | None,
    steps: int,
    seed: int,
    device: str | None,
    before: float,
    part: float,
    progress: Callable[[str, float], None],
) -> OnEditor:
    """Edits of the photo, the protected photo, and of both after the upload, by one editor."""
    progress(f"load {name}", before)
    editor = load_editor(name, device=device)
    size = working_size(levels[0].shape[-2], levels[0].shape[-1], editor.size)
    original, protected, downloaded, plain = (working_copy(x[None], size) for x in (*levels, uploaded))
    mask = centred_mask(size)[None] if region is None else working_mask(region, size)
    prompts = PROMPTS["inpaint" if editor.masked else "other"]
    done, edits = 0, 6 * len(prompts)

    def tell(what: str, step: int, of: int) -> None:
        progress(f"{name} edits {what}", before + part * (done + step / of) / edits)

    sides: dict[str, list[Trial]] = {"original": [], "protected": [], "downloaded": []}
    for prompt in prompts:
        pairs = ((original, {"original": original, "protected": protected}), (plain, {"downloaded": downloaded}))
        for reference, versions in pairs:
            tried = try_edits(
                editor, reference, versions, prompt, mask=mask, person=1 - mask, steps=steps, seed=seed, callback=tell,
            )  # fmt: skip
            for version, trial in tried.items():
                sides[version].append(trial)
            done += 2 + len(versions)
    effect, left = _effect(editor, sides["protected"]), _effect(editor, sides["downloaded"])
    return OnEditor(
        name, list(prompts), _outcome(sides["original"]), _outcome(sides["protected"]), _outcome(sides["downloaded"]),
        effect, left, left / effect if effect > 0 else math.nan,
    )  # fmt: skip


def _effect(editor: Editor, trials: Sequence[Trial]) -> float:
    """How much the protection changes edits, relative to what another seed changes: a ratio of means."""
    changes = sum(edit_change(t.attacked, t.edit, t.mask).item() for t in trials)
    chances = sum(edit_change(t.other, t.edit, t.mask).item() for t in trials)
    return changes / chances if chances > 0 else math.nan


def _outcome(trials: Sequence[Trial]) -> Outcome:
    """How the edits of one version ended, counted."""
    looks = [broken(trial) for trial in trials]
    told = [obeyed(trial) for trial in trials]
    who = [kept(trial) if faces.installed() else torch.tensor([math.nan]) for trial in trials]
    whole = [succeeded(*answers) for answers in zip(who, told, looks, strict=True)]
    known = [i for i, answer in enumerate(whole) if not bool(answer.isnan())] or range(len(trials))

    def count(answers: Sequence[Tensor]) -> int | None:
        values = torch.cat([answers[i].cpu() for i in known])
        return None if bool(values.isnan().any()) else int(values.sum())

    return Outcome(len(known), count(whole), count(who), count(told), count(looks) or 0)


def _sentences(checked: Checked) -> list[str]:
    share = checked.perturbation_left
    amount = "Most" if share >= MOST else "A part" if share >= SOME else "Hardly anything"
    (height, width), (rows, columns) = checked.original_size, checked.downloaded_size
    scaled = "the protected photo's size" if (rows, columns) == (height, width) else f"it was {width} x {height}"
    quality = "" if checked.jpeg_quality is None else f" of quality {checked.jpeg_quality} or so"
    exact = math.isinf(checked.psnr)
    lines = [
        f"{amount} of what the protection added is left after the upload: {max(0.0, share):.0%}. "
        "Edits can work all the same.",
        f"The download has {columns} x {rows} pixels ({scaled}) and is a {checked.format}{quality}.",
        "Its pixels are those of the protected photo." if exact else
        f"It differs from the protected photo by {checked.psnr:.1f} dB (PSNR); that from the original by "
        f"{checked.psnr_original:.1f} dB.",
        *(f"Note: {note}." for note in checked.notes),
    ]  # fmt: skip
    for on in checked.editors:
        if on.original.succeeded is None:
            why = "no face found in the original" if faces.installed() else "pip install 'editproof[faces]'"
            counts = (
                f"whether edits succeed cannot be said, as nobody can be recognised ({why}). They look broken: "
                + (
                    f"of the original {on.original.broken} of {on.original.edits}, of the protected photo "
                    f"{on.protected.broken}, of the download {on.downloaded.broken}."
                )
            )
        else:
            counts = (
                f"of {on.original.edits} edits each, {on.original.succeeded} of the original succeeded, "
                f"{on.protected.succeeded} of the protected photo, {on.downloaded.succeeded} of the download."
            )
        lines.append(f"{on.editor}: {counts}")
        left = "" if math.isnan(on.share_left) else f", {on.share_left:.0%} of it left"
        lines.append(
            f"{on.editor}: the protection changed the edits {on.effect:.2f} times as much as another try does, after "
            f"the upload {on.effect_left:.2f} times{left}."
        )
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
