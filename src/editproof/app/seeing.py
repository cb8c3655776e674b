"""Steps two and three before protecting: the photo with what will be protected, and how a strength looks."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates
from editproof.app.protect_layout import level
from editproof.app.texts import say
from editproof.app.visits import Visit
from editproof.errors import UserError
from editproof.photo.reading import Photo
from editproof.video.reading import is_clip


def nothing_seen(ui: SimpleNamespace, visit: Visit) -> Updates:
    """Step two without a photo."""
    hidden = {one: gr.update(visible=False) for one in (ui.which, ui.found, ui.who, ui.painter, ui.looks, ui.over)}
    return {ui.status: "", ui.note: _note(visit, "first_choose"), ui.example: gr.update(visible=True), **hidden}


def show_part(ui: SimpleNamespace, visit: Visit) -> Updates:
    """The photo that is looked at with what will be protected. Raises UserError."""
    paths, number = visit.chosen.get("photos") or [], visit.chosen.get("which") or 0
    if not paths:
        return nothing_seen(ui, visit)
    from editproof.app import pictures

    choices = [(Path(path).name, at) for at, path in enumerate(paths)]
    updates = {
        **nothing_seen(ui, visit),
        ui.which: gr.update(choices=choices, value=number, visible=len(paths) > 1),
        ui.over: gr.update(visible=True),
        ui.example: gr.update(visible=False),
    }
    path, region = Path(paths[number]), visit.chosen.get("region", words.PERSON)
    photo = opened(visit, path)
    if region == words.PAINTED and not is_clip(path):
        canvas = pictures.save(pictures.shown(photo, pictures.PAINTED_SIDE), visit.new_folder() / "canvas.png")
        painted = [str(visit.painted[path])] if path in visit.painted else []
        value: dict[str, Any] = {"background": canvas, "layers": painted, "composite": None}
        return {**updates, ui.note: "", ui.painter: gr.update(value=value, visible=True)}
    if region == words.PERSON:
        return {**updates, **_people_shown(ui, visit, photo)}
    key = "whole_told" if region == words.WHOLE else "paint_clip"
    return {**updates, ui.note: _note(visit, key), ui.found: _picture(visit, pictures.shown(photo))}


def _people_shown(ui: SimpleNamespace, visit: Visit, photo: Photo) -> Updates:
    """The people in a photo, outlined, and their names to choose from."""
    from editproof.app.choosing import drawn, look_for_people

    people = look_for_people(visit, photo)
    clip, found = is_clip(photo.path), people.found
    key = f"found_{found if found < 2 else 'n'}"
    if clip:
        key = "found_clip" if found else "found_clip_0"
    elif people.kept is not None and not people.kept.any():
        key = "none_left"
    elif not found and people.added:
        key = "picture"
    names = [(say(visit.language, "person", number=n), str(n)) for n in range(1, found + 1)]
    names += [(say(visit.language, "added", number=n), str(n)) for n in people.added]
    return {
        ui.note: _note(visit, key, count=found),
        ui.found: _picture(visit, drawn(people)),
        ui.who: gr.update(
            choices=names, value=[str(n) for n in sorted(people.chosen)], visible=bool(names) and not clip
        ),
    }


def show_person_clicked(ui: SimpleNamespace, visit: Visit, at: tuple[int, int]) -> Updates:
    """A click on the picture at (x, y), in its pixels."""
    from editproof.app.choosing import point_at

    people = _people(visit)
    if people is None:
        return {ui.status: ""}
    point_at(people, *map(round, at))
    return {ui.status: "", **_people_shown(ui, visit, opened(visit, _path(visit)))}


def show_who(ui: SimpleNamespace, visit: Visit, chosen: list[str]) -> Updates:
    """Some people were ticked in the list."""
    people = _people(visit)
    if people is None:
        return {ui.status: ""}
    people.chosen = {int(number) for number in chosen}
    return {ui.status: "", **_people_shown(ui, visit, opened(visit, _path(visit)))}


def keep_painted(ui: SimpleNamespace, visit: Visit, painted: dict[str, Any] | None) -> Updates:
    """Something was painted or wiped off: it is there again when the page, the part or the photo comes back."""
    from editproof.app import pictures

    if visit.chosen.get("photos") and visit.chosen.get("region") == words.PAINTED:
        over = pictures.painted_over(painted)
        visit.painted.pop(_path(visit), None)
        if over is not None:
            visit.painted[_path(visit)] = Path(pictures.save(over, visit.new_folder() / "paint.png"))
    return {ui.status: ""}


def show_strength(ui: SimpleNamespace, visit: Visit, strength: float, how: str | None, other: str | None) -> Updates:
    """What a strength looks like on the photo, at 100 %, with a method that takes no time, otherwise the default."""
    visit.chosen |= {"strength": strength, "how": how, "other": other}
    method = words.method_of(how, other)
    updates: Updates = {ui.level: level(partial(say, visit.language), strength)}
    if not visit.chosen.get("photos"):
        return updates
    from editproof.app.choosing import look_for_people, mask_of
    from editproof.app.preview import looks, mask_tensor

    photo = opened(visit, _path(visit))
    people, mask = None, None
    if visit.chosen.get("region", words.PERSON) == words.PERSON:
        people = look_for_people(visit, photo)
        if people.kept is not None and not people.kept.any():
            return {**updates, ui.looks: gr.update(visible=False)}
        mask = mask_tensor(mask_of(visit, people), people, photo)
    return {**updates, ui.looks: gr.update(value=looks(visit, photo, mask, people, strength, method), visible=True)}


def masks_for(visit: Visit, paths: list[str]) -> dict[Path, Any]:
    """The masks of photos in which people were chosen by hand, as protect_photos takes them. Raises UserError."""
    from editproof.app.choosing import mask_of

    masks = {}
    for path in map(Path, paths):
        people = visit.people.get(path)
        if people is None or people.untouched or is_clip(path):
            continue
        if people.kept is not None and not people.kept.any():
            raise UserError(f"{path.name}: {say(visit.language, 'none_left')}")
        masks[path] = mask_of(visit, people)
    return masks


def opened(visit: Visit, path: Path) -> Photo:
    """The photo, or a clip's first frame; the latest stays in memory, for the slider. Raises UserError."""
    if visit.opened is None or visit.opened.path != path:
        from editproof.app.pictures import first_frame_of
        from editproof.photo.reading import open_photo

        visit.opened = first_frame_of(path) if is_clip(path) else open_photo(path)
    return visit.opened


def _path(visit: Visit) -> Path:
    return Path(visit.chosen["photos"][visit.chosen.get("which") or 0])


def _people(visit: Visit) -> Any:
    """The people of the photo that is looked at, if there they can be chosen."""
    if not visit.chosen.get("photos") or visit.chosen.get("region", words.PERSON) != words.PERSON:
        return None
    path = _path(visit)
    return None if is_clip(path) else visit.people.get(path)


def _note(visit: Visit, key: str, **values: Any) -> str:
    return f'<p role="status">{say(visit.language, key, **values)}</p>'


def _picture(visit: Visit, image: Any) -> Any:
    from editproof.app import pictures

    return gr.update(value=pictures.save(image, visit.new_folder() / "seen.png"), visible=True)
