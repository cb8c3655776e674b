"""What the page's Edit button does: the library's edit on the original and on the protected photo, and a measure."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from editproof.app import pictures, words
from editproof.app.regions import repainted_part
from editproof.app.visits import Visit
from editproof.app.work import Progress
from editproof.counters import parse_counter
from editproof.editors import load_editor
from editproof.errors import UserError
from editproof.metrics import Trial, broken, edit_change, kept, obeyed
from editproof.metrics.success import succeeded
from editproof.people import faces
from editproof.photo.masks import check_something_to_edit
from editproof.photo.reading import open_photo
from editproof.protection.edit import edit_images
from editproof.resolution import working_copy, working_mask


def edit_both(
    progress: Progress,
    visit: Visit,
    original: Path,
    protected: Path,
    prompt: str,
    region: str,
    counter: str,
    editor: str,
    seed: int,
) -> tuple[tuple[str, str], str]:
    """Two edits, as files with a mark, and one sentence on what they show. Raises UserError.

    The counter-attack is made on both photos. A third edit, of the original with another seed, is the scale: what the
    protection changed is told relative to what chance changes.
    """
    photos = [open_photo(original), open_photo(protected)]
    if photos[0].size != photos[1].size:
        raise UserError(
            f"photos '{original}' and '{protected}' have different sizes; allowed: a photo and its protected version"
        )
    attack = parse_counter(counter)
    progress(f"Loading {editor}", 0.0)
    loaded = load_editor(editor)
    mask, said = None, ""
    size = loaded.size_for(*photos[0].size)
    if loaded.masked:
        file, said = repainted_part(visit, original, region)
        mask = pictures.read_mask(file, photos[0])
        if mask is not None:
            check_something_to_edit(mask, str(file), size)
    words.check_seed(seed)
    jobs = (("the original", 0, seed), ("the protected photo", 1, seed), ("the original, another seed", 0, seed + 1))
    edits = []
    for number, (what, which, used) in enumerate(jobs, 1):

        def tell(step: int, steps: int, what: str = what, number: int = number) -> None:
            progress(f"Editing {what}", (number + step / steps) / (len(jobs) + 1))  # loading was the first part

        tell(0, 1)
        images = attack(photos[which].pixels[None], seed=seed)
        edits.append(edit_images(loaded, images, prompt, mask=mask, seed=used, callback=tell))
    small = [working_copy(edit, size) for edit in edits]
    hole = None if mask is None else working_mask(mask, size)
    change, chance = (edit_change(other, small[0], hole).item() for other in small[1:])
    given = [working_copy(photo.pixels[None], size) for photo in photos]
    after = [working_copy(attack(photo.pixels[None], seed=seed), size) for photo in photos]
    trials = [
        Trial(given[0], given[which], small[0], small[which], small[2], [prompt], hole, given=after[which])
        for which in (0, 1)
    ]
    folder = visit.new_folder()
    names = ("edit-of-original.png", "edit-of-protected.png")
    files = [pictures.save(pictures.marked(edit), folder / name) for edit, name in zip(edits, names, strict=False)]
    return (files[0], files[1]), sentence(change, chance, editor, counter, said, trials)


def sentence(change: float, chance: float, editor: str, counter: str, said: str, trials: Sequence[Trial] = ()) -> str:
    """What two numbers show, and what they do not."""
    after = "" if counter == "none" else f" after the attacker's attempt to wash it out ({words.COUNTERS[counter]})"
    ratio = f"{change / chance:.2f} times" if chance > 0 else "more than"
    told = "".join(
        f"{verdict(name, trial)}\n\n" for name, trial in zip(("original", "protected photo"), trials, strict=False)
    )
    return (
        f"{told}Here the protection{after} changed the edit {ratio} as much as another try does (1 - SSIM {change:.3f} "
        f"against {chance:.3f}): 0 would be no effect, about 1 an edit as different as a new try gives. It shows this "
        f"photo, prompt and try on {editor}, and nothing about other editors. {said}"
    )


def verdict(name: str, trial: Trial) -> str:
    """Whether an edit got the attacker what they wanted, in Markdown."""
    person = kept(trial) if faces.installed() else torch.tensor([math.nan])
    answers = {"person recognised": person, "did as told": obeyed(trial), "looks whole": 1 - broken(trial)}
    words = {1.0: "yes", 0.0: "no"}
    whole = succeeded(person, answers["did as told"], broken(trial)).item()
    result = {1.0: "worked", 0.0: "failed"}.get(whole, "may have worked: not everything can be measured")
    parts = ", ".join(f"{what}: {words.get(answer.item(), 'cannot be said')}" for what, answer in answers.items())
    return f"**The edit of the {name} {result}** ({parts})."
