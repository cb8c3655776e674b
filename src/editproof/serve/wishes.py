"""What a request may ask for, and the worker that does it."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from editproof.errors import AlreadyProtected, UserError


@dataclass(frozen=True)
class Wish:
    """A photo file, and how it is to be protected where that differs from how the service was started."""

    data: bytes
    name: str = "photo"
    mask: str = "none"  # none, auto, or file: mask_data
    mask_data: bytes | None = None
    invert_mask: bool = False
    eps: float | None = None  # in [0, 1]
    format: str = "png"
    quality: int | None = None
    seed: int | None = None
    force: bool = False
    metadata: str = "keep"


@dataclass(frozen=True)
class Comparison:
    """A photo, its protected version and what a website made of that: file contents."""

    original: bytes
    protected: bytes
    downloaded: bytes


@dataclass(frozen=True)
class Made:
    """A protected photo file, its report and its media type."""

    data: bytes
    report: dict[str, Any]
    media_type: str


@dataclass(frozen=True)
class Failed:
    """Why a photo was not protected: one line; whether whoever settings can mend it; of our faults the traceback."""

    message: str
    theirs: bool
    code: str = "bad_photo"
    trace: str = ""


def check_wish(wish: Wish) -> None:
    """Raise UserError for a wish that no photo could be protected by."""
    from editproof.photo.formats import chosen_format
    from editproof.photo.masks import AUTO
    from editproof.photo.metadata import check_metadata

    chosen_format(wish.format, wish.quality)
    check_metadata(wish.metadata)
    if wish.mask == AUTO and wish.invert_mask:
        raise UserError("an inverted mask 'auto' would give people away; allowed: a mask file with invert_mask")
    if wish.mask == "none" and wish.invert_mask:
        raise UserError("there is no mask that invert_mask would invert; allowed: a mask file with invert_mask")
    if (wish.mask == "file") != (wish.mask_data is not None):
        raise UserError("mask 'file' and a part 'mask' of a multipart body belong together; allowed: both or neither")


def start_worker(
    settings: Any, devices: Sequence[str | None], threads: int, number: int
) -> Callable[[list[Wish | Comparison]], list[Any]]:
    """Load everything that protecting takes, in a worker; returns the function that protects."""
    import torch

    from editproof.protection.settings import load_task
    from editproof.serve.workers import settle

    torch.set_num_threads(threads)
    settings = replace(settings, device=settle(devices[number % len(devices)], number))
    task = load_task(settings)
    _warm(task)

    def work(asked: list[Wish | Comparison]) -> list[Any]:
        wishes = [wish for wish in asked if isinstance(wish, Wish)]
        made = iter(protect_wishes(wishes, task, settings))
        return [next(made) if isinstance(one, Wish) else compare(one) for one in asked]

    return work


def protect_wishes(wishes: Sequence[Wish], task: Any, settings: Any) -> list[Made | Failed]:
    """Protect photos as they are wished for, by a task that is loaded."""
    from editproof.photo.formats import FORMATS
    from editproof.protection.in_memory import Content, Protected, protect_contents

    todo: list[tuple[int, Any, Any]] = []
    outcomes: dict[int, Made | Failed] = {}
    for i, wish in enumerate(wishes):
        try:
            check_wish(wish)
            todo.append((i, Content(wish.data, wish.name), _task_for(wish, task, settings)))
        except Exception as error:
            outcomes[i] = _failed(error)
    made = protect_contents([(content, its) for _, content, its in todo])
    for (i, _, _), outcome in zip(todo, made, strict=True):
        if isinstance(outcome, Protected):
            outcomes[i] = Made(outcome.data, outcome.report, FORMATS[outcome.report["format"]].media_type)
        else:
            outcomes[i] = _failed(outcome)
    return [outcomes[i] for i in range(len(wishes))]


def compare(asked: Comparison) -> dict[str, Any] | Failed:
    """What an upload left of a protection, of the pixels only: what `editproof check --editors none --json` prints."""
    from editproof.bench.checking import check_download

    try:
        contents = (asked.original, asked.protected, asked.downloaded)
        return check_download("original", "protected", "downloaded", editors=[], contents=contents).as_json()
    except Exception as error:
        return _failed(error)


def _task_for(wish: Wish, task: Any, settings: Any) -> Any:
    """The task of one wish."""
    import hashlib

    from editproof.budgets import Linf

    mask = {"none": None, "file": "mask"}.get(wish.mask, wish.mask)
    wished = replace(
        settings,
        mask=mask,
        invert_mask=wish.invert_mask,
        budget=settings.budget if wish.eps is None else Linf(wish.eps),
        seed=settings.seed if wish.seed is None else wish.seed,
        force=wish.force,
        format=wish.format,
        quality=wish.quality,
        metadata=wish.metadata,
    )
    named = mask if wish.mask_data is None else hashlib.sha256(wish.mask_data).hexdigest()
    request = wished.as_json(
        named, format=wished.format, quality=wish.quality, content_credentials=False, metadata=wished.metadata
    )
    budget = task.budget if wish.eps is None else wished.budget
    return replace(task, settings=wished, budget=budget, mask_data=wish.mask_data, request=request)


def _failed(error: Exception) -> Failed:
    from editproof.protection.batch import one_line

    theirs = isinstance(error, UserError)
    code = "protected_already" if isinstance(error, AlreadyProtected) else "bad_photo"
    return Failed(one_line(error), theirs, code, "" if theirs else "".join(traceback.format_exception(error)))


def _warm(task: Any) -> None:
    """Protect one made-up photo, so that the first request does not pay for what is loaded on first use."""
    import io

    from PIL import Image

    from editproof.protection.in_memory import Content, protect_contents

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, format="PNG")
    protect_contents([(Content(file.getvalue(), "warm.png"), task)])
