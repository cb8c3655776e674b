"""What the page's Edit button does: the library's edit on the original and on the protected photo, and a measure."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from editproof.app import pictures, words
from editproof.app.parts import Say
from editproof.app.regions import repainted_part
from editproof.app.texts import say
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

SHOWN: dict[tuple[float, ...], str] = {  # whether the edits of the original and the protected photo worked -> a text
    (1.0, 0.0): "shown_stopped",
    (1.0, 1.0): "shown_not_stopped",
    (0.0, 0.0): "shown_nothing",
}


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
) -> tuple[tuple[str, str], str, str]:
    """Two edits, as files with a mark, what they show in words, and in figures. Raises UserError.

    The counter-attack is made on both photos. A third edit, of the original with another seed, is the scale: what the
    protection changed is told relative to what chance changes.
    """
    photos = [open_photo(original), open_photo(protected)]
    if photos[0].size != photos[1].size:
        raise UserError(
            f"photos '{original}' and '{protected}' have different sizes; allowed: a photo and its protected version"
        )
    attack = parse_counter(counter)
    told = partial(say, visit.language)
    progress(told("edit_loading", editor=editor), 0.0)
    loaded = load_editor(editor)
    mask, said = None, ""
    size = loaded.size_for(*photos[0].size)
    if loaded.masked:
        file, said = repainted_part(visit, original, region)
        mask = pictures.read_mask(file, photos[0])
        if mask is not None:
            check_something_to_edit(mask, str(file), size)
    words.check_seed(seed)
    jobs = (("editing_original", 0, seed), ("editing_protected", 1, seed), ("editing_again", 0, seed + 1))
    edits = []
    for number, (what, which, used) in enumerate(jobs, 1):

        def tell(step: int, steps: int, what: str = what, number: int = number) -> None:
            progress(told(what), (number + step / steps) / (len(jobs) + 1))  # loading was the first part

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
    return (files[0], files[1]), sentence(told, editor, counter, said, trials), figures(told, change, chance)


def sentence(say: Say, editor: str, counter: str, said: str, trials: Sequence[Trial]) -> str:
    """Whether the edits worked, and what that does not show, in Markdown."""
    told = [verdict(say, name, trial) for name, trial in zip(("original", "protected"), trials, strict=False)]
    verdicts = [text for text, _ in told]
    if key := SHOWN.get(tuple(worked for _, worked in told)):
        verdicts.append(say(key))
    lines = [] if counter == "none" else [say("edit_washed", counter=say(words.COUNTERS[counter]))]
    lines += [say("edit_only", editor=editor), said]
    return "\n\n".join([*verdicts, " ".join(line for line in lines if line)])


def figures(say: Say, change: float, chance: float) -> str:
    """How much the protection changed the edit, beside what another try changes."""
    numbers = {"change": f"{change:.3f}", "chance": f"{chance:.3f}"}
    return (
        say("edit_change", ratio=f"{change / chance:.2f}", **numbers)
        if chance > 0
        else say("edit_no_chance", **numbers)
    )


def verdict(say: Say, name: str, trial: Trial) -> tuple[str, float]:
    """Whether an edit (of the "original" or "protected") got the attacker what they wanted, in Markdown and as a number
    (1: yes, 0: no, nan: unknown)."""
    person = kept(trial) if faces.installed() else torch.tensor([math.nan])
    answers = {"asked_person": person, "asked_told": obeyed(trial), "asked_whole": 1 - broken(trial)}
    whole = succeeded(person, answers["asked_told"], broken(trial)).item()
    result = say({1.0: f"{name}_worked", 0.0: f"{name}_failed"}.get(whole, f"{name}_unsure"))
    known = {1.0: "yes", 0.0: "no"}
    parts = ", ".join(f"{say(what)}: {say(known.get(answer.item(), 'unsaid'))}" for what, answer in answers.items())
    return f"**{result}** ({parts}).", whole
