"""What the page's Edit button does: the library's edit on the original and on the protected photo, and a measure."""

from pathlib import Path

from editproof.app import pictures, words
from editproof.app.regions import repainted_part
from editproof.app.visits import Visit
from editproof.app.work import Progress
from editproof.counters import parse_counter
from editproof.editors import load_editor
from editproof.errors import UserError
from editproof.metrics import edit_change
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
    folder = visit.new_folder()
    names = ("edit-of-original.png", "edit-of-protected.png")
    files = [pictures.save(pictures.marked(edit), folder / name) for edit, name in zip(edits, names, strict=False)]
    return (files[0], files[1]), sentence(change, chance, editor, counter, said)


def sentence(change: float, chance: float, editor: str, counter: str, said: str) -> str:
    """What two numbers show, and what they do not."""
    after = "" if counter == "none" else f" after the attacker's attempt to wash it out ({words.COUNTERS[counter]})"
    ratio = f"{change / chance:.2f} times" if chance > 0 else "more than"
    return (
        f"**Here the protection{after} changed the edit {ratio} as much as another seed does** (1 - SSIM {change:.3f} "
        f"against {chance:.3f}): 0 would be no effect, about 1 an edit as different as a new try gives. It shows this "
        f"photo, prompt and seed on {editor}, and nothing about other editors. {said}"
    )
