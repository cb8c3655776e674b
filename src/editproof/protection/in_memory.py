"""From the content of a photo file to that of its protected file: nothing is read from a disk, nothing is written.

The steps are those of `editproof protect` (task.py), so the bytes are, too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editproof.photo.formats import FORMATS, written_as
from editproof.photo.reading import open_photo
from editproof.protection.task import Job, Ready, Task, perturb, read, result_of
from editproof.surroundings import undisturbed


@dataclass(frozen=True)
class Content:
    """A photo file: what it holds, and what it is called."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Protected:
    """A protected photo file: what it holds, and the report, which is private."""

    data: bytes
    report: dict[str, Any]


def protect_content(content: Content, task: Task) -> Protected:
    """Protect one photo; the same bytes as `editproof protect` writes for it. Raises UserError."""
    (outcome,) = protect_contents([(content, task)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@undisturbed
def protect_contents(asked: Sequence[tuple[Content, Task]]) -> list[Protected | Exception]:
    """Protect photos, each as its task says: of each the result, or what went wrong with it.

    Those of one working size whose method is to do the same go through it together, as on a GPU they should.
    """
    outcomes: dict[int, Protected | Exception] = {}
    groups: dict[Any, list[tuple[int, Ready, Task]]] = {}
    for i, (content, task) in enumerate(asked):
        try:
            ready = read(_job(content, task), task)
        except Exception as error:
            outcomes[i] = error
            continue
        settings = task.settings
        arguments = repr(sorted(settings.arguments.items()))
        same = (id(task.editor), settings.method, task.budget, arguments, settings.device)
        groups.setdefault((ready.small.shape, ready.small_mask is None, *same), []).append((i, ready, task))
    for group in groups.values():
        outcomes.update(_finished(group))
    return [outcomes[i] for i in range(len(asked))]


def _finished(group: Sequence[tuple[int, Ready, Task]]) -> dict[int, Protected | Exception]:
    """The outcomes of photos that go through the method together; where that fails, one by one."""
    started = time.perf_counter()
    try:
        deltas = perturb([ready for _, ready, _ in group], group[0][2], lambda step, steps, loss: None)
    except Exception as error:
        if len(group) == 1:
            return {group[0][0]: error}
        return {i: outcome for member in group for i, outcome in _finished([member]).items()}
    seconds = (time.perf_counter() - started) / len(group)
    outcomes: dict[int, Protected | Exception] = {}
    for (i, ready, task), delta in zip(group, deltas, strict=True):
        try:
            data, report = result_of(ready, delta, task, seconds)
            outcomes[i] = Protected(bytes(data), report)
        except Exception as error:
            outcomes[i] = error
    return outcomes


def _job(content: Content, task: Task) -> Job:
    photo, stem = open_photo(content.name, content.data), Path(content.name).stem
    output = Path(f"{stem}-protected{FORMATS[written_as(task.settings.format, photo)].suffix}")
    return Job(photo.path, photo.size, output, output.with_suffix(".json"), opened=photo, in_memory=True)
